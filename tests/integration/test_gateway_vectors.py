"""Embedding: batches at once within the limits, and a cache of vectors by tenant and text."""

import array
import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from rotina.database import Pool, open_pool, tenant_scope
from rotina.errors import BudgetExceededError, ModelRequestError, ModelServerError
from rotina.gateway import Gateway, MemoryLedger, PostgresLedger, PostgresVectorCache, RetryPolicy
from rotina.gateway import embedding as embedding_module
from rotina.gateway.embedding import batches
from rotina.settings import Budget, Deployment, Price, Route, Settings
from tests.scripted_model import (
    Behaviour,
    Request,
    ScriptedModel,
    delayed,
    embeddings,
    hang,
    status,
    vector,
)

PRICE = Price(input=1, output=0)
FAST = RetryPolicy(attempts=1)


@dataclass
class Stage:
    """A model server, and gateways with a cache of vectors on one database."""

    model: ScriptedModel
    ledger: MemoryLedger
    pool: Pool

    @contextlib.asynccontextmanager
    async def gateway(
        self, *, cached: bool = True, budgets: Any = None, guards: Any = None, **deployment: Any
    ) -> AsyncIterator[Gateway]:
        made = {"model": "tiny", "base_url": SecretStr(self.model.base_url), "price": PRICE}
        seconds = 60 if cached else None
        route = Route(deployments=["one"], cache_seconds=seconds, guards=list(guards or ()))
        settings = Settings(
            deployments={"one": Deployment(**{**made, **deployment})},
            routes={"embed": route},
            budgets=budgets or {},
            guards=guards or {},
        )
        store = PostgresLedger(self.pool)
        vectors = PostgresVectorCache(self.pool)
        async with Gateway(
            settings, self.ledger, retry=FAST, budgets=store, vectors=vectors
        ) as opened:
            yield opened

    def asked(self) -> list[str]:
        """The texts that the server was asked for."""
        return [text for request in self.model.requests for text in request.body["input"]]

    async def rows(self, tenant: str = "default") -> int:
        async with tenant_scope(self.pool, tenant) as connection:
            cursor = await connection.execute("select 1 from rotina.embedding_cache")
            return len(await cursor.fetchall())


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    async with ScriptedModel() as model:
        yield Stage(model, MemoryLedger(), pool)


def kept(text: str) -> list[float]:
    """The scripted vector, in numbers that 32-bit floats have."""
    return array.array("f", vector(text)).tolist()


# ── batches ───────────────────────────────────────────────────────────────────────────────────


def test_batches_end_where_the_deployment_says() -> None:
    texts = ["aaa", "bb", "c" * 9, "d", "e", "f", "g"]
    deployment = Deployment(model="m", batch_texts=3, batch_chars=5)
    assert batches(texts, deployment) == [["aaa", "bb"], ["c" * 9], ["d", "e", "f"], ["g"]]
    assert batches(texts, Deployment(model="m")) == [texts]
    assert batches([], deployment) == []


class Crowd:
    """A server that answers only once `enough` requests have met; counts who was there at once."""

    def __init__(self, enough: int) -> None:
        self.enough = enough
        self.here = self.most = 0
        self._met = asyncio.Event()

    def __call__(self, request: Request) -> Behaviour:
        async def behave(http: web.Request, request: Request) -> web.StreamResponse:
            self.here += 1
            self.most = max(self.most, self.here)
            if self.here == self.enough:
                self._met.set()
            try:
                await self._met.wait()
                await asyncio.sleep(0.01)
                return await embeddings().run(http, request)
            finally:
                self.here -= 1

        return Behaviour(behave)


async def test_batches_of_one_call_are_under_way_at_once_and_in_order(stage: Stage) -> None:
    stage.model.script = crowd = Crowd(embedding_module.AT_ONCE)
    texts = [f"text {number}" for number in range(33)]
    async with stage.gateway(cached=False, batch_texts=4) as gateway:
        answer = await gateway.embed(texts)
    assert answer.vectors == [vector(text) for text in texts]
    assert crowd.most == embedding_module.AT_ONCE
    (row,) = stage.ledger.calls
    assert (row.outcome, row.attempts, row.prompt_tokens) == ("ok", 9, 66)
    assert answer.usage.prompt_tokens == 66


@pytest.mark.parametrize("limit", ["concurrency", "parallel"])
async def test_batches_keep_to_the_limits_of_the_deployment(stage: Stage, limit: str) -> None:
    stage.model.script = crowd = Crowd(2)
    texts = [f"text {number}" for number in range(24)]
    async with stage.gateway(cached=False, batch_texts=2, **{limit: 2}) as gateway:
        both = await asyncio.gather(gateway.embed(texts), gateway.embed(texts[::-1]))
        assert (await gateway.embed(["after"])).vectors == [vector("after")], "slots are back"
    assert both[0].vectors == both[1].vectors[::-1] == [vector(text) for text in texts]
    assert crowd.most == 2


async def test_one_bad_batch_gives_up_the_others(stage: Stage) -> None:
    def script(request: Request) -> Any:
        return status(400) if "bad" in request.body["input"] else hang()

    stage.model.script = script
    budgets = {"all": Budget(tokens=100_000)}
    async with stage.gateway(
        cached=False, batch_texts=1, concurrency=4, budgets=budgets
    ) as gateway:
        with pytest.raises(ModelRequestError):
            await gateway.embed(["a", "b", "bad", "c", "d", "e"])
        stage.model.script = None
        assert len((await gateway.embed(["a", "b", "c", "d"])).vectors) == 4, "slots are back"
    assert "e" not in stage.asked()
    async with stage.pool.connection() as connection:
        cursor = await connection.execute("select settled_tokens from rotina.budget_account")
        row = await cursor.fetchone()
    # What the requests that were given up have cost is unknown: all that was held counts.
    assert row is not None
    assert row["settled_tokens"] > 64
    assert [call.outcome for call in stage.ledger.calls] == ["ModelRequestError", "ok"]


async def test_a_call_that_is_given_up_leaves_nothing_behind(stage: Stage) -> None:
    stage.model.script = hang()
    async with stage.gateway(cached=False, batch_texts=1, concurrency=3) as gateway:
        call = asyncio.create_task(gateway.embed(["a", "b", "c", "d", "e"]))
        while len(stage.model.requests) < 3:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        while stage.model.abandoned < 3:
            await asyncio.sleep(0.01)
        assert gateway.deployments()[0].under_way == 0
    assert [row.outcome for row in stage.ledger.calls] == ["CancelledError"]


async def test_time_under_way_is_counted_once(stage: Stage) -> None:
    stage.model.script = delayed(0.05, embeddings())
    told: list[tuple[float, float]] = []

    class Watch:
        def began(self, call: Any) -> None: ...

        def ended(self, row: Any, times: Any) -> None:
            told.append((times.upstream, times.total))

    async with stage.gateway(cached=False, batch_texts=1) as gateway:
        await gateway.bound(run_id=None, tenant="default", observer=Watch()).embed([*"abcdefgh"])
    ((upstream, total),) = told
    assert 0 < upstream <= total


# ── the cache ─────────────────────────────────────────────────────────────────────────────────


async def test_a_text_is_embedded_once(stage: Stage) -> None:
    async with stage.gateway() as gateway:
        first = await gateway.embed(["a", "b b", "a"])
        some = await gateway.embed(["c", "b b", "a", "c"])
        again = await gateway.embed(["a", "c"])
    assert stage.asked() == ["a", "b b", "c"]
    assert (first.cached, some.cached, again.cached) == (0, 2, 2)
    assert some.vectors == [vector("c"), kept("b b"), kept("a"), vector("c")]
    assert again.vectors == [kept("a"), kept("c")]
    assert (first.usage.prompt_tokens, some.usage.prompt_tokens) == (3, 1)
    assert (again.usage.prompt_tokens, again.cost_usd, again.attempts) == (0, Decimal(0), 0)
    assert (again.model, again.deployment, again.call_id) == (first.model, "one", None)
    rows = [(row.kind, row.outcome, row.prompt_tokens, row.attempts) for row in stage.ledger.calls]
    assert rows == [("embedding", *rest) for rest in (("ok", 3, 1), ("ok", 1, 1), ("cached", 0, 0))]


async def test_what_comes_out_is_what_a_model_gave(stage: Stage) -> None:
    # Numbers that a 32-bit float has, as every model gives; and one that none has.
    exact = [0.1, 1e-30, -3.4028234663852886e38, 0.0, 5e-324]

    def script(request: Request) -> Any:
        async def behave(http: web.Request, request: Request) -> web.StreamResponse:
            row = [1e300] if request.body["input"] == ["huge"] else exact
            return web.json_response({"model": "m", "data": [{"index": 0, "embedding": row}]})

        return Behaviour(behave)

    stage.model.script = script
    async with stage.gateway() as gateway:
        await gateway.embed(["x"])
        (kept,) = (await gateway.embed(["x"])).vectors
        assert kept == [0.10000000149011612, 1.0000000031710769e-30, exact[2], 0.0, 0.0]
        for _ in range(2):
            assert (await gateway.embed(["huge"])).vectors == [[1e300]]


async def test_others_share_nothing(stage: Stage) -> None:
    async with stage.gateway() as gateway:
        await gateway.embed(["a"])
        await gateway.bound(run_id=None, tenant="rival").embed(["a"])
    assert stage.asked() == ["a", "a"]
    assert (await stage.rows(), await stage.rows("rival"), await stage.rows("third")) == (1, 1, 0)
    changes: list[dict[str, Any]] = [{"model": "other"}, {"cached": False}]
    for change in changes:
        async with stage.gateway(**change) as gateway:
            await gateway.embed(["a"])
    assert len(stage.asked()) == 4
    async with stage.pool.connection() as connection:
        cursor = await connection.execute("select 1 from rotina.embedding_cache")
        assert await cursor.fetchall() == [], "nobody sees rows without being their tenant"


async def test_another_model_behind_the_same_name_is_asked_for_all(stage: Stage) -> None:
    async with stage.gateway() as gateway:
        await gateway.embed(["a", "b"])
        stage.model.script = lambda _: embeddings(8)
        mixed = await gateway.embed(["a", "c"])
        assert {len(each) for each in mixed.vectors} == {8}
        assert mixed.cached == 0
        again = await gateway.embed(["b", "c"])
    assert {len(each) for each in again.vectors} == {8}
    assert stage.asked() == ["a", "b", "c", "a", "c", "b"]


async def test_a_vector_expires_and_is_deleted(stage: Stage) -> None:
    cache = PostgresVectorCache(stage.pool)

    async def age() -> None:
        async with tenant_scope(stage.pool, "default") as connection:
            await connection.execute("update rotina.embedding_cache set expires_at = now()")

    async with stage.gateway() as gateway:
        await gateway.embed(["a"])
        assert await cache.purge() == 0
        await age()
        await gateway.embed(["a"])
        assert stage.asked() == ["a", "a"]
        assert await cache.purge() == 0, "the new one took its place"
        await age()
        assert await cache.purge() == 1


async def test_known_vectors_need_no_budget(stage: Stage) -> None:
    async with stage.gateway(budgets={"all": Budget(tokens=100)}) as gateway:
        await gateway.embed(["word"])
        for _ in range(20):
            assert (await gateway.embed(["word", "word"])).vectors == [kept("word")] * 2
        with pytest.raises(BudgetExceededError):
            await gateway.embed(["word", "other " * 100])


async def test_guards_are_part_of_the_question(stage: Stage) -> None:
    mail = "write to ana@example.com"
    async with stage.gateway() as plain:
        await plain.embed([mail])
    async with stage.gateway(guards={"pii": {"kind": "pii"}}) as guarded:
        await guarded.embed([mail])
        again = await guarded.embed([mail])
    assert stage.asked() == [mail, "write to <EMAIL>"]
    assert (again.cached, again.vectors) == (1, [kept("write to <EMAIL>")])


async def test_a_failed_call_keeps_nothing(stage: Stage) -> None:
    stage.model.script = [status(503), None]
    async with stage.gateway() as gateway:
        with pytest.raises(ModelServerError):
            await gateway.embed(["a"])
        assert (await gateway.embed(["a"])).cached == 0


async def test_without_the_database_models_embed(stage: Stage, database_url: str) -> None:
    async with open_pool(database_url, size=1) as pool:
        gone = PostgresVectorCache(pool)
    deployment = Deployment(model="tiny", base_url=SecretStr(stage.model.base_url))
    routes = {"embed": Route(deployments=["one"], cache_seconds=60)}
    settings = Settings(deployments={"one": deployment}, routes=routes)
    async with Gateway(settings, vectors=gone) as gateway:
        for _ in range(2):
            assert (await gateway.embed(["a"])).vectors == [vector("a")]
    assert stage.asked() == ["a", "a"]
