"""The LangChain vector store: the standard suite, against PostgreSQL."""

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from rotina.database import open_pool
from rotina.errors import KnowledgeError
from rotina.gateway import Gateway
from rotina.knowledge import KnowledgeBase, Weights
from rotina.knowledge.vectorstore import RotinaVectorStore
from rotina.settings import Settings
from tests.scripted_model import ScriptedModel
from tests.threads import on_a_thread


@contextlib.asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[KnowledgeBase]:
    """A knowledge base with an empty collection `notes`."""
    async with ScriptedModel() as model, open_pool(database_url) as pool:
        deployment = {"model": "scripted", "base_url": model.base_url}
        routes = {"embed": {"deployments": ["one"]}}
        settings = Settings(deployments={"one": deployment}, routes=routes)
        async with Gateway(settings) as gateway:
            knowledge = KnowledgeBase(pool, gateway, "acme")
            await knowledge.create("notes")
            yield knowledge


@pytest.fixture
def knowledge(database_url: str) -> Iterator[KnowledgeBase]:
    with on_a_thread(opened(database_url)) as running:
        yield running


class TestStandard(VectorStoreIntegrationTests):
    """LangChain's suite, with its embeddings."""

    @pytest.fixture
    def vectorstore(self, knowledge: KnowledgeBase) -> VectorStore:
        return RotinaVectorStore(knowledge, "notes", embedding=self.get_embeddings())


def test_texts_are_found_by_words_and_filters(knowledge: KnowledgeBase) -> None:
    fake = DeterministicFakeEmbedding(size=6)
    store = RotinaVectorStore.from_texts(
        ["Refunds take seven days.", "A entrega é grátis.", "!!!"],
        fake,
        [{"team": "billing"}, {"team": "logistics"}, {}],
        ids=["a", "b", "c"],
        knowledge=knowledge,
        collection="made",
    )
    (exact, score), *_ = store.similarity_search_with_score("A entrega é grátis.", k=3)
    assert (exact.id, exact.metadata, round(score, 2)) == ("b", {"team": "logistics"}, 1.0)
    (only,) = store.similarity_search("anything", filter={"team": "billing"})
    assert only.page_content == "Refunds take seven days."
    by_words = store.similarity_search("entrega", k=1, weights=Weights(vectors=0))
    assert [each.id for each in by_words] == ["b"]
    assert len(store.max_marginal_relevance_search("refund", k=2)) == 2
    retriever = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={
        "score_threshold": 0.99, "k": 3,
    })  # fmt: skip
    assert [each.id for each in retriever.invoke("!!!")] == ["c"]
    assert store.delete(["a", "unknown"])
    assert [each.id for each in store.get_by_ids(["a", "b"])] == ["b"]


def test_the_gateway_embeds_what_has_no_embedding(knowledge: KnowledgeBase) -> None:
    store = RotinaVectorStore(knowledge, "notes")
    store.add_texts(["one", "two"], ids=["1", "1"])
    assert [each.page_content for each in store.get_by_ids(["1"])] == ["two"]
    assert [each.page_content for each in store.similarity_search("two")] == ["two"]
    with pytest.raises(KnowledgeError, match="2 texts, 1 ids"):
        store.add_texts(["one", "two"], ids=["1"])
    with pytest.raises(KnowledgeError, match="'batch' is no parameter"):
        store.add_texts(["one"], batch=3)
    with pytest.raises(KnowledgeError, match="cannot be compared"):
        RotinaVectorStore(
            knowledge, "notes", embedding=DeterministicFakeEmbedding(size=3)
        ).add_texts(["three"])
    store.delete()
    assert store.similarity_search("two") == []
