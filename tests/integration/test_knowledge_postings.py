"""Words of a large collection are looked up in postings: they say what reading every chunk says."""

import random
from typing import Any

import pytest

from rotina.database import Pool, migrate, migrations, open_pool, query_as_tenant, tenant_scope
from rotina.gateway import Gateway
from rotina.knowledge import About, KnowledgeBase, Passage, Weights
from rotina.knowledge import base as base_module
from rotina.knowledge import search as search_module
from rotina.knowledge.preparing import prepare
from tests.integration.test_knowledge_base import (  # noqa: F401 - fixtures
    document,
    gateway,
    knowledge,
    model,
    rows,
)

WORDS = Weights(vectors=0)
COMMON = ("order", "pedido", "status", "prazo", "invoice", "entregas", "paying", "pagamento")
QUESTIONS = (
    "order status",
    "prazo do pedido zebra3",
    "paying invoices zebra1 zebra2 unicorn",
    "pagamentos e entregas, zebrra4",
    "order order pedido status prazo invoice paying",
)


def text(chance: random.Random, number: int) -> str:
    words = chance.choices(COMMON, weights=[8, 7, 6, 5, 4, 3, 2, 1], k=chance.randint(2, 12))
    return " ".join([*words, f"zebra{number % 9}" if number % 4 == 0 else f"single{number}"])


async def put(base: KnowledgeBase, name: str, texts: dict[str, str]) -> None:
    """In a collection whose name says so some are for `hr` only."""
    collection = await base.get(name)
    batch = [
        prepare(
            document(said, uri),
            collection,
            About(
                metadata={"even": int(uri) % 2 == 0, "n": int(uri)},
                language="pt" if int(uri) % 3 == 0 else "en",
                access=["hr"] if name.endswith("-hr") and int(uri) % 5 == 0 else [],
            ),
            whole=True,
        )
        for uri, said in texts.items()
    ]
    vectors = [[1.0, int(uri) % 7, int(uri) % 11, 0, 0.01] for uri in texts]
    await base.put(collection, batch, vectors, model="scripted")


async def live(base: KnowledgeBase, name: str, *, settled: bool) -> None:
    """Documents come, change and go; postings are written now and then, and there is a tail."""
    chance = random.Random(3)
    await base.create(name)
    for first in range(1, 241, 20):
        numbers = range(first, first + 20)
        await put(base, name, {str(n): text(chance, n) for n in numbers})
        if settled:
            await base.index(await base.get(name))
        if first % 60 == 1:
            await put(base, name, {str(n): text(chance, n + 1) for n in range(1, first, 9)})
            await base.discard(name, [str(n) for n in range(5, first, 13)])
    await put(base, name, {str(n): text(chance, n) for n in range(300, 306)})
    await base.discard(name, [str(n) for n in range(7, 306, 10)])


async def answers(base: KnowledgeBase, name: str, **asked: Any) -> list[dict[str, float]]:
    """To each question, what is found and how well it fits."""
    found = [await base.search(name, each, k=300, weights=WORDS, **asked) for each in QUESTIONS]
    return [{each.uri: each.text_score for each in some} for some in found]


def alike(some: list[dict[str, float]], others: list[dict[str, float]], most: float) -> bool:
    """Whether the same is found, with scores that differ by so much at most."""
    pairs = list(zip(some, others, strict=True))
    assert all(one.keys() == other.keys() for one, other in pairs)
    return max(abs(one[uri] - other[uri]) for one, other in pairs for uri in one) <= most


@pytest.fixture
async def both(
    knowledge: KnowledgeBase,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> KnowledgeBase:
    """The same documents in the pool and in tables of their own."""
    await live(knowledge, "pooled", settled=False)
    await live(knowledge, "pooled-hr", settled=False)
    monkeypatch.setattr(base_module, "POOLED_CHUNKS", 30)
    monkeypatch.setattr(base_module, "UNPOSTED_CHUNKS", 15)
    monkeypatch.setattr(base_module, "EXACT_CHUNKS", 50)
    monkeypatch.setattr(search_module, "EXACT_CHUNKS", 50)
    await live(knowledge, "settled", settled=True)
    await live(knowledge, "settled-hr", settled=True)
    return knowledge


async def test_postings_say_what_reading_says(
    both: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled, settled = await both.get("pooled"), await both.get("settled")
    assert (pooled.home.int, settled.home) == (0, settled.id)
    assert (pooled.chunks, pooled.words) == (settled.chunks, settled.words)
    assert settled.unposted > 0, "there is a tail"
    assert settled.dead > 0, "postings name chunks that are no more"
    assert alike(await answers(both, "settled"), await answers(both, "pooled"), 0.05)
    for given in ({"n": {"$lt": 40}}, {"even": True}):
        through = await answers(both, "settled", filter=given)
        assert alike(through, await answers(both, "pooled", filter=given), 0.05)
    assert await both.search("settled", "order", weights=WORDS, filter={"n": 9999}) == []
    monkeypatch.setattr(base_module, "UNPOSTED_CHUNKS", 0)
    await both.index(settled)
    settled = await both.get("settled")
    assert (settled.unposted, settled.dead) == (0, 0)
    assert alike(await answers(both, "settled"), await answers(both, "pooled"), 0.01)


async def test_who_may_see_what_is_the_same_through_postings(both: KnowledgeBase) -> None:
    options: dict[str, Any]
    for options in ({"access": []}, {"access": ["hr"]}, {}, {"filter": {"even": True}}):
        through = await answers(both, "settled-hr", **options)
        read = await answers(both, "pooled-hr", **options)
        assert [some.keys() for some in through] == [some.keys() for some in read]


async def test_segments_stay_few_and_the_dead_are_left_out_at_last(
    both: KnowledgeBase,
    pool: Pool,
) -> None:
    settled = await both.get("settled")
    kept = await rows(pool, "select segments, posted from rotina.collection where name='settled'")
    assert len(kept[0]["segments"]) <= 4
    assert kept[0]["segments"] == sorted(kept[0]["segments"])
    before = await answers(both, "settled")
    await both.discard("settled", [str(n) for n in range(1, 200)])
    left = await answers(both, "settled")
    assert [set(some) for some in left] == [{u for u in some if int(u) >= 200} for some in before]
    assert (await both.get("settled")).dead > settled.dead
    await both.index(await both.get("settled"))
    assert (await both.get("settled")).dead == 0
    assert alike(await answers(both, "settled"), left, 0.1)
    await both.discard("settled")
    assert await both.search("settled", "order status") == []
    await both.delete("settled")


async def test_common_words_count_though_they_bring_in_nothing(
    both: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk's score is the whole formula's, whichever words it was found by."""
    monkeypatch.setattr(base_module, "UNPOSTED_CHUNKS", 0)
    await both.index(await both.get("settled"))
    whole = await answers(both, "pooled")
    monkeypatch.setattr(search_module, "ENOUGH", 0)
    monkeypatch.setattr(search_module, "RARE", 20)
    few = await answers(both, "settled")
    assert 0 < len(few[2]) < len(whole[2])
    for some, every in zip(few, whole, strict=True):
        assert {uri: every[uri] for uri in some} == pytest.approx(some, abs=0.01)


@pytest.mark.parametrize("kind", ["", "-hr"])
async def test_a_filter_that_leaves_many_never_starves_the_words(
    both: KnowledgeBase, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Through both indexes, each document judged when one of its chunks is found."""
    monkeypatch.setattr(search_module, "CANDIDATES", 4)

    async def asked(name: str) -> list[Passage]:
        return await both.search(
            name + kind, "zebra4 order", k=8, filter={"even": True}, access=[],
            vector=[1.0, 0, 0, 0, 0],
        )  # fmt: skip

    assert (await both.get("settled" + kind)).current.indexed
    found = await asked("settled")
    assert len(found) == 8
    assert all(passage.metadata["even"] for passage in found)
    assert not kind or all(int(passage.uri) % 5 for passage in found)
    right = {p.uri for p in await asked("pooled") if "zebra4" in p.text}
    assert right <= {passage.uri for passage in found}


async def test_what_a_filter_leaves_is_not_asked_at_each_search(
    both: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def counted(*values: Any, **options: Any) -> Any:
        told = str(values[2])
        asked.extend(["estimate"] if "estimate_documents" in told else [])
        return await query_as_tenant(*values, **options)

    monkeypatch.setattr(search_module, "query_as_tenant", counted)
    for _ in range(3):
        assert len(await both.search("settled", "order", filter={"even": True})) == 8
    assert len(asked) == 1
    await both.search("settled", "order", filter={"even": False})
    assert len(asked) == 2
    monkeypatch.setattr(search_module, "SHARE_SECONDS", -1.0)
    await both.search("settled", "order", filter={"n": 1})
    await both.search("settled", "order", filter={"n": 1})
    assert len(asked) == 4


OLD_CHUNK = """
    insert into rotina.chunk (
        home, id, tenant, collection_id, document_id, index, span_start, span_end, section,
        context, text, length, words
    ) select c.home, gen_random_uuid(), 'acme', c.id, d.id, 0, 0, length(d.text), '', '', d.text,
        2, to_tsvector('english', d.text)
    from rotina.collection c join rotina.document d on d.collection_id = c.id where d.uri = %s
"""
OLD_DOCUMENT = """
    insert into rotina.document (
        id, tenant, collection_id, uri, name, media_type, language, sha256, content_hash, text,
        pages, metadata, chunks, words
    ) values (gen_random_uuid(), 'acme', %s, %s, %s, '', 'en', '', '', %s, '[]', '{}', 1, 2)
"""


async def test_collections_from_before_are_found_by_words(
    empty_database_url: str,
    gateway: Gateway,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the pool and settled; and what code from before inserts while it is replaced."""
    every = migrations._own()
    before = [each for each in every if each.name < "00.03.00_21"]
    monkeypatch.setattr(migrations, "_own", lambda: before)
    await migrate(empty_database_url)

    async def insert(name: str, uri: str) -> None:
        async with tenant_scope(pool, "acme") as connection:
            cursor = await connection.execute(
                "select id from rotina.collection where name = %s", [name]
            )
            row = await cursor.fetchone()
            assert row is not None
            await connection.execute(OLD_DOCUMENT, [row["id"], uri, uri, f"Refund {uri}"])
            await connection.execute(OLD_CHUNK, [uri])

    async with open_pool(empty_database_url) as pool:
        for name in ("pooled", "settled"):
            async with tenant_scope(pool, "acme") as connection:
                await connection.execute(
                    "insert into rotina.collection (id, tenant, name, language) "
                    "values (gen_random_uuid(), 'acme', %s, 'en')",
                    [name],
                )
                await connection.execute(
                    "insert into rotina.space (id, tenant, collection_id, route, state, model, "
                    "dimension) select gen_random_uuid(), 'acme', id, 'embed', 'current', 'm', 5 "
                    "from rotina.collection where name = %s",
                    [name],
                )
            for number in range(3):
                await insert(name, f"{name}{number}")
        async with tenant_scope(pool, "acme") as connection:
            await connection.execute(
                "select rotina.settle_collection(id) from rotina.collection where name = 'settled'"
            )
        monkeypatch.setattr(migrations, "_own", lambda: [*before, every[len(before)]])
        await migrate(empty_database_url)
        await insert("pooled", "pooled3")
        await insert("settled", "settled3")
        monkeypatch.setattr(migrations, "_own", lambda: every)
        await migrate(empty_database_url)
    async with open_pool(empty_database_url) as pool:
        base = KnowledgeBase(pool, gateway, "acme")
        for name in ("pooled", "settled"):
            found = await base.search(name, "refund", weights=WORDS)
            assert sorted(each.uri for each in found) == [f"{name}{n}" for n in range(4)]
        collection = await base.get("settled")
        assert (collection.unposted, collection.is_settled) == (1, True)
