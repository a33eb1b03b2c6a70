"""A second deployment beside the first: hedged, mirrored, asked in doubt; answers by meaning."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner
from pydantic import SecretStr, ValidationError

from rotina.cli import cli
from rotina.database import Pool
from rotina.gateway import Gateway, MemoryLedger, PostgresCache, Prompts, RetryPolicy
from rotina.gateway.answer import ChatAnswer, Usage
from rotina.gateway.mirror import agreement
from rotina.gateway.race import ENOUGH, Pace
from rotina.settings import Deployment, Price, Route, Settings
from tests.scripted_model import (
    Behaviour,
    Request,
    ScriptedModel,
    choices,
    delayed,
    hang,
    status,
)

ASK: Any = [{"role": "user", "content": "Quanto é 2 mais 2?"}]
FAST = RetryPolicy(attempts=1)


@dataclass
class Stage:
    """Two model servers, a judge, and a route from the first to the second."""

    a: ScriptedModel
    b: ScriptedModel
    judge: ScriptedModel
    ledger: MemoryLedger
    pool: Pool

    def settings(self, tenant_tags: Any = None, **route: Any) -> Settings:
        deployments = {
            name: Deployment(
                model="tiny", base_url=SecretStr(model.base_url), price=Price(input=1, output=1),
                tags=frozenset({"gpu"}) if name == "a" else frozenset(),
            )
            for name, model in (("a", self.a), ("b", self.b), ("judge", self.judge))
        }  # fmt: skip
        made: dict[str, Any] = {"deployments": ["a", "b"], **route}
        routes = {
            "smart": Route(**made),
            "court": Route(deployments=["judge"]),
            "embed": Route(deployments=["judge"]),
        }
        return Settings(deployments=deployments, routes=routes, tenant_tags=tenant_tags or {})

    def gateway(self, **options: Any) -> Gateway:
        cache = PostgresCache(self.pool)
        return Gateway(self.settings(**options), self.ledger, retry=FAST, cache=cache)

    def rows(self) -> list[tuple[str, str]]:
        return [(call.deployment, call.outcome) for call in self.ledger.calls]


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    async with (
        ScriptedModel("I am a.") as a,
        ScriptedModel("I am b.") as b,
        ScriptedModel({"why": "It is right.", "good": True}) as judge,
    ):
        yield Stage(a, b, judge, MemoryLedger(), pool)


async def test_who_is_slow_is_overtaken(stage: Stage) -> None:
    stage.a.script = hang()
    async with stage.gateway(hedge=0.05) as gateway:
        answer = await gateway.chat(ASK)
        assert answer.text == "I am b."
        assert gateway.deployments()[0].under_way == 0
    assert sorted(stage.rows()) == [("a", "CancelledError"), ("b", "ok")]


async def test_who_is_quick_is_asked_alone(stage: Stage) -> None:
    async with stage.gateway(hedge=5.0) as gateway:
        assert (await gateway.chat(ASK)).text == "I am a."
    assert stage.b.requests == []


async def test_a_hedged_call_that_fails_waits_for_the_other(stage: Stage) -> None:
    stage.a.script = delayed(0.2, status(500))
    stage.b.script = delayed(0.3, "I am b.")
    async with stage.gateway(hedge=0.05) as gateway:
        assert (await gateway.chat(ASK)).text == "I am b."
        stage.b.script = delayed(0.1, status(500))
        with pytest.raises(Exception, match="500"):
            await gateway.chat(ASK)


async def test_who_gives_up_gives_up_both(stage: Stage) -> None:
    stage.a.script = stage.b.script = hang()
    async with stage.gateway(hedge=0.05) as gateway:
        task = asyncio.create_task(gateway.chat(ASK))
        async with asyncio.timeout(10):
            while not stage.b.requests:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert sorted(stage.rows()) == [("a", "CancelledError"), ("b", "CancelledError")]


async def test_the_usual_time_is_learned(stage: Stage) -> None:
    pace = Pace()
    for seconds in range(ENOUGH - 1):
        pace.add(float(seconds))
    found = [pace.p95]
    pace.add(100.0)
    assert [*found, pace.p95] == [None, 100.0]
    async with stage.gateway(hedge="p95") as gateway:
        for _ in range(ENOUGH):
            await gateway.chat(ASK)
        stage.a.script = hang()
        assert (await gateway.chat(ASK)).text == "I am b."


@pytest.mark.parametrize(("told", "answered"), [(-0.01, "a"), (-2.0, "b"), (None, "b")])
async def test_an_answer_without_confidence_is_asked_elsewhere(
    stage: Stage, told: float | None, answered: str
) -> None:
    logprobs = None if told is None else {"content": [{"token": "x", "logprob": told}] * 3}
    message = {"role": "assistant", "content": "a"}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs}
    stage.a.script = choices(choice)
    stage.b.script = "b"
    async with stage.gateway(min_confidence=0.8) as gateway:
        answer = await gateway.chat(ASK)
    assert answer.text == answered
    assert stage.a.requests[0].body["logprobs"] is True
    if told == -0.01:
        assert answer.confidence == pytest.approx(0.99, abs=0.001)
    rows = [("a", "ok"), ("b", "ok")]
    assert stage.rows() == (rows if answered == "b" else rows[:1])


async def test_a_judge_sends_a_bad_answer_on(stage: Stage) -> None:
    stage.judge.script = {"why": "It says nothing of 4.", "good": False}
    async with stage.gateway(judge="court") as gateway:
        assert (await gateway.chat(ASK)).text == "I am b."
    assert "I am a." in stage.judge.requests[0].prompt
    assert stage.rows() == [("a", "ok"), ("judge", "ok"), ("b", "ok")]


@pytest.mark.parametrize("verdict", [{"why": "Right.", "good": True}, status(500)])
async def test_a_judge_that_finds_nothing_lets_it_pass(stage: Stage, verdict: Any) -> None:
    stage.judge.script = verdict
    async with stage.gateway(judge="court") as gateway:
        assert (await gateway.chat(ASK)).text == "I am a."
    assert stage.b.requests == []


async def test_a_doubted_answer_is_better_than_none(stage: Stage) -> None:
    stage.judge.script = {"why": "Bad.", "good": False}
    stage.b.script = status(500)
    async with stage.gateway(judge="court") as gateway:
        assert (await gateway.chat(ASK)).text == "I am a."


async def mirrored(stage: Stage) -> Any:
    async with asyncio.timeout(10):
        while not (found := [call for call in stage.ledger.calls if call.mirror_of]):
            await asyncio.sleep(0.01)
    return found[0]


async def test_a_mirror_is_asked_the_same_and_compared(stage: Stage) -> None:
    stage.a.script, stage.b.script = {"n": 4, "m": [1, 2]}, {"n": 4, "m": [1, 3]}
    async with stage.gateway(deployments=["a"], mirror="b") as gateway:
        answer = await gateway.chat(ASK, schema={"type": "object"})
        row = await mirrored(stage)
    assert answer.data == {"n": 4, "m": [1, 2]}
    assert row.mirror_of == answer.call_id == stage.ledger.calls[0].id
    assert (row.deployment, row.outcome) == ("b", "ok")
    assert row.agreement == pytest.approx(2 / 3)
    assert stage.a.requests[0].body["messages"] == stage.b.requests[0].body["messages"]


async def test_a_mirrored_call_is_of_the_same_prompt(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "sum").mkdir()
    (tmp_path / "sum" / "v1.md").write_text("Quanto é 2 mais 2?", encoding="utf-8")
    rendered = Prompts(tmp_path).render("sum")
    async with stage.gateway(deployments=["a"], mirror="b") as gateway:
        await gateway.chat(rendered)
        row = await mirrored(stage)
    assert row.prompt == stage.ledger.calls[0].prompt == str(rendered.prompt)


async def test_a_mirror_that_fails_or_hangs_holds_nobody_up(stage: Stage) -> None:
    stage.b.script = status(500)
    async with stage.gateway(deployments=["a"], mirror="b") as gateway:
        assert (await gateway.chat(ASK)).text == "I am a."
        assert (await mirrored(stage)).outcome == "ModelServerError"
    stage.b.script = hang()
    async with stage.gateway(deployments=["a"], mirror="b") as gateway:
        assert (await gateway.chat(ASK)).text == "I am a."


async def test_what_must_stay_on_the_gpu_is_not_mirrored_elsewhere(stage: Stage) -> None:
    tags = {"acme": frozenset({"gpu"})}
    async with stage.gateway(deployments=["a"], mirror="b", tenant_tags=tags) as gateway:
        await gateway.bound(run_id=None, tenant="acme").chat(ASK)
        await gateway.chat(ASK)
        await mirrored(stage)
    assert len(stage.b.requests) == 1


async def test_a_share_is_mirrored(stage: Stage) -> None:
    route = {"deployments": ["a"], "mirror": "b", "mirror_share": 0.3}
    async with stage.gateway(**route) as gateway:
        for _ in range(100):
            await gateway.chat(ASK)
        await mirrored(stage)
    assert 5 < len(stage.b.requests) < 70


def test_how_alike_answers_are() -> None:
    def answer(text: str, data: Any = None) -> ChatAnswer:
        facts: dict[str, Any] = {
            "finish_reason": "stop", "usage": Usage(), "model": "m", "route": "r",
            "deployment": "d", "latency_ms": 1, "attempts": 1, "cost_usd": None,
        }  # fmt: skip
        return ChatAnswer(text=text, data=data, **facts)

    assert agreement(answer("it is four"), "it is four", None) == 1
    assert agreement(answer("it is four"), "não sei", None) == 0
    assert 0 < agreement(answer("it is four"), "it is five", None) < 1
    assert agreement(answer("", {}), "", {}) == 1
    assert agreement(answer("", {"a": 1}), "", {"b": 1}) == 0


async def test_the_mirrors_command_compares(
    stage: Stage, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rotina.toml").write_text("")
    monkeypatch.setenv("DATABASE_URL", database_url)
    command = CliRunner()
    empty = await asyncio.to_thread(command.invoke, cli, ["mirrors"])
    assert "give a route `mirror`" in empty.output
    settings = stage.settings(deployments=["a"], mirror="b")
    async with Gateway.with_database(settings, stage.pool) as gateway:
        await gateway.chat(ASK)
        async with asyncio.timeout(10):
            while not stage.b.requests:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
    found = await asyncio.to_thread(command.invoke, cli, ["mirrors"])
    assert "smart  a -> b  1 calls, 1 answered, agreement 0.67" in found.output
    found = await asyncio.to_thread(command.invoke, cli, ["mirrors", "--json"])
    assert json.loads(found.output)["mirror"] == "b"


def by_meaning(**vectors: list[float]) -> Behaviour:
    async def embed(http: Any, request: Request) -> Any:
        [text] = request.body["input"]
        found = next((v for word, v in vectors.items() if word in text), [0.0, 0.0, 1.0])
        data = [{"object": "embedding", "index": 0, "embedding": found}]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return web.json_response({"object": "list", "data": data, "model": "e", "usage": usage})

    return Behaviour(embed)


@pytest.fixture
def alike(stage: Stage) -> Stage:
    """Questions with the same word mean the same."""
    near = {"horas": [1.0, 0.0, 0.0], "horário": [0.999, 0.04, 0.0], "preço": [0.0, 1.0, 0.0]}
    stage.judge.script = by_meaning(**near)
    said = iter(range(100))
    stage.a.script = lambda _: f"answer {next(said)}"
    return stage


async def say(gateway: Gateway, text: str, tenant: str = "acme", **options: Any) -> ChatAnswer:
    messages: Any = [{"role": "system", "content": "Help."}, {"role": "user", "content": text}]
    return await gateway.bound(run_id=None, tenant=tenant).chat(messages, **options)


async def test_a_question_that_means_the_same_gets_the_answer_again(alike: Stage) -> None:
    async with alike.gateway(similar={"seconds": 60}) as gateway:
        first = await say(gateway, "A que horas abrem?")
        again = await say(gateway, "Qual é o horário?")
        assert (again.text, again.cached) == (first.text, True)
        assert again.cost_usd == 0
        other = await say(gateway, "Qual é o preço?")
        assert other.text != first.text
    assert [call.outcome for call in alike.ledger.calls if call.kind == "chat"] == [
        "ok", "cached", "ok",
    ]  # fmt: skip


async def test_what_differs_in_more_than_words_is_asked_anew(alike: Stage) -> None:
    async with alike.gateway(similar={"seconds": 60}) as gateway:
        first = await say(gateway, "Até que horas abrem dia 12?")
        for text, tenant, options in (
            ("Até que horas abrem dia 13?", "acme", {}),
            ("Até que horas abrem dia 12?", "globex", {}),
            ("Até que horas abrem dia 12?", "acme", {"max_tokens": 9}),
            ("Até que horas abrem dia 12?", "acme", {"temperature": 0.5}),
        ):
            assert (await say(gateway, text, tenant, **options)).text != first.text
        assert (await say(gateway, "Dia 12, qual é o horário?")).cached


async def test_without_vectors_the_question_is_asked(alike: Stage) -> None:
    alike.judge.script = status(500)
    async with alike.gateway(similar={"seconds": 60}) as gateway:
        assert not (await say(gateway, "A que horas abrem?")).cached
        assert not (await say(gateway, "A que horas abrem?")).cached


async def test_an_answer_by_meaning_expires_and_goes(alike: Stage) -> None:
    async with alike.gateway(similar={"seconds": 60}) as gateway:
        await say(gateway, "A que horas abrem?")
        async with alike.pool.connection() as connection:
            await connection.execute(
                "update rotina.similar_answer set expires_at = now() - interval '1 s'"
            )
        assert not (await say(gateway, "A que horas abrem?")).cached
        async with alike.pool.connection() as connection:
            await connection.execute(
                "update rotina.similar_answer set expires_at = now() - interval '1 s'"
            )
        assert await PostgresCache(alike.pool).purge() == 1


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ({"judge": "nobody"}, "names 'nobody', which is no route"),
        ({"judge": "smart"}, "judges itself"),
        ({"mirror": "nobody"}, "'nobody', which is not declared"),
        ({"similar": {"seconds": 1, "route": "nobody"}}, "similar.route names 'nobody'"),
        ({"hedge": -1}, "greater than 0"),
        ({"min_confidence": 2}, "less than or equal to 1"),
        ({"mirror_share": 0}, "greater than 0"),
    ],
)
async def test_what_leads_nowhere_is_refused(stage: Stage, route: Any, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        stage.settings(**route)
