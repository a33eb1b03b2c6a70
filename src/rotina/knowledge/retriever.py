"""A collection as a LangChain retriever.

The synchronous methods hand the search to the gateway's event loop and wait, as the other
LangChain faces do: call them from any thread but that loop's own.
"""

from collections.abc import Mapping
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, SkipValidation

from rotina.gateway import Gateway
from rotina.gateway.langchain import run_on
from rotina.knowledge.base import KnowledgeBase
from rotina.knowledge.model import Passage


class RotinaRetriever(BaseRetriever):
    """Searches one collection; `invoke(question, k=…, filter=…)` overrides for one question."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    knowledge: SkipValidation[KnowledgeBase]
    gateway: SkipValidation[Gateway]
    """The open gateway whose event loop the knowledge base's pool belongs to."""
    collection: str
    k: int = 8
    filter: dict[str, Any] | None = None

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002 - BaseRetriever's
        k: int | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
    ) -> list[Document]:
        return await self._search(query, k, filter)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - BaseRetriever's
        k: int | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
    ) -> list[Document]:
        return run_on(self.gateway, self._search(query, k, filter))

    async def _search(
        self, query: str, k: int | None, given: Mapping[str, Any] | None
    ) -> list[Document]:
        wanted = self.k if k is None else k
        condition = self.filter if given is None else given
        found = await self.knowledge.search(self.collection, query, k=wanted, filter=condition)
        return [_document(passage) for passage in found]


def _document(passage: Passage) -> Document:
    """The passage's place and scores join the document's metadata, under names of their own."""
    place = passage.model_dump(mode="json", exclude={"text", "metadata", "chunk_id"})
    return Document(
        id=str(passage.chunk_id), page_content=passage.text, metadata={**passage.metadata, **place}
    )
