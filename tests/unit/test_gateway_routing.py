"""Routes over several deployments: who is asked, in what order, and what happens when one fails."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from rotina.errors import (
    ContextTooLongError,
    ModelAuthError,
    ModelError,
    ModelRequestError,
    ModelServerError,
    ModelTimeoutError,
    ModelTruncatedError,
    SettingsError,
)
from rotina.gateway import Gateway, MemoryLedger, RetryPolicy, health
from rotina.settings import Deployment, Price, Route, Settings
from tests.scripted_model import (
    Behaviour,
    ScriptedModel,
    chat,
    delayed,
    drop,
    embeddings,
    event,
    events,
    hang,
    status,
    unused_port,
)

FAST = RetryPolicy(attempts=2, base=0.001, cap=0.002)
ASK: Any = [{"role": "user", "content": "How much is it?"}]
TOO_LONG = {"error": {"code": "context_length_exceeded", "message": "m"}}


@dataclass
class Stage:
    """Three model servers and a gateway whose route `smart` leads to them."""

    models: dict[str, ScriptedModel]
    ledger: MemoryLedger = field(default_factory=MemoryLedger)

    def settings(
        self, route: dict[str, Any] | None = None, tenant_tags: Any = None, **changes: Any
    ) -> Settings:
        """`changes` are fields of deployments, by their names."""
        deployments = {
            name: Deployment(
                **{"model": "tiny", "base_url": SecretStr(model.base_url), **changes.get(name, {})}
            )
            for name, model in self.models.items()
        }
        smart = Route(deployments=list(self.models), **(route or {}))
        routes = {"smart": smart, "embed": smart}
        return Settings(deployments=deployments, routes=routes, tenant_tags=tenant_tags or {})

    @contextlib.asynccontextmanager
    async def gateway(self, *arguments: Any, **changes: Any) -> AsyncIterator[Gateway]:
        settings = self.settings(*arguments, **changes)
        async with Gateway(settings, self.ledger, retry=FAST) as gateway:
            yield gateway

    def rows(self) -> list[tuple[str, str, int]]:
        """Deployment, outcome and tries of each row of the ledger."""
        return [(call.deployment, call.outcome, call.attempts) for call in self.ledger.calls]

    def asked(self) -> list[int]:
        """Requests that each server got."""
        return [len(model.requests) for model in self.models.values()]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with ScriptedModel() as a, ScriptedModel() as b, ScriptedModel() as c:
        for name, model in zip("abc", (a, b, c), strict=True):
            model.script = f"I am {name}."
        yield Stage({"a": a, "b": b, "c": c})


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (status(500), "ModelServerError"),
        (status(503), "ModelServerError"),
        (status(429), "ModelRateLimitedError"),
        (status(429, {"error": {"code": "insufficient_quota"}}), "ModelQuotaError"),
        (status(401), "ModelAuthError"),
        (status(404), "ModelMissingError"),
        (drop(), "ModelUnreachableError"),
        (chat(""), "ModelOutputError"),
        (chat("no", finish_reason="content_filter"), "ModelOutputError"),
    ],
)
async def test_the_next_deployment_answers(stage: Stage, failure: Behaviour, outcome: str) -> None:
    stage.models["a"].script = failure
    async with stage.gateway() as gateway:
        answer = await gateway.chat(ASK)
    assert (answer.text, answer.deployment) == ("I am b.", "b")
    assert stage.rows() == [("a", outcome, 1), ("b", "ok", 1)], "nobody waits for the first"


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (status(400), ModelRequestError),
        (chat("It is", finish_reason="length"), ModelTruncatedError),
    ],
)
async def test_what_no_other_can_mend_is_told_at_once(
    stage: Stage, failure: Behaviour, error: type[ModelError]
) -> None:
    stage.models["a"].script = failure
    async with stage.gateway() as gateway:
        with pytest.raises(error):
            await gateway.chat(ASK)
    assert stage.asked() == [1, 0, 0]


async def test_only_the_last_one_is_waited_for(stage: Stage) -> None:
    for model in stage.models.values():
        model.script = status(503)
    async with stage.gateway() as gateway:
        with pytest.raises(ModelServerError, match="deployment 'c'"):
            await gateway.chat(ASK)
    assert stage.asked() == [1, 1, FAST.attempts]


async def test_an_answer_against_its_schema_is_asked_of_the_next(stage: Stage) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    stage.models["a"].script = {"n": "many"}
    stage.models["b"].script = {"n": 3}
    async with stage.gateway(b={"structured_output": "prompt"}) as gateway:
        answer = await gateway.chat(ASK, schema=schema)
    assert (answer.data, answer.deployment) == ({"n": 3}, "b")
    sent = stage.models["b"].requests[0].body
    assert "response_format" not in sent, "each gets the request as it can take it"


async def test_a_prompt_that_is_too_long_goes_where_there_is_room(stage: Stage) -> None:
    stage.models["a"].script = status(400, TOO_LONG)
    async with stage.gateway(c={"context": 100_000}) as gateway:
        assert (await gateway.chat(ASK)).deployment == "c"
        assert gateway.context() == 8192, "what fits each"
    assert stage.asked() == [1, 0, 1]
    async with stage.gateway() as gateway:
        with pytest.raises(ContextTooLongError):
            await gateway.chat(ASK)


async def test_the_deadline_of_the_caller_is_for_all_of_them(stage: Stage) -> None:
    stage.models["a"].script = hang()
    async with stage.gateway(a={"timeout": 0.1}) as gateway:
        answer = await gateway.chat(ASK, timeout=5)
        assert answer.deployment == "b", "the first got its own time of the caller's, no more"
    async with stage.gateway() as gateway:
        with pytest.raises(ModelTimeoutError):
            await gateway.chat(ASK, timeout=0.1)
    assert stage.asked() == [2, 1, 0]


async def test_a_stream_goes_on_elsewhere_until_its_first_piece(stage: Stage) -> None:
    stage.models["a"].script = status(503)
    async with stage.gateway() as gateway:
        pieces = [chunk.text async for chunk in gateway.stream(ASK)]
    assert "".join(pieces) == "I am b."
    assert stage.rows() == [("a", "ModelServerError", 1), ("b", "ok", 1)]


async def test_a_stream_that_breaks_in_the_middle_is_not_begun_anew(stage: Stage) -> None:
    piece = {"choices": [{"index": 0, "delta": {"content": "I am"}}]}
    stage.models["a"].script = events(event(piece), event(piece), gap=5.0)
    seen: list[str] = []

    async def listen(gateway: Gateway) -> None:
        seen.extend([chunk.text async for chunk in gateway.stream(ASK)])

    async with stage.gateway(a={"idle_timeout": 0.1}) as gateway:
        with pytest.raises(ModelTimeoutError, match=r"nothing for 0\.1 s in the middle"):
            await listen(gateway)
    assert stage.asked() == [1, 0, 0]
    assert stage.rows() == [("a", "ModelTimeoutError", 1)]


async def test_vectors_come_of_one_model(stage: Stage) -> None:
    stage.models["a"].script = status(503)
    stage.models["c"].script = embeddings()
    async with stage.gateway(b={"model": "another"}) as gateway:
        assert (await gateway.embed(["one", "two"])).deployment == "c"
    assert stage.asked() == [1, 0, 1]


async def first(gateway: Gateway, times: int = 30, ask: Any = ASK) -> Counter[str]:
    """Who answers, how often."""
    return Counter([(await gateway.chat(ask)).deployment for _ in range(times)])


async def test_by_weight(stage: Stage) -> None:
    weights = {"a": 8.0, "b": 2.0, "c": 0.001}
    async with stage.gateway({"strategy": "weighted", "weights": weights}) as gateway:
        found = await first(gateway, 200)
    assert found["a"] > found["b"] > 5
    assert found["c"] < 5


async def test_the_cheapest(stage: Stage) -> None:
    prices = {name: {"price": Price(input=p, output=p)} for name, p in zip("abc", (3, 1, 2))}  # noqa: B905 - three each
    async with stage.gateway({"strategy": "cheapest"}, **prices) as gateway:
        assert await first(gateway, 3) == {"b": 3}
        stage.models["b"].script = status(503)
        assert (await gateway.chat(ASK)).deployment == "c"


async def test_the_least_loaded(stage: Stage) -> None:
    for model in stage.models.values():
        model.script = delayed(0.2, "late")
    sizes = {"a": {"concurrency": 2}, "b": {"concurrency": 8}, "c": {"concurrency": 2}}
    async with stage.gateway({"strategy": "least_loaded"}, **sizes) as gateway:
        answers = await asyncio.gather(*(gateway.chat(ASK) for _ in range(12)))
    assert Counter(answer.deployment for answer in answers) == {"a": 2, "b": 8, "c": 2}


async def test_the_same_beginning_goes_to_the_same_one(stage: Stage) -> None:
    prompts: list[Any] = [
        [{"role": "system", "content": f"You are clerk {number}. " + "x" * 2000}, *ASK]
        for number in range(20)
    ]
    async with stage.gateway({"strategy": "prefix"}) as gateway:
        found = [await first(gateway, 2, prompt) for prompt in prompts]
    assert all(len(each) == 1 for each in found)
    assert len({name for each in found for name in each}) == 3, "and all have some"


async def test_a_full_deployment_lets_others_go_first(stage: Stage) -> None:
    stage.models["a"].script = delayed(0.3, "late")
    async with stage.gateway(a={"concurrency": 1}) as gateway:
        slow = asyncio.create_task(gateway.chat(ASK))
        await asyncio.sleep(0.1)
        assert (await gateway.chat(ASK)).deployment == "b"
        assert (await slow).deployment == "a"


async def test_a_deployment_that_keeps_failing_is_asked_last(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "COOLDOWN", 0.3)
    stage.models["a"].script = status(503)
    async with stage.gateway() as gateway:
        await first(gateway, 10)
        assert stage.asked()[0] == health.THRESHOLD
        await asyncio.sleep(0.35)
        await asyncio.gather(*(gateway.chat(ASK) for _ in range(5)))
        assert stage.asked()[0] == health.THRESHOLD + 1, "one of them looks whether it is back"
        stage.models["a"].script = "I am back."
        await asyncio.sleep(0.65)
        assert (await gateway.chat(ASK)).text == "I am back."
        assert (await gateway.chat(ASK)).text == "I am back."


async def test_calls_that_fail_together_open_a_circuit_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "COOLDOWN", 0.3)
    stage.models["a"].script = delayed(0.05, status(429))
    async with stage.gateway() as gateway:
        await asyncio.gather(*(gateway.chat(ASK) for _ in range(20)))
        assert stage.asked()[0] == 20
        stage.models["a"].script = "I am back."
        await asyncio.sleep(0.35)
        assert (await gateway.chat(ASK)).text == "I am back."


async def test_one_that_refuses_its_key_is_asked_last_at_once(stage: Stage) -> None:
    stage.models["a"].script = status(401)
    async with stage.gateway() as gateway:
        await first(gateway, 4)
        assert stage.asked() == [1, 4, 0]
        for name in "bc":
            stage.models[name].script = status(503)
        with pytest.raises(ModelAuthError):
            await gateway.chat(ASK)
        assert stage.asked()[0] == 2, "where nothing else is left it is asked"


async def test_bad_requests_and_hurried_callers_blame_nobody(stage: Stage) -> None:
    behaviours: list[Callable[[], Any]] = [lambda: status(400), hang]
    async with stage.gateway() as gateway:
        for behaviour in behaviours:
            stage.models["a"].script = behaviour()
            for _ in range(health.THRESHOLD + 1):
                with pytest.raises((ModelRequestError, ModelTimeoutError)):
                    await gateway.chat(ASK, timeout=0.05)
        stage.models["a"].script = "I am well."
        assert (await gateway.chat(ASK)).text == "I am well."


async def test_a_tenants_data_stays_where_its_tags_say(stage: Stage) -> None:
    tags = {"acme": frozenset({"gpu"}), "*": frozenset({"eu"}), "free": frozenset[str]()}
    places = {"a": {"tags": {"eu"}}, "b": {"tags": {"gpu", "eu"}}}
    stage.models["b"].script = [chat("I am b."), chat("I am b."), status(503)]
    async with stage.gateway(None, tags, **places) as gateway:
        answers = [
            (await gateway.bound(run_id=None, tenant=name).chat(ASK)).deployment
            for name in ("acme", "other", "free")
        ]
        assert answers == ["b", "a", "a"]
        await gateway.bound(run_id=None, tenant="acme").chat(ASK)
        with pytest.raises(ModelServerError):
            await gateway.bound(run_id=None, tenant="acme").chat(ASK)
    async with stage.gateway(None, {"acme": frozenset({"moon"})}) as gateway:
        with pytest.raises(SettingsError, match=r"'acme' may use.*moon"):
            await gateway.bound(run_id=None, tenant="acme").chat(ASK)


async def test_an_abandoned_probe_lets_the_next_one_look(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "COOLDOWN", 0.1)
    stage.models["a"].script = status(401)
    async with stage.gateway() as gateway:
        await gateway.chat(ASK)
        await asyncio.sleep(0.15)
        stage.models["a"].script = delayed(5, "late")
        probe = asyncio.create_task(gateway.chat(ASK))
        await asyncio.sleep(0.1)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        stage.models["a"].script = "I am back."
        assert (await gateway.chat(ASK)).text == "I am back."


async def test_a_server_that_is_not_there_costs_one_connection(stage: Stage) -> None:
    nowhere = SecretStr(f"http://127.0.0.1:{unused_port()}/v1")
    async with stage.gateway(a={"base_url": nowhere}) as gateway:
        assert await first(gateway, 6) == {"b": 6}
    tried = [row for row in stage.rows() if row[0] == "a"]
    assert tried == [("a", "ModelUnreachableError", 1)] * health.THRESHOLD


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ({"deployments": []}, "at least 1"),
        ({"deployments": ["a", "a"]}, "twice"),
        ({"deployments": ["a"], "weights": {"a": 1}}, 'strategy = "weighted"'),
        ({"deployments": ["a"], "strategy": "weighted", "weights": {"z": 1}}, "'z'"),
        ({"deployments": ["a"], "strategy": "weighted", "weights": {"a": 0}}, "greater than 0"),
        ({"deployments": ["a"], "strategy": "fastest"}, "least_loaded"),
        ({"deployments": ["a", "b"], "strategy": "cheapest"}, "price of 'a' is unknown"),
        ({"deployments": ["a", "z"]}, "'z', which is not declared"),
    ],
)
def test_a_route_that_makes_no_sense_is_refused(route: dict[str, Any], problem: str) -> None:
    deployments = {name: Deployment(model="tiny") for name in "ab"}
    with pytest.raises(ValidationError, match=problem):
        Settings(deployments=deployments, routes={"smart": Route(**route)})


def broken(*texts: str) -> Behaviour:
    pieces = [event({"choices": [{"index": 0, "delta": {"content": text}}]}) for text in texts]
    return events(*pieces, drop=True)


async def streamed(gateway: Gateway, **options: Any) -> str:
    return "".join([chunk.text async for chunk in gateway.stream(ASK, **options)])


async def test_a_stream_that_breaks_off_is_gone_on_with(stage: Stage) -> None:
    stage.models["a"].script = broken("It costs ", "four euros ")
    stage.models["b"].script = broken("four euros and ", "fifty ")
    stage.models["c"].script = "and fifty cents."
    async with stage.gateway({"continue_streams": True}) as gateway:
        assert await streamed(gateway) == "It costs four euros and fifty cents."
    asked = stage.models["c"].requests[0].body["messages"]
    assert [message["role"] for message in asked] == ["user", "assistant", "user"]
    assert asked[1]["content"] == "It costs four euros ", "what the caller has seen"
    outcomes = ["ModelUnreachableError", "ModelUnreachableError", "ok"]
    assert [outcome for _, outcome, _ in stage.rows()] == outcomes


@pytest.mark.parametrize(
    ("route", "options"),
    [
        ({}, {}),
        ({"continue_streams": True}, {"schema": {"type": "object"}}),
        ({"continue_streams": True}, {"tools": [{"type": "function", "function": {"name": "f"}}]}),
    ],
)
async def test_what_cannot_be_joined_is_not_gone_on_with(
    stage: Stage, route: Any, options: Any
) -> None:
    stage.models["a"].script = broken("It costs ")
    async with stage.gateway(route) as gateway:
        with pytest.raises(ModelError):
            await streamed(gateway, **options)
    assert stage.asked() == [1, 0, 0]
