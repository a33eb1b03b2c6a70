"""The exact cache: who is given an answer again, and who is not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from rotina.database import Pool, open_pool
from rotina.errors import ModelOutputError
from rotina.gateway import Gateway, MemoryLedger, PostgresCache
from rotina.settings import Budget, Deployment, Price, Route, Settings
from tests.scripted_model import ScriptedModel, chat

ASK: Any = [{"role": "user", "content": "How much is it?"}]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@dataclass
class Stage:
    """A model that never says the same twice, behind a route with a cache and one without."""

    model: ScriptedModel
    gateway: Gateway
    ledger: MemoryLedger
    pool: Pool

    async def ask(self, text: str = "How much is it?", tenant: str = "acme", **options: Any) -> str:
        bound = self.gateway.bound(run_id=None, tenant=tenant)
        return (await bound.chat([{"role": "user", "content": text}], **options)).text


def settings_for(model: ScriptedModel, **changes: Any) -> Settings:
    base_url, price = SecretStr(model.base_url), Price(input=1, output=1)
    return Settings(
        deployments={"one": Deployment(model="tiny", base_url=base_url, price=price)},
        routes={
            "smart": Route(deployments=["one"], cache_seconds=60),
            "fast": Route(deployments=["one"]),
        },
        **changes,
    )


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    said = iter(range(1000))
    async with ScriptedModel(lambda _: f"answer {next(said)}") as model:
        ledger, cache = MemoryLedger(), PostgresCache(pool)
        async with Gateway(settings_for(model), ledger, cache=cache) as gateway:
            yield Stage(model, gateway, ledger, pool)


async def test_the_same_question_is_asked_once(stage: Stage) -> None:
    first = await stage.gateway.chat(ASK)
    again = await stage.gateway.chat(ASK)
    assert (again.text, again.cached, again.attempts) == (first.text, True, 0)
    assert again.cost_usd == 0
    assert again.usage == first.usage
    assert not first.cached
    assert len(stage.model.requests) == 1
    rows = [(call.outcome, call.cost_usd, call.attempts) for call in stage.ledger.calls]
    assert rows == [("ok", first.cost_usd, 1), ("cached", 0, 0)]


async def test_any_difference_is_another_question(stage: Stage) -> None:
    asked = [
        await stage.ask(),
        await stage.ask("How much was it?"),
        await stage.ask(tenant="other"),
        await stage.ask(route="fast"),
        await stage.ask(route="fast"),
        await stage.ask(max_tokens=7),
        await stage.ask(stop=["."]),
        await stage.ask(temperature=0.7),
        await stage.ask(temperature=0.7),
        await stage.ask(temperature=None),
    ]
    assert len(set(asked)) == len(asked)
    assert await stage.ask() == asked[0]


async def test_what_is_of_no_use_is_not_kept(stage: Stage) -> None:
    bad = {"n": "many"}  # and its repair
    stage.model.script = [bad, bad, {"n": 3}, chat("cut", finish_reason="length"), "whole"]
    with pytest.raises(ModelOutputError):
        await stage.gateway.chat(ASK, schema=SCHEMA)
    assert (await stage.gateway.chat(ASK, schema=SCHEMA)).data == {"n": 3}
    assert (await stage.gateway.chat(ASK, schema=SCHEMA)).data == {"n": 3}
    with pytest.raises(ModelOutputError):
        await stage.gateway.chat(ASK)
    assert (await stage.gateway.chat(ASK)).text == "whole"


async def test_an_answer_expires_and_is_deleted(stage: Stage) -> None:
    first = await stage.ask()
    async with stage.pool.connection() as connection:
        await connection.execute(
            "update rotina.answer_cache set expires_at = now() - interval '1 s'"
        )
    assert await stage.ask() != first
    assert await PostgresCache(stage.pool).purge() == 0, "the new one took its place"
    async with stage.pool.connection() as connection:
        await connection.execute("update rotina.answer_cache set expires_at = now()")
    assert await PostgresCache(stage.pool).purge() == 1


async def test_an_answer_kept_by_another_release_is_asked_anew(stage: Stage) -> None:
    await stage.ask()
    async with stage.pool.connection() as connection:
        await connection.execute("update rotina.answer_cache set answer = %s", [b'{"words": 1}'])
    assert await stage.ask() == "answer 1"


async def test_a_cached_answer_needs_no_budget(stage: Stage) -> None:
    settings = settings_for(stage.model, budgets={"all": Budget(tokens=9000)})
    async with Gateway.with_database(settings, stage.pool) as gateway:
        texts = [(await gateway.chat(ASK)).text for _ in range(50)]
    assert len(set(texts)) == 1


async def test_without_the_database_models_answer(stage: Stage, database_url: str) -> None:
    async with open_pool(database_url, size=1) as pool:
        cache = PostgresCache(pool)
    async with Gateway(settings_for(stage.model), cache=cache) as gateway:
        texts = await asyncio.gather(*((gateway.chat(ASK)) for _ in range(2)))
    assert len({answer.text for answer in texts}) == 2
