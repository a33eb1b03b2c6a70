"""The knowledge base on a real PostgreSQL, embedded over real HTTP by a scripted server."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from math import cos, sin
from typing import Any

import psycopg
import pytest
from aiohttp import web
from psycopg import errors
from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from rotina.database import Pool, load_queries, tenant_scope
from rotina.errors import (
    CollectionNotFoundError,
    EmptyDocumentError,
    FilterError,
    KnowledgeError,
    ModelServerError,
)
from rotina.gateway import Gateway, RetryPolicy
from rotina.knowledge import Document, KnowledgeBase, Page, Weights
from rotina.knowledge import base as base_module
from rotina.knowledge import search as search_module
from rotina.knowledge.preparing import About, prepare
from rotina.settings import Settings
from tests.scripted_model import Behaviour, Request, ScriptedModel, status

TOPICS = ("refund", "password", "delivery", "reembolso", "senha", "entrega", "moon")
"""What the scripted embedding knows; a word and its translation point the same way."""


def meaning(text: str) -> list[float]:
    """A vector with a component a topic: what a multilingual model would see."""
    lowered = text.lower()
    seen = [float(lowered.count(word)) for word in TOPICS]
    joined = [seen[0] + seen[3], seen[1] + seen[4], seen[2] + seen[5], seen[6]]
    return [*joined, 0.01]


def embedding(request: Request, model: str = "scripted", extra: int = 0) -> Behaviour:
    """An embeddings answer made of `meaning`."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        data = [
            {"object": "embedding", "index": i, "embedding": meaning(text) + [0.0] * extra}
            for i, text in enumerate(request.body["input"])
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return web.json_response({"object": "list", "data": data, "model": model, "usage": usage})

    return Behaviour(behave)


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel(embedding) as running:
        yield running


@pytest.fixture
async def gateway(model: ScriptedModel) -> AsyncIterator[Gateway]:
    deployment = {"model": "scripted", "base_url": model.base_url}
    settings = Settings(deployments={"one": deployment}, routes={"embed": {"deployments": ["one"]}})
    async with Gateway(settings, retry=RetryPolicy(attempts=1)) as opened:
        yield opened


@pytest.fixture
def knowledge(pool: Pool, gateway: Gateway) -> KnowledgeBase:
    return KnowledgeBase(pool, gateway, "acme")


def document(text: str, name: str = "a.txt", **metadata: str) -> Document:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Document(name=name, media_type="text/plain", sha256=sha256, text=text, metadata=metadata)


async def fill(knowledge: KnowledgeBase) -> None:
    """A small bilingual help centre, with metadata."""
    await knowledge.create("help")
    entries: list[tuple[str, str, dict[str, Any]]] = [
        ("refund.md", "Refunds take seven days.", {"team": "billing", "year": 2024}),
        ("password.md", "Reset your password by e-mail.", {"team": "accounts", "year": 2025}),
        ("delivery.md", "Delivery is free above 50.", {"team": "logistics", "tags": ["a", "b"]}),
        ("reembolso.md", "O reembolso leva sete dias úteis.", {"team": "billing", "year": 2025}),
        ("senha.md", "Redefina a senha pelo e-mail.", {"team": "accounts", "year": 2026}),
        ("entrega.md", "A entrega é grátis acima de R$ 50.", {"draft": True, "day": "2025-03-01"}),
    ]
    for name, text, metadata in entries:
        await knowledge.add("help", document(text, name), metadata=metadata)


def named(passages: list[Any]) -> list[str]:
    return [passage.document for passage in passages]


async def rows(pool: Pool, sql: Any, *values: Any) -> list[dict[str, Any]]:
    """As acme."""
    async with tenant_scope(pool, "acme") as connection:
        return await (await connection.execute(sql, values)).fetchall()


# ── adding ────────────────────────────────────────────────────────────────────────────────────


async def test_spans_and_pages_survive_the_way_through_the_database(
    knowledge: KnowledgeBase,
) -> None:
    first = "Café com açu\u0301car 👩‍👩‍👧‍👦. " * 80
    text = first + "\n\n" + "Refund 語 \U00020000 e\u0301. " * 90
    pages = [
        Page(number=1, start=0, end=len(first)),
        Page(number=2, start=len(first) + 2, end=len(text)),
    ]
    await knowledge.create("help")
    added = await knowledge.add("help", document(text).model_copy(update={"pages": pages}))
    found = await knowledge.search("help", "café açúcar refund", k=100)
    assert len(found) == added.chunks > 3
    stored = await knowledge.text(added.document_id)
    assert stored == text
    for passage in found:
        assert stored[passage.start : passage.end] == passage.text
        assert passage.page == (1 if passage.start < len(first) else 2)


async def test_the_same_content_again_embeds_nothing(
    knowledge: KnowledgeBase, model: ScriptedModel
) -> None:
    await knowledge.create("help")
    first = await knowledge.add("help", document("Refunds."), metadata={"year": 2024})
    asked = len(model.requests)
    again = await knowledge.add("help", document("Refunds."), metadata={"year": 2025})
    assert (first.unchanged, again.unchanged) == (False, True)
    assert (again.document_id, again.chunks, again.version) == (first.document_id, 1, 1)
    assert len(model.requests) == asked == 1
    (stored,) = await knowledge.documents("help")
    assert stored.metadata == {"year": 2025}, "new metadata is taken over"


async def test_changed_content_replaces_the_chunks(knowledge: KnowledgeBase) -> None:
    await knowledge.create("help")
    first = await knowledge.add("help", document("Refunds take seven days. " * 100))
    second = await knowledge.add("help", document("Delivery is free."))
    assert (second.document_id, second.version) == (first.document_id, 2)
    assert [each.text for each in await knowledge.search("help", "refunds")] == [
        "Delivery is free."
    ]
    assert (await knowledge.stats("help")).chunks == 1


async def test_a_failed_embedding_leaves_what_was_there(
    knowledge: KnowledgeBase, model: ScriptedModel
) -> None:
    await knowledge.create("help")
    await knowledge.add("help", document("Refunds take seven days."))
    model.script = status(500)
    with pytest.raises(ModelServerError):
        await knowledge.add("help", document("Delivery is free."))
    model.script = embedding
    (found,) = await knowledge.search("help", "refunds")
    assert found.text == "Refunds take seven days."


async def test_adding_at_once_leaves_one_version_of_each(knowledge: KnowledgeBase) -> None:
    await knowledge.create("help")
    texts = [f"Refund number {n}. " * 60 for n in range(6)]
    await asyncio.gather(*(knowledge.add("help", document(text)) for text in texts))
    (stored,) = await knowledge.documents("help")
    assert stored.version == 6
    found = await knowledge.search("help", "refund", k=100)
    assert len(found) == stored.chunks
    text = await knowledge.text(stored.id)
    assert text in texts
    assert all(text[each.start : each.end] == each.text for each in found)


@pytest.mark.parametrize("text", ["", " \n ", "…!? — \u200b"])
async def test_an_empty_document(knowledge: KnowledgeBase, text: str) -> None:
    await knowledge.create("help")
    with pytest.raises(EmptyDocumentError, match=r"'a\.txt' has no words"):
        await knowledge.add("help", document(text))


@pytest.mark.parametrize(
    ("text", "metadata", "message"),
    [
        ("refund \x00", {}, "NUL characters or lone surrogates"),
        ("refund \ud800", {}, "NUL characters or lone surrogates"),
        ("refund", {"a\x00": 1}, "NUL characters or lone surrogates"),
        ("refund", {"a": ["\udfff"]}, "NUL characters or lone surrogates"),
        ("refund", {"a": float("nan")}, "no JSON"),
        ("refund", {"a": object()}, "no JSON"),
    ],
)
async def test_what_postgresql_cannot_store(
    knowledge: KnowledgeBase, text: str, metadata: dict[str, Any], message: str
) -> None:
    await knowledge.create("help")
    bad = Document(name="a.txt", media_type="text/plain", sha256="0" * 64, text=text)
    with pytest.raises(KnowledgeError, match=message):
        await knowledge.add("help", bad, metadata=metadata)
    assert (await knowledge.stats("help")).documents == 0


async def test_another_model_than_the_collections(
    knowledge: KnowledgeBase, model: ScriptedModel
) -> None:
    await knowledge.create("help")
    await knowledge.add("help", document("Refunds."))
    for script in (
        lambda request: embedding(request, extra=2),
        lambda request: embedding(request, model="newer"),
    ):
        model.script = script
        with pytest.raises(KnowledgeError, match=r"'help' are 'scripted''s, with 5 .*again"):
            await knowledge.add("help", document("Delivery."))
        with pytest.raises(KnowledgeError, match="cannot be compared"):
            await knowledge.search("help", "delivery")
    (stored,) = await knowledge.documents("help")
    assert stored.version == 1


async def test_collections_of_different_dimensions_live_side_by_side(
    knowledge: KnowledgeBase, model: ScriptedModel
) -> None:
    await fill(knowledge)
    model.script = lambda request: embedding(request, extra=7)
    await knowledge.create("wide")
    await knowledge.add("wide", document("Refunds."))
    assert (await knowledge.get("wide")).dimension == 12
    assert named(await knowledge.search("wide", "refund")) == ["a.txt"]


# ── collections ───────────────────────────────────────────────────────────────────────────────


async def test_collections_are_made_listed_and_deleted(
    knowledge: KnowledgeBase, pool: Pool
) -> None:
    await fill(knowledge)
    await knowledge.create("other", language="pt")
    assert [each.name for each in await knowledge.collections()] == ["help", "other"]
    with pytest.raises(KnowledgeError, match="There is a collection 'help' already"):
        await knowledge.create("help")
    kept = await knowledge.create("help", if_missing=True)
    assert (kept.model, kept.dimension) == ("scripted", 5)
    stats = await knowledge.stats("help")
    assert (stats.documents, stats.chunks, stats.languages) == (6, 6, ["en", "pt"])
    assert not stats.indexed
    await knowledge.delete("help", "refund.md")
    assert "refund.md" not in named(await knowledge.search("help", "refund"))
    with pytest.raises(KnowledgeError, match=r"no document 'refund\.md' in 'help'"):
        await knowledge.delete("help", "refund.md")
    await knowledge.delete("help")
    with pytest.raises(CollectionNotFoundError, match=r"'help': `rotina kb create help`"):
        await knowledge.search("help", "refund")
    left = await rows(pool, "select relname from pg_class where relname like 'chunk\\_%%\\_hnsw'")
    assert left == []
    await knowledge.create("help")
    assert await knowledge.search("help", "refund") == []


async def test_many_make_the_same_collection_at_once(knowledge: KnowledgeBase) -> None:
    made = await asyncio.gather(*(knowledge.create("help", if_missing=True) for _ in range(4)))
    assert len({each.id for each in made}) == 1


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 101, 'a"; drop', "ação"])
async def test_a_malformed_name(knowledge: KnowledgeBase, name: str) -> None:
    with pytest.raises(KnowledgeError, match="is no collection's name"):
        await knowledge.create(name)


@pytest.mark.parametrize("call", ["add", "search", "stats", "delete", "vectors", "documents"])
async def test_an_unknown_collection(knowledge: KnowledgeBase, call: str) -> None:
    given: dict[str, tuple[Any, ...]] = {"add": (document("a"),), "search": ("a",)}
    with pytest.raises(CollectionNotFoundError, match="no collection 'absent'"):
        await getattr(knowledge, call)("absent", *given.get(call, ()))


# ── searching ─────────────────────────────────────────────────────────────────────────────────


async def test_words_find_what_vectors_do_not_and_the_other_way_round(
    knowledge: KnowledgeBase,
) -> None:
    await fill(knowledge)
    words, vectors = Weights(vectors=0), Weights(text=0)
    (first, *_) = await knowledge.search("help", "E-MAIL, redefinir?", weights=words)
    assert first.document == "senha.md"
    assert named(await knowledge.search("help", "How do I get money", weights=words)) == []
    (first, *_) = await knowledge.search("help", "Onde vejo minha senha", weights=vectors)
    assert first.document in {"senha.md", "password.md"}
    assert first.vector_score > 0.9
    assert first.text_score == 0


async def test_a_question_in_the_other_language(knowledge: KnowledgeBase) -> None:
    await fill(knowledge)
    await knowledge.delete("help", "refund.md")
    assert named(await knowledge.search("help", "When do I get my refund?"))[0] == "reembolso.md"
    await knowledge.delete("help", "senha.md")
    assert named(await knowledge.search("help", "Esqueci a senha"))[0] == "password.md"


async def test_accents_case_and_inflection_do_not_matter(knowledge: KnowledgeBase) -> None:
    await knowledge.create("rules", language="pt")
    await knowledge.add("rules", document("As INSCRIÇÕES são gratuitas.", "a"))
    await knowledge.add("rules", document("O prazo é de dez dias.", "b"))
    words = Weights(vectors=0)
    for question in ("inscrições", "Inscricoes", "INSCRIC\u0327O\u0303ES", "gratuito"):
        assert named(await knowledge.search("rules", question, weights=words)) == ["a"], question


async def test_rare_words_outweigh_common_ones(knowledge: KnowledgeBase) -> None:
    """What ts_rank cannot do: a chunk that repeats common words loses against a rare word."""
    await knowledge.create("help", language="en")
    for number in range(20):
        await knowledge.add("help", document("order order order status order", f"common-{number}"))
    await knowledge.add("help", document("One word about customs in a longer text.", "rare"))
    found = await knowledge.search("help", "order status customs", weights=Weights(vectors=0))
    assert found[0].document == "rare"


async def test_bm25_is_the_formula(knowledge: KnowledgeBase) -> None:
    """Against numbers computed by hand from the definition."""
    import math

    await knowledge.create("help", language="en")
    texts = ["zebra zebra lion", "zebra", "tiger bear wolf fox"]
    for number, text in enumerate(texts):
        await knowledge.add("help", document(text, str(number)))
    found = await knowledge.search("help", "zebra lion unicorn", weights=Weights(vectors=0))
    told = {passage.document: passage.text_score for passage in found}

    def idf(holds: int) -> float:
        return math.log(1 + (3 - holds + 0.5) / (holds + 0.5))

    def share(frequency: int, length: int) -> float:
        return frequency / (frequency + 1.2 * (0.25 + 0.75 * length / (8 / 3)))

    total = idf(2) + idf(1) + idf(0)
    assert told["1"] == pytest.approx(idf(2) * share(1, 1) / total, rel=1e-4)
    both = (idf(2) * share(2, 3) + idf(1) * share(1, 3)) / total
    assert told["0"] == pytest.approx(both, rel=0.01)
    assert set(told) == {"0", "1"}


@pytest.mark.parametrize(
    "question",
    [
        "'; drop table rotina.run; --",
        "a & | ! <-> :* ()",
        "\\ ' \" %s {} %(k)s",
        "refund\x00\ud800",
    ],
)
async def test_odd_questions_are_only_words(
    knowledge: KnowledgeBase, model: ScriptedModel, question: str
) -> None:
    await fill(knowledge)
    if "\x00" in question:
        assert len(await knowledge.search("help", question, weights=Weights(vectors=0))) == 1
    else:
        assert len(await knowledge.search("help", question)) == 6


async def test_a_long_question(knowledge: KnowledgeBase) -> None:
    await fill(knowledge)
    question = "refund " + " ".join(f"word{n}" for n in range(20_000))
    assert named(await knowledge.search("help", question))[0] == "refund.md"


@pytest.mark.parametrize(("query", "k", "message"), [(" \n", 8, "empty"), ("a", 0, "k is 0")])
async def test_what_cannot_be_asked(
    knowledge: KnowledgeBase, query: str, k: int, message: str
) -> None:
    await knowledge.create("help")
    with pytest.raises(KnowledgeError, match=message):
        await knowledge.search("help", query, k=k)


# ── filters ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"team": "billing"}, {"refund.md", "reembolso.md"}),
        ({"team": "billing", "year": 2025}, {"reembolso.md"}),
        ({"tags": "a"}, {"delivery.md"}),
        ({"draft": True}, {"entrega.md"}),
        ({"team": {"$in": ["accounts", "logistics"]}}, {"password.md", "delivery.md", "senha.md"}),
        ({"team": {"$in": []}}, set()),
        ({"team": {"$nin": ["accounts", "billing"]}}, {"delivery.md", "entrega.md"}),
        ({"team": {"$ne": "billing"}}, {"password.md", "delivery.md", "senha.md", "entrega.md"}),
        ({"year": {"$gte": 2025, "$lt": 2026}}, {"password.md", "reembolso.md"}),
        ({"year": {"$gt": 2024.5}}, {"password.md", "reembolso.md", "senha.md"}),
        ({"year": {"$gt": "2000"}}, set()),
        ({"day": {"$lte": "2025-12-31"}}, {"entrega.md"}),
        ({"day": {"$exists": True}}, {"entrega.md"}),
        ({"team": {"$exists": False}}, {"entrega.md"}),
        ({"$or": [{"year": 2024}, {"draft": True}]}, {"refund.md", "entrega.md"}),
        ({"$not": {"year": {"$lte": 2025}}}, {"delivery.md", "senha.md", "entrega.md"}),
        ({"$and": [{"year": 2025}, {"$not": {"team": "billing"}}]}, {"password.md"}),
        ({"absent": None}, set()),
    ],
)
async def test_filters(knowledge: KnowledgeBase, given: dict[str, Any], expected: set[str]) -> None:
    await fill(knowledge)
    assert set(named(await knowledge.search("help", "refund", filter=given))) == expected
    assert set((await knowledge.vectors("help", filter=given)).documents) == expected


async def test_a_malformed_filter(knowledge: KnowledgeBase) -> None:
    await fill(knowledge)
    with pytest.raises(FilterError, match="is no filter operator"):
        await knowledge.search("help", "refund", filter={"year": {"$about": 3}})
    with pytest.raises(FilterError, match="is no filter"):
        await knowledge.vectors("help", filter="team=billing")  # type: ignore[arg-type]


# ── HNSW ──────────────────────────────────────────────────────────────────────────────────────


async def load(knowledge: KnowledgeBase, pool: Pool, count: int) -> None:
    """Chunks by the thousand, each a document of its own, one in fifty of them rare."""
    await knowledge.create("big", language="en")
    await knowledge.add("big", document("moon landing", "seed"))
    collection = await knowledge.get("big")
    texts = [f"filler {number}" for number in range(1, count + 1)]
    batch = [
        prepare(
            document(text, str(number)),
            collection,
            About(metadata={"rare": number % 50 == 0, "n": number}),
            whole=True,
        )
        for number, text in enumerate(texts, 1)
    ]
    vectors = [[sin(n), cos(n), sin(n * 0.7), 0, 0.01] for n in range(1, count + 1)]
    await knowledge.put(collection, batch, vectors, model="scripted")
    await knowledge.index(collection)


@pytest.mark.parametrize("exact", [20, 1000])
async def test_the_index_never_starves_a_filter(
    knowledge: KnowledgeBase, pool: Pool, monkeypatch: pytest.MonkeyPatch, exact: int
) -> None:
    """A filter that 60 of 3,000 pass: through the index, and by exact distances."""
    monkeypatch.setattr(base_module, "EXACT_CHUNKS", exact)
    monkeypatch.setattr(search_module, "EXACT_CHUNKS", exact)
    await load(knowledge, pool, 3000)
    collection = await knowledge.get("big")
    assert not await knowledge.index(collection), "it is there"
    assert (await knowledge.stats("big")).indexed
    vectors = Weights(text=0)
    for given in ({"rare": True}, {"n": {"$lte": 60}}, {"$not": {"rare": False}}):
        found = await knowledge.search("big", "refund", k=50, filter=given, weights=vectors)
        assert len(found) == 50, given
        scores = [passage.score for passage in found]
        assert scores == sorted(scores, reverse=True)
    assert named(await knowledge.search("big", "moon", k=1, filter={"n": {"$exists": False}})) == [
        "seed"
    ]
    assert len(await knowledge.search("big", "refund", k=10)) == 10
    assert await knowledge.search("big", "refund", filter={"n": 99_999}) == []
    await knowledge.add("big", document("moon rocks", "seed"))
    assert (await knowledge.search("big", "moon rocks", k=1))[0].text == "moon rocks"


async def test_the_planner_takes_all_indexes(
    knowledge: KnowledgeBase, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_module, "EXACT_CHUNKS", 20)
    await load(knowledge, pool, 3000)
    collection = await knowledge.get("big")
    space = collection.current.id
    assert space == collection.current.home, "it has moved out of the pool"
    explain = f"""
        explain select chunk_id from rotina.embedding
        where home = '{space}' and space_id = '{space}'
        order by embedding::halfvec(5) <=> '[1,0,0,0,0]'::halfvec(5) limit 10
    """
    plan = json.dumps(await rows(pool, explain))
    assert f"embedding_{space.hex}_hnsw" in plan, plan
    async with pool.connection() as connection:
        await connection.execute("analyze rotina.document_part")
        await connection.execute("set enable_seqscan = off")
        await connection.execute("select set_config('rotina.tenant', 'acme', false)")
        statement = "select rotina.documents_statement('$.n == 77', null, null) as said"
        row = await (await connection.execute(statement)).fetchone()
        assert row is not None
        said = row["said"].replace("$1", f"'{collection.id}'").replace("$2", "'$.n == 77'")
        cursor = await connection.execute(f"explain {said}")
        plan = json.dumps(await cursor.fetchall())
        assert "document_part_collection_id_metadata_idx" in plan, plan
        cursor = await connection.execute(
            "explain select entries from rotina.posting "
            f"where home = '{collection.id}' and lexeme = '77'"
        )
        plan = json.dumps(await cursor.fetchall())
    assert "posting_pkey" in plan, plan
    words = Weights(vectors=0)
    assert named(await knowledge.search("big", "77 it's\\", weights=words)) == ["77"]
    assert len(await knowledge.search("big", "filler", k=1000, weights=words)) == 1000


# ── tenants ───────────────────────────────────────────────────────────────────────────────────


async def test_another_tenant_sees_nothing(
    knowledge: KnowledgeBase, pool: Pool, gateway: Gateway
) -> None:
    await fill(knowledge)
    (stored, *_) = await knowledge.documents("help")
    mine = await knowledge.get("help")
    other = KnowledgeBase(pool, gateway, "rival")
    assert await other.collections() == []
    for call in (other.search("help", "refund"), other.stats("help"), other.delete("help")):
        with pytest.raises(CollectionNotFoundError):
            await call
    with pytest.raises(KnowledgeError, match="There is no document"):
        await other.text(stored.id)
    await other.create("help")
    await other.add("help", document("Refund: never.", "refund.md"))
    assert named(await other.search("help", "refund", k=100)) == ["refund.md"]
    assert len(await knowledge.search("help", "refund", k=100)) == 6
    assert (await other.vectors("help")).texts == ["Refund: never."]
    async with tenant_scope(pool, "rival") as connection:
        for table in ("collection", "space", "document", "chunk", "embedding"):
            cursor = await connection.execute(f"select tenant from rotina.{table}")
            assert {row["tenant"] for row in await cursor.fetchall()} == {"rival"}
    asked = (
        "select * from rotina.text_candidates(%s, array['refund'], array['english'::regconfig], "
        "null, null, null, null, 10, 10, 10, 1, 1, 0.5::real, 4)"
    )
    forbidden = [
        (asked, (mine.id,)),
        ("select rotina.post_words(%s, 0)", (mine.id,)),
        ("select * from rotina.documents_where(%s, null, null, null)", (mine.id,)),
        ("select rotina.estimate_documents(%s, null, null, null)", (mine.id,)),
        ("select rotina.empty_collection(%s)", (mine.id,)),
        ("select rotina.settle_collection(%s)", (mine.id,)),
        ("select rotina.create_home('chunk', %s)", (mine.id,)),
        ("select * from rotina.document_part", ()),
        ("select * from rotina.chunk_pool", ()),
        ("select * from rotina.posting", ()),
        ("select * from rotina.embedding_pool", ()),
    ]
    for statement, values in forbidden:
        with pytest.raises(errors.InsufficientPrivilege):
            async with tenant_scope(pool, "rival") as connection:
                await connection.execute(statement, values)


async def test_a_tenant_cannot_write_for_another(knowledge: KnowledgeBase, pool: Pool) -> None:
    await fill(knowledge)
    mine = await knowledge.get("help")
    row = {"id": uuid7(), "tenant": "acme", "name": "x", "language": None}
    row |= {"chunk_limit": 600, "chunk_overlap": 50}
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        async with tenant_scope(pool, "rival") as connection:
            await connection.execute(load_queries("rotina.knowledge")["insert_collection"], row)
    documents = {
        "tenant": "rival", "collection_id": mine.id, "ids": [uuid7()], "uris": ["x"],
        "names": ["x"], "titles": [None], "media_types": [""], "languages": ["en"],
        "hashes": [""], "content_hashes": [""], "texts": [""], "pages": [Jsonb([])],
        "headings": [Jsonb([])],
        "metadata": [Jsonb({})], "access": [Jsonb([])], "valid_from": [None], "valid_to": [None],
        "from_source": [False],
        "chunks": [0], "words": [0],
    }  # fmt: skip
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        async with tenant_scope(pool, "rival") as connection:
            await connection.execute(load_queries("rotina.knowledge")["put_documents"], documents)


async def test_without_a_tenant_the_owner_sees_nothing(
    knowledge: KnowledgeBase, pool: Pool
) -> None:
    """Row-level security is forced: a query that forgets its tenant finds nothing."""
    await fill(knowledge)
    async with pool.connection() as connection:
        for table in ("collection", "document", "chunk"):
            cursor = await connection.execute(f"select 1 from rotina.{table}")
            assert await cursor.fetchall() == []
