"""Several embeddings of one collection, the way out of the pool, and tenants beside each other."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest
from aiohttp import web

from rotina.database import Pool, tenant_scope
from rotina.errors import KnowledgeError
from rotina.gateway import Gateway, RetryPolicy
from rotina.knowledge import About, KnowledgeBase, Weights
from rotina.knowledge import base as base_module
from rotina.knowledge import reindexing as reindexing_module
from rotina.knowledge.preparing import prepare
from rotina.knowledge.reindexing import begin, drop_space, embed_batch, reindex
from rotina.settings import Settings
from tests.integration.test_knowledge_base import document, fill, meaning, named
from tests.scripted_model import Behaviour, Request, ScriptedModel

VECTORS = Weights(text=0)


def by_model(request: Request) -> Behaviour:
    """Two models: `wide` sees the same topics in other places."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        name = request.body["model"]
        rows = [meaning(text) for text in request.body["input"]]
        if name == "wide":
            rows = [[0.0, *reversed(row)] for row in rows]
        data = [{"object": "embedding", "index": i, "embedding": r} for i, r in enumerate(rows)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return web.json_response({"object": "list", "data": data, "model": name, "usage": usage})

    return Behaviour(behave)


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel(by_model) as running:
        yield running


@pytest.fixture
async def gateway(model: ScriptedModel) -> AsyncIterator[Gateway]:
    settings = Settings(
        deployments={
            "one": {"model": "narrow", "base_url": model.base_url},
            "two": {"model": "wide", "base_url": model.base_url},
        },
        routes={"embed": {"deployments": ["one"]}, "better": {"deployments": ["two"]}},
    )
    async with Gateway(settings, retry=RetryPolicy(attempts=1)) as opened:
        yield opened


@pytest.fixture
def knowledge(pool: Pool, gateway: Gateway) -> KnowledgeBase:
    return KnowledgeBase(pool, gateway, "acme")


async def count(pool: Pool, table: str, tenant: str = "acme") -> int:
    async with tenant_scope(pool, tenant) as connection:
        cursor = await connection.execute(f"select count(*) as n from rotina.{table}")
        row = await cursor.fetchone()
    assert row is not None
    return int(row["n"])


async def test_a_collection_is_embedded_anew_while_it_is_used(
    knowledge: KnowledgeBase, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindexing_module, "BATCH", 2)
    await fill(knowledge)
    told: list[tuple[int, int]] = []
    late: list[asyncio.Task[object]] = []

    def progress(done: int, chunks: int) -> None:
        told.append((done, chunks))
        if len(told) == 2:
            adding = knowledge.add("help", document("Refund of a late delivery.", "late.md"))
            late.append(asyncio.create_task(adding))

    asked = asyncio.create_task(reindex(knowledge, "help", "better", progress=progress))
    while not asked.done():
        found = await knowledge.search("help", "refund", k=1, weights=VECTORS)
        assert named(found) == ["refund.md"]
        assert found[0].vector_score > 0.99
    collection = await asked
    await late[0]
    assert (collection.model, collection.dimension, collection.route) == ("wide", 6, "better")
    assert [space.state for space in collection.spaces] == ["current"]
    assert told[-1][0] == told[-1][1]
    assert await count(pool, "embedding") == await count(pool, "chunk") == 7
    both = await knowledge.search("help", "refund delivery", k=1, weights=VECTORS)
    assert named(both) == ["late.md"]


async def test_two_embeddings_side_by_side(knowledge: KnowledgeBase, pool: Pool) -> None:
    await fill(knowledge)
    await reindex(knowledge, "help", "better", keep=True)
    await knowledge.add("help", document("Moon landing.", "moon.md"))
    assert await count(pool, "embedding") == 2 * 7
    for route in (None, "embed", "better"):
        found = await knowledge.search("help", "moon", k=1, weights=VECTORS, route=route)
        assert named(found) == ["moon.md"], route
    assert (await knowledge.vectors("help", route="embed")).matrix.shape == (7, 5)
    assert (await knowledge.vectors("help")).matrix.shape == (7, 6)
    with pytest.raises(KnowledgeError, match="embedded by route 'better' already"):
        await reindex(knowledge, "help", "better")
    with pytest.raises(KnowledgeError, match="no vectors by route 'third', only by 'better'"):
        await knowledge.search("help", "moon", route="third")
    with pytest.raises(KnowledgeError, match="nothing to drop"):
        await drop_space(knowledge, "help", "better")
    await drop_space(knowledge, "help", "embed")
    assert await count(pool, "embedding") == 7
    await knowledge.add("help", document("Moon base.", "moon.md"))
    await knowledge.delete("help", "senha.md")
    assert await count(pool, "embedding") == 6


async def test_what_was_interrupted_goes_on(
    knowledge: KnowledgeBase, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindexing_module, "BATCH", 2)
    await fill(knowledge)

    def stop(done: int, chunks: int) -> None:
        if done == 4:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        await reindex(knowledge, "help", "better", progress=stop)
    assert [each.state for each in (await knowledge.get("help")).spaces] == ["current", "building"]
    with pytest.raises(KnowledgeError, match="finish that, or drop it"):
        await reindex(knowledge, "help", "narrow")
    with pytest.raises(KnowledgeError, match="no vectors by route 'better'"):
        await knowledge.search("help", "refund", route="better")
    asked = len(model.requests)
    await reindex(knowledge, "help", "better")
    texts = [text for each in model.requests[asked:] for text in each.body["input"]]
    assert len([text for text in texts if text != "?"]) == 2


async def test_vectors_of_two_models_are_not_mixed(
    knowledge: KnowledgeBase, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindexing_module, "BATCH", 2)
    await fill(knowledge)
    await embed_batch(knowledge, "help", (await begin(knowledge, "help", "better")).id)

    def renamed(request: Request) -> Behaviour:
        """The server answers by `narrow`, whatever it is asked for."""
        other = replace(request, body={**request.body, "model": "narrow"})
        return Behaviour(lambda http, _: by_model(other).run(http, other))

    model.script = renamed
    with pytest.raises(KnowledgeError, match=r"half embedded by 'wide'.* leads to 'narrow': point"):
        await reindex(knowledge, "help", "better")
    model.script = by_model
    await reindex(knowledge, "help", "better", keep=True)
    await reindex(knowledge, "help", "embed", keep=True)
    model.script = renamed
    made = await reindex(knowledge, "help", "better", keep=True)
    told = [(each.route, each.model, each.state) for each in made.spaces]
    assert told == [("better", "narrow", "current"), ("embed", "narrow", "ready")]


@pytest.mark.parametrize("settled", [False, True])
async def test_a_neighbour_a_hundred_times_as_large_changes_nothing(
    pool: Pool, gateway: Gateway, *, settled: bool
) -> None:
    """Neither which rows a tenant finds, nor how many: the nearest by NumPy, before and after."""
    numbers = np.random.default_rng(11)
    own = numbers.normal(size=(30, 5))
    questions = numbers.normal(size=(20, 5))

    async def stock(base: KnowledgeBase, vectors: np.ndarray) -> None:
        await base.create("help")
        collection = await base.get("help")
        batch = [
            prepare(document(f"Refund rule {n}.", f"{n}.md"), collection, About())
            for n in range(len(vectors))
        ]
        await base.put(collection, batch, vectors.tolist())

    async def asked(weights: Weights) -> list[list[tuple[str, float]]]:
        found = [
            await base.search("help", "refund rule", k=10, weights=weights, vector=each.tolist())
            for each in questions
        ]
        return [[(passage.text, passage.score) for passage in each] for each in found]

    base = KnowledgeBase(pool, gateway, "small")
    await stock(base, own)
    likeness = questions @ (own / np.linalg.norm(own, axis=1, keepdims=True)).T
    nearest = [{f"Refund rule {n}." for n in row} for row in np.argsort(-likeness)[:, :10]]
    kinds = (Weights(text=0), Weights(vectors=0), Weights())
    before = [await asked(weights) for weights in kinds]
    assert [{text for text, _ in found} for found in before[0]] == nearest

    neighbour = KnowledgeBase(pool, gateway, "large")
    await stock(neighbour, numbers.normal(size=(3000, 5)))
    if settled:
        await neighbour.index(await neighbour.get("help"))
        large = await neighbour.get("help")
        assert large.home == large.id, "it has left the pool"
    assert [await asked(weights) for weights in kinds] == before


async def test_a_large_collection_leaves_the_pool(
    knowledge: KnowledgeBase, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(knowledge)
    other = KnowledgeBase(pool, knowledge.gateway, "rival")
    await fill(other)
    before = await knowledge.search("help", "refund", k=10)
    rivals = await other.search("help", "refund", k=10)
    reader = KnowledgeBase(pool, knowledge.gateway, "acme")
    assert await reader.search("help", "refund", k=10) == before
    monkeypatch.setattr(base_module, "POOLED_CHUNKS", 5)
    monkeypatch.setattr(base_module, "EXACT_CHUNKS", 5)
    assert await knowledge.index(await knowledge.get("help"))
    collection = await knowledge.get("help")
    assert collection.home == collection.id
    assert collection.current.indexed
    assert await reader.search("help", "refund", k=10) == before, "though it knew another place"
    assert await other.search("help", "refund", k=10) == rivals
    await reindex(knowledge, "help", "better")
    assert named(await reader.search("help", "moon refund", k=10)) == named(
        await knowledge.search("help", "moon refund", k=10)
    )
    await knowledge.add("help", document("Moon landing.", "moon.md"))
    await knowledge.delete("help", "senha.md")
    assert await count(pool, "chunk") == await count(pool, "embedding") == 6
    await knowledge.delete("help")
    assert await count(pool, "embedding") == await count(pool, "chunk") == 0
    assert await other.search("help", "refund", k=10) == rivals


async def test_counts_follow_every_change(knowledge: KnowledgeBase, pool: Pool) -> None:
    await fill(knowledge)
    await knowledge.add("help", document("Refunds. " * 300, "refund.md"), access=["x"])
    await knowledge.delete("help", "senha.md")
    await knowledge.discard("help", ["entrega.md", "reembolso.md", "unknown"])
    await knowledge.add("help", document("Férias são de trinta dias."), language="pt")
    stats = await knowledge.stats("help")
    found = await knowledge.get("help")
    assert (stats.documents, found.english, found.portuguese, found.restricted) == (4, 3, 1, 1)
    async with tenant_scope(pool, "acme") as connection:
        cursor = await connection.execute(
            "select count(*) as chunks, sum(length)::int as words from rotina.chunk"
        )
        assert await cursor.fetchone() == {"chunks": stats.chunks, "words": stats.words}
    await knowledge.discard("help")
    stats = await knowledge.stats("help")
    assert (stats.documents, stats.chunks, stats.words) == (0, 0, 0)


async def test_vectors_are_scaled_and_in_order(knowledge: KnowledgeBase) -> None:
    await fill(knowledge)
    found = await knowledge.vectors("help")
    assert found.matrix.shape == (6, 5)
    assert found.matrix.dtype == np.float32
    assert found.documents == sorted(found.documents)
    expected = np.array([meaning(text) for text in found.texts])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(found.matrix, expected, atol=1e-3)
    assert found.metadata[found.documents.index("refund.md")] == {"team": "billing", "year": 2024}
    await knowledge.create("empty")
    assert (await knowledge.vectors("empty")).matrix.shape == (0, 0)


TENANTS = 8
LONG = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("queries", [1000, pytest.param(100_000, marks=LONG)])
async def test_no_query_returns_a_foreign_row(pool: Pool, gateway: Gateway, queries: int) -> None:
    """Every tenant has the same names, URIs and words; only the vectors' noise and texts differ."""
    numbers = np.random.default_rng(5)
    chance = random.Random(5)
    bases = [KnowledgeBase(pool, gateway, f"tenant{n}") for n in range(TENANTS)]
    for tenant, base in enumerate(bases):
        await base.create("help")
        collection = await base.get("help")
        batch = [
            prepare(
                document(f"Refund secret of tenant{tenant}, rule {n}.", f"{n}.md"),
                collection,
                About(metadata={"n": n, "tenant": f"tenant{tenant}"}),
            )
            for n in range(30)
        ]
        await base.put(collection, batch, numbers.normal(size=(30, 5)).tolist())
    foreign = 0

    async def ask(number: int) -> None:
        nonlocal foreign
        tenant = chance.randrange(TENANTS)
        victim = chance.randrange(TENANTS)
        filters = (
            None,
            {"tenant": f"tenant{victim}"},
            {"$or": [{"n": {"$gte": 0}}, {"tenant": {"$ne": f"tenant{tenant}"}}]},
            {"tenant' or true or '": {"$exists": False}},
        )
        found = await bases[tenant].search(
            "help",
            f"refund secret of tenant{victim}, rule {number % 30}",
            k=chance.choice([1, 10, 100]),
            filter=chance.choice(filters),
            weights=chance.choice([Weights(text=0), Weights(vectors=0), Weights()]),
            vector=numbers.normal(size=5).tolist(),
            as_of=None,
        )
        foreign += sum(f"tenant{tenant}," not in passage.text for passage in found)

    for first in range(0, queries, 10):
        await asyncio.gather(*(ask(number) for number in range(first, first + 10)))
    assert foreign == 0
