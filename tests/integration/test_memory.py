"""What agents remember, on a real PostgreSQL: LangGraph's store and LangChain's."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypedDict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.stores import BaseStore as LangChainStore
from langchain_tests.integration_tests import BaseStoreAsyncTests, BaseStoreSyncTests
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import (
    GetOp,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore
from pydantic import BaseModel

from rotina.database import Pool, open_pool
from rotina.errors import FilterError, KnowledgeError, ModelServerError
from rotina.gateway import Gateway, RetryPolicy
from rotina.graphs.context import Context
from rotina.knowledge import KnowledgeBase
from rotina.knowledge.memory import RotinaByteStore, RotinaStore, sweep_memory
from rotina.runs import Workflow
from rotina.settings import Settings
from tests.integration.test_knowledge_base import embedding
from tests.integration.test_knowledge_ingestion import staged
from tests.scripted_model import ScriptedModel, status
from tests.threads import on_a_thread

USER = ("users", "ana")


@contextlib.asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[KnowledgeBase]:
    async with ScriptedModel(embedding) as model, open_pool(database_url) as pool:
        settings = Settings(
            deployments={"one": {"model": "scripted", "base_url": model.base_url}},
            routes={"embed": {"deployments": ["one"]}},
        )
        async with Gateway(settings, retry=RetryPolicy(attempts=1)) as gateway:
            yield KnowledgeBase(pool, gateway, "acme")


@pytest.fixture
async def knowledge(database_url: str) -> AsyncIterator[KnowledgeBase]:
    async with opened(database_url) as running:
        yield running


@pytest.fixture
def threaded(database_url: str) -> Iterator[KnowledgeBase]:
    with on_a_thread(opened(database_url)) as running:
        yield running


class TestBytes(BaseStoreSyncTests[bytes]):
    """LangChain's suite."""

    @pytest.fixture
    def kv_store(self, threaded: KnowledgeBase) -> LangChainStore[str, bytes]:
        return RotinaByteStore(threaded, "cache")

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"one", b"\x00\xff", b""


class TestBytesAsync(BaseStoreAsyncTests[bytes]):
    """LangChain's suite, asynchronously."""

    @pytest.fixture
    async def kv_store(self, knowledge: KnowledgeBase) -> LangChainStore[str, bytes]:
        return RotinaByteStore(knowledge, "cache")

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"one", b"\x00\xff", b""


# ── LangGraph ─────────────────────────────────────────────────────────────────────────────────


async def test_values_are_found_by_meaning_in_both_languages(knowledge: KnowledgeBase) -> None:
    store = RotinaStore(knowledge)
    await store.aput(USER, "a", {"text": "Ana asked for a refund."})
    await store.aput(USER, "b", {"text": "A senha foi redefinida."})
    await store.aput(("users", "rui"), "c", {"text": "refund"})
    await store.aput(USER, "d", {"text": "refund refund"}, index=False)
    found = await store.asearch(USER, query="reembolso")
    assert [each.key for each in found] == ["a", "b", "d"]
    assert found[0].score is not None
    assert found[0].score > 0.99
    assert found[-1].score is None, "not indexed: last"
    everybody = await store.asearch(("users",), query="refund", limit=2)
    assert {each.key for each in everybody} == {"a", "c"}
    await store.aput(USER, "a", {"text": "Ana asked for a delivery."})
    (best, *_) = await store.asearch(USER, query="delivery", limit=1)
    assert best.key == "a", "the new text's vector took the old one's place"


async def test_each_field_has_a_vector_and_the_best_counts(knowledge: KnowledgeBase) -> None:
    store = RotinaStore(knowledge, fields=["title", "notes[*].text"])
    notes = [{"text": "moon"}, {"text": "password"}]
    await store.aput(USER, "a", {"title": "delivery", "notes": notes, "other": "refund"})
    await store.aput(USER, "b", {"title": "refund refund moon"})
    assert [each.key for each in await store.asearch(USER, query="senha", limit=1)] == ["a"]
    assert [each.key for each in await store.asearch(USER, query="refund", limit=1)] == ["b"]


async def test_vectors_of_another_model_are_not_compared(
    knowledge: KnowledgeBase, database_url: str
) -> None:
    store = RotinaStore(knowledge)
    await store.aput(USER, "old", {"text": "refund"})
    async with (
        ScriptedModel(lambda request: embedding(request, model="newer", extra=3)) as model,
        open_pool(database_url) as pool,
    ):
        settings = Settings(
            deployments={"one": {"model": "newer", "base_url": model.base_url}},
            routes={"embed": {"deployments": ["one"]}},
        )
        async with Gateway(settings) as gateway:
            newer = RotinaStore(KnowledgeBase(pool, gateway, "acme"))
            await newer.aput(USER, "new", {"text": "password"})
            found = await newer.asearch(USER, query="refund")
    assert [(each.key, each.score is None) for each in found] == [("new", False), ("old", True)]


async def test_a_value_lives_for_a_time_and_longer_when_it_is_read(
    knowledge: KnowledgeBase,
) -> None:
    store = RotinaStore(knowledge, ttl={"default_ttl": 10, "refresh_on_read": True})
    await store.aput(USER, "short", {"n": 1})
    await store.aput(USER, "read", {"n": 2})
    await store.aput(USER, "peeked", {"n": 3})
    await store.aput(USER, "kept", {"n": 4}, ttl=None)

    async def later(minutes: int) -> None:
        async with knowledge.scope() as connection:
            await connection.execute(
                "update rotina.memory set expires_at = expires_at - make_interval(mins => %s)",
                (minutes,),
            )

    await later(6)
    assert await store.aget(USER, "read") is not None
    assert await store.aget(USER, "peeked", refresh_ttl=False) is not None
    await later(6)
    assert {each.key for each in await store.asearch(USER)} == {"read", "kept"}
    assert await store.aget(USER, "short") is None
    await store.aput(USER, "short", {"n": 5})
    fresh = await store.aget(USER, "short")
    assert fresh is not None
    assert fresh.created_at == fresh.updated_at, "what had expired does not come back"
    assert await sweep_memory(knowledge.pool) == 1
    await later(30)
    assert await store.alist_namespaces() == [USER]
    assert await sweep_memory(knowledge.pool) == 2
    assert [each.key for each in await store.asearch(USER)] == ["kept"]


@pytest.mark.parametrize(
    ("namespace", "key", "value", "ttl"),
    [
        ((), "k", {}, None),
        (("",), "k", {}, None),
        (("a\x00",), "k", {}, None),
        (("a",), "", {}, None),
        (("a",), "k", {"n": float("nan")}, None),
        (("a",), "k", {"n": object()}, None),
        (("a",), "k", {"n": "\ud800"}, None),
        (("a",), "k", {}, -1.0),
        (("a",), "k", {}, 1e12),
    ],
)
async def test_what_cannot_be_remembered_is_refused(
    knowledge: KnowledgeBase, namespace: Any, key: str, value: Any, ttl: float | None
) -> None:
    store = RotinaStore(knowledge)
    await store.aput(("a",), "other", {"n": 1})
    with pytest.raises(KnowledgeError):
        await store.abatch(
            [PutOp(("a",), "other", {"n": 2}), PutOp(namespace, key, value, ttl=ttl)]
        )
    (kept,) = await store.asearch(("a",))
    assert kept.value == {"n": 1}, "all or nothing"
    with pytest.raises(FilterError):
        await store.asearch(("a",), filter={"n": {"$near": 1}})
    with pytest.raises(KnowledgeError, match="offset -1"):
        await store.asearch(("a",), offset=-1)


async def test_a_model_that_fails_writes_nothing(database_url: str) -> None:
    async with ScriptedModel(lambda _: status(500)) as model, open_pool(database_url) as pool:
        settings = Settings(
            deployments={"one": {"model": "scripted", "base_url": model.base_url}},
            routes={"embed": {"deployments": ["one"]}},
        )
        async with Gateway(settings, retry=RetryPolicy(attempts=1)) as gateway:
            knowledge = KnowledgeBase(pool, gateway, "acme")
            with pytest.raises(ModelServerError):
                await RotinaStore(knowledge).aput(USER, "a", {"text": "refund"})
            assert await RotinaStore(knowledge, route=None).asearch(USER) == []


async def test_another_tenant_remembers_nothing_of_it(knowledge: KnowledgeBase) -> None:
    mine = RotinaStore(knowledge)
    rival = KnowledgeBase(knowledge.pool, knowledge.gateway, "rival")
    theirs = RotinaStore(rival)
    await mine.aput(USER, "a", {"text": "refund"})
    assert await theirs.aget(USER, "a") is None
    assert await theirs.asearch((), query="refund") == []
    assert await theirs.alist_namespaces() == []
    await theirs.adelete(USER, "a")
    await theirs.aput(USER, "a", {"text": "password"})
    (found,) = await theirs.asearch((), query="refund")
    assert found.value == {"text": "password"}
    kept = await mine.aget(USER, "a")
    assert kept is not None
    assert kept.value == {"text": "refund"}
    await RotinaByteStore(knowledge, "c").amset([("k", b"mine")])
    assert await RotinaByteStore(rival, "c").amget(["k"]) == [None]
    assert [key async for key in RotinaByteStore(rival, "c").ayield_keys()] == []
    async with knowledge.pool.connection() as connection:
        for table in ("memory", "memory_embedding", "keyed_bytes"):
            cursor = await connection.execute(f"select 1 from rotina.{table}")
            assert await cursor.fetchall() == [], "nobody's without a tenant"


def test_from_a_program_without_a_loop(threaded: KnowledgeBase) -> None:
    store = RotinaStore(threaded)
    store.put(USER, "a", {"text": "refund"})
    (found,) = store.search(USER, query="refund")
    assert found.key == "a"
    store.delete(USER, "a")
    assert store.get(USER, "a") is None


# ── the same as LangGraph's own ───────────────────────────────────────────────────────────────

names = st.sampled_from(["a", "b", "c"])
namespaces = st.lists(names, min_size=1, max_size=3).map(tuple)
scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["x", "y"])
values = st.dictionaries(names, scalars, max_size=3)
numbers = st.dictionaries(
    st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), st.integers(-3, 3), min_size=1, max_size=1
)
paths = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=2).map(tuple)
conditions = st.builds(MatchCondition, st.sampled_from(["prefix", "suffix"]), paths)
operations: st.SearchStrategy[Op] = st.one_of(
    st.builds(PutOp, namespaces, names, st.none() | values, index=st.none(), ttl=st.none()),
    st.builds(GetOp, namespaces, names),
    st.builds(
        SearchOp,
        st.lists(names, max_size=2).map(tuple),
        filter=st.dictionaries(names, scalars, max_size=2),
        limit=st.just(100),
        offset=st.just(0),
        query=st.none(),
    ),
    st.builds(
        ListNamespacesOp,
        match_conditions=st.lists(conditions, max_size=2).map(tuple),
        max_depth=st.none() | st.integers(1, 3),
        limit=st.just(100),
        offset=st.just(0),
    ),
)


def plain(result: Any) -> Any:
    """A result without times, in an order of its own."""
    if isinstance(result, list):
        found = [plain(each) if hasattr(each, "key") else list(each) for each in result]
        return sorted(found, key=json.dumps)
    return None if result is None else [list(result.namespace), result.key, result.value]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(st.lists(operations, min_size=1, max_size=6), min_size=1, max_size=6))
def test_it_answers_as_langgraphs_own_store(
    threaded: KnowledgeBase, batches: list[list[Op]]
) -> None:
    ours, theirs = RotinaStore(threaded, route=None), InMemoryStore()
    for item in ours.search((), limit=1000):
        ours.delete(item.namespace, item.key)
    for batch in batches:
        expected = theirs.batch(batch)
        for op, mine, other in zip(batch, ours.batch(batch), expected, strict=True):
            if isinstance(op, ListNamespacesOp):
                # LangGraph's keeps namespaces that hold nothing any more.
                assert isinstance(mine, list)
                assert isinstance(other, list)
                assert set(map(str, mine)) <= set(map(str, other))
                continue
            if isinstance(op, SearchOp) and any(v is None for v in (op.filter or {}).values()):
                continue  # LangGraph's takes a key that is missing for null
            assert plain(mine) == plain(other), op


# ── in a run ──────────────────────────────────────────────────────────────────────────────────


class Visit(BaseModel):
    """Who comes."""

    name: str


class Visits(BaseModel):
    """How often."""

    visits: int


class _State(TypedDict, total=False):
    name: str
    visits: int


async def _count(state: _State, runtime: Runtime[Context]) -> _State:
    assert runtime.store is not None
    known = await runtime.store.aget(("visits",), state["name"])
    visits = (known.value["n"] if known else 0) + 1
    await runtime.store.aput(("visits",), state["name"], {"n": visits})
    return {"visits": visits}


def _build() -> StateGraph[_State, Context, Any, Any]:
    graph = StateGraph(_State, context_schema=Context)
    graph.add_node("count", _count)
    graph.add_edge(START, "count")
    graph.add_edge("count", END)
    return graph


VISIT = Workflow(name="visit", input=Visit, output=Visits, build=_build)


async def test_runs_remember_each_other(pool: Pool) -> None:
    async with staged(pool, [VISIT]) as stage:
        for expected in (1, 2, 3):
            accepted = await stage.store.accept(VISIT, {"name": "ana"})
            await stage.driver.drive(accepted.id)
            run = await stage.store.get(accepted.id)
            assert (run.state, run.result) == ("succeeded", {"visits": expected}), run.error
        item = await RotinaStore(stage.knowledge).aget(("visits",), "ana")
        assert item is not None
        assert item.value == {"n": 3}
        async with pool.connection() as connection:
            cursor = await connection.execute(
                "select kind, count(*) as n from rotina.recorded group by kind"
            )
            assert await cursor.fetchall() == [{"kind": "memory", "n": 6}]


async def test_two_writers_do_not_wait_in_a_circle(knowledge: KnowledgeBase) -> None:
    store = RotinaStore(knowledge, route=None)
    there = [PutOp(USER, str(n), {"n": n}) for n in range(20)]
    await asyncio.gather(*(store.abatch(there[:: 1 - 2 * (n % 2)]) for n in range(10)))
    assert len(await store.asearch(USER, limit=100)) == 20
    pages = [await store.asearch(USER, limit=8, offset=first) for first in (0, 8, 16)]
    assert sorted(item.value["n"] for page in pages for item in page) == list(range(20))
