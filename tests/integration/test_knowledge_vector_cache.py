"""What the cache of vectors saves a knowledge base, and that deleting takes it along."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from pydantic import SecretStr

from rotina.database import Pool, tenant_scope
from rotina.gateway import Gateway, PostgresVectorCache
from rotina.knowledge import Document, KnowledgeBase
from rotina.knowledge import base as base_module
from rotina.knowledge.evaluation import Asked, evaluate
from rotina.knowledge.memory import RotinaStore
from rotina.knowledge.reindexing import reindex
from rotina.settings import Deployment, Route, Settings
from tests.integration.test_knowledge_base import document
from tests.integration.test_knowledge_base import embedding as by_meaning
from tests.scripted_model import ScriptedModel

RULES = " ".join(f"Refund rule {n} says {n} days." for n in range(60))


@dataclass
class Stage:
    """A knowledge base whose route has a cache."""

    knowledge: KnowledgeBase
    model: ScriptedModel
    pool: Pool

    def asked(self) -> int:
        """How many texts the server was asked for since the last time."""
        texts = sum(len(request.body["input"]) for request in self.model.requests)
        self.model.requests.clear()
        return texts

    async def add(self, collection: str, text: str, uri: str = "a") -> int:
        """How many texts adding it asks for."""
        await self.knowledge.create(collection, if_missing=True, chunk_limit=200)
        await self.knowledge.add(collection, document(text, uri), uri=uri)
        return self.asked()

    async def kept(self, tenant: str = "acme") -> int:
        """How many vectors the cache has."""
        async with tenant_scope(self.pool, tenant) as connection:
            cursor = await connection.execute("select 1 from rotina.embedding_cache")
            return len(await cursor.fetchall())


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    async with ScriptedModel(by_meaning) as model:
        deployment = Deployment(model="scripted", base_url=SecretStr(model.base_url))
        routes = {"embed": Route(deployments=["one"], cache_seconds=60)}
        settings = Settings(deployments={"one": deployment}, routes=routes)
        vectors = PostgresVectorCache(pool)
        async with Gateway(settings, vectors=vectors) as gateway:
            bound = gateway.bound(run_id=None, tenant="acme")
            yield Stage(KnowledgeBase(pool, bound, "acme"), model, pool)


async def test_the_same_text_elsewhere_and_the_same_question_are_embedded_once(
    stage: Stage,
) -> None:
    chunks = await stage.add("one", RULES)
    assert chunks > 3
    assert await stage.add("two", RULES) == 0
    for _ in range(3):
        found = await stage.knowledge.search("two", "refund rule 7", k=1)
        assert "rule 7 " in found[0].text
    assert stage.asked() == 1


async def test_a_deleted_document_takes_its_vectors_along(stage: Stage) -> None:
    first = await stage.add("help", RULES)
    await stage.add("help", "The moon is far away.", "moon")
    await stage.knowledge.delete("help", "a")
    assert await stage.kept() == 1, "the moon's"
    assert await stage.add("help", RULES) == first
    assert await stage.knowledge.discard("help") == 2
    assert await stage.kept() == 0


async def test_text_that_a_new_version_lacks_is_forgotten(stage: Stage) -> None:
    await stage.add("help", "A refund takes seven days.")
    await stage.add("help", "A refund takes nine days.")
    assert await stage.kept() == 1
    assert await stage.add("help", "A refund takes seven days.") == 1


@pytest.mark.parametrize("pooled", [2000, 1])
async def test_a_deleted_collection_takes_its_vectors_along(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, pooled: int
) -> None:
    monkeypatch.setattr(base_module, "POOLED_CHUNKS", pooled)
    await stage.add("help", RULES)
    await stage.add("other", "The moon is far away.")
    home = (await stage.knowledge.get("help")).home
    assert (home.int == 0) == (pooled > 1)
    assert await stage.add("again", RULES) == 0, "moving into a home of its own forgets nothing"
    await stage.knowledge.delete("help")
    assert await stage.kept() == 1


async def test_another_tenants_vectors_stay(stage: Stage) -> None:
    await stage.add("help", RULES)
    rival = stage.knowledge.gateway.bound(run_id=None, tenant="rival")
    own = Stage(KnowledgeBase(stage.pool, rival, "rival"), stage.model, stage.pool)
    chunks = await own.add("help", RULES)
    await stage.knowledge.delete("help")
    assert (await stage.kept(), await own.kept("rival")) == (0, chunks)


async def test_a_title_is_part_of_what_is_forgotten(stage: Stage) -> None:
    told = Document(
        name="t", text="A entrega é amanhã.", media_type="text/plain", sha256="0" * 64,
        metadata={"title": "Prazos – ção"},
    )  # fmt: skip
    await stage.knowledge.create("help")
    await stage.knowledge.add("help", told)
    assert (stage.asked(), await stage.kept()) == (1, 1)
    await stage.knowledge.delete("help", "t")
    assert await stage.kept() == 0


async def test_sizes_are_compared_again_for_nothing_until_the_text_changes(stage: Stage) -> None:
    await stage.add("help", RULES)
    await stage.add("help", "The moon is far away.", "moon")
    questions = [Asked.model_validate({"question": "refund 7", "answers": [{"uri": "a"}]})]
    await evaluate(stage.knowledge, "help", questions, chunk_limits=[100, 400])
    assert stage.asked() > 1
    await evaluate(stage.knowledge, "help", questions, chunk_limits=[100, 400])
    assert stage.asked() == 0
    assert [each.name for each in await stage.knowledge.collections()] == ["help"]
    await stage.knowledge.delete("help", "a")
    assert await stage.kept() == 1, "the question's"


@pytest.mark.parametrize(("name", "extra"), [("other", 0), ("scripted", 3)])
async def test_a_collection_is_embedded_by_the_model_that_is_there_now(
    stage: Stage, name: str, extra: int
) -> None:
    await stage.add("help", RULES)
    await stage.knowledge.search("help", "refund rule 7")
    stage.model.script = lambda request: by_meaning(request, name, extra)
    made = await reindex(stage.knowledge, "help", "embed")
    assert (made.current.model, made.current.dimension) == (name, 5 + extra)
    found = await stage.knowledge.search("help", "refund rule 7", k=1)
    assert "rule 7 " in found[0].text


async def test_forgetting_answers_forgets_what_was_asked(stage: Stage) -> None:
    await stage.add("help", "A refund takes seven days.")
    await stage.knowledge.search("help", "how long?")
    await stage.knowledge.forget([])
    assert await stage.kept() == 0


async def test_what_agents_remember_is_not_kept(stage: Stage) -> None:
    store = RotinaStore(stage.knowledge)
    await store.aput(("people",), "ana", {"text": "Ana wants a refund."})
    assert await stage.kept() == 0
