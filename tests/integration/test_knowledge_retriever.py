"""The LangChain face: the standard suite, against PostgreSQL and a scripted embedding server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from langchain_core.documents import Document as LangChainDocument
from langchain_tests.integration_tests import RetrieversIntegrationTests

from rotina.database import open_pool
from rotina.gateway import Gateway
from rotina.knowledge import Document, KnowledgeBase
from rotina.knowledge.retriever import RotinaRetriever
from rotina.settings import Settings
from tests.scripted_model import ScriptedModel
from tests.threads import on_a_thread


@contextlib.asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[RotinaRetriever]:
    """A retriever over a filled collection."""
    async with ScriptedModel() as model, open_pool(database_url) as pool:
        deployment = {"model": "scripted", "base_url": model.base_url}
        routes = {"embed": {"deployments": ["one"]}}
        settings = Settings(deployments={"one": deployment}, routes=routes)
        async with Gateway(settings) as gateway:
            knowledge = KnowledgeBase(pool, gateway, "acme")
            await knowledge.create("help")
            for number in range(5):
                text = f"Refund rule {number}: seven days."
                document = Document(
                    name=f"{number}.txt", media_type="text/plain", sha256="0" * 64, text=text
                )
                await knowledge.add("help", document, metadata={"number": number})
            yield RotinaRetriever(knowledge=knowledge, gateway=gateway, collection="help", k=4)


@pytest.fixture
def retriever_on_a_thread(database_url: str) -> Iterator[RotinaRetriever]:
    """The retriever with its loop in another thread, as a synchronous program has it."""
    with on_a_thread(opened(database_url)) as retriever:
        yield retriever


class OnTheLoop(RotinaRetriever):
    """Asynchronous calls from a foreign loop, as the suite's, are handed to the gateway's."""

    async def ainvoke(self, *arguments: object, **options: object) -> list[LangChainDocument]:
        call = super().ainvoke(*arguments, **options)  # type: ignore[arg-type]
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self.gateway.loop))


class TestStandard(RetrieversIntegrationTests):
    """langchain-tests."""

    _retriever: RotinaRetriever

    @pytest.fixture(autouse=True)
    def _give(self, retriever_on_a_thread: RotinaRetriever) -> None:
        type(self)._retriever = retriever_on_a_thread

    @property
    def retriever_constructor(self) -> type[OnTheLoop]:
        return OnTheLoop

    @property
    def retriever_constructor_params(self) -> dict[str, object]:
        given = self._retriever
        return {
            "knowledge": given.knowledge, "gateway": given.gateway, "collection": "help",
        }  # fmt: skip

    @property
    def retriever_query_example(self) -> str:
        return "How long does a refund take?"


async def test_a_document_says_where_it_stands(database_url: str) -> None:
    async with opened(database_url) as retriever:
        (found,) = await retriever.ainvoke("refund", k=1, filter={"number": 3})
        assert found.page_content == "Refund rule 3: seven days."
        told = found.metadata
        assert (told["number"], told["document"], told["collection"]) == (3, "3.txt", "help")
        assert (told["start"], told["end"], told["page"]) == (0, 26, None)
        assert len(await retriever.ainvoke("refund")) == 4
        with pytest.raises(RuntimeError, match="use the async method"):
            retriever.invoke("refund")


def test_from_a_program_without_a_loop(retriever_on_a_thread: RotinaRetriever) -> None:
    assert len(retriever_on_a_thread.invoke("refund", k=2)) == 2
