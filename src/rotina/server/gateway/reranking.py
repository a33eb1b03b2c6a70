"""The gateway over HTTP: `/v1/rerank`, in the form that Cohere, Jina and vLLM share."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from uuid_utils.compat import uuid7

from rotina.server.gateway.embeddings import EmbeddingUsage, Text
from rotina.server.gateway.exchange import Exchange
from rotina.server.gateway.models import check_model

MAX_DOCUMENTS = 1000
"""As many as Cohere takes in one request."""


class RerankDocument(BaseModel):
    """A document as an object, which has its text and nothing beside it."""

    model_config = ConfigDict(extra="forbid")

    text: Text


class RerankRequest(BaseModel):
    """A query and the documents; parameters that are not here are refused."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, description="a route, or a deployment's model")
    query: Text
    documents: list[Text | RerankDocument] = Field(min_length=1, max_length=MAX_DOCUMENTS)
    top_n: int | None = Field(default=None, ge=1, description="how many results; all without it")
    return_documents: bool | None = None
    user: str | None = None

    def texts(self) -> list[str]:
        """Of the documents, in their order."""
        return [each if isinstance(each, str) else each.text for each in self.documents]


class RerankResult(BaseModel):
    """A document's place in the request, from 0, and its relevance: the more, the better."""

    index: int
    relevance_score: float
    document: RerankDocument | None = None
    """With `return_documents`."""


class RerankList(BaseModel):
    """The results, the best first."""

    id: str
    object: Literal["list"] = "list"
    model: str
    results: list[RerankResult]
    usage: EmbeddingUsage


async def rerank(exchange: Exchange) -> None:
    """The documents by their relevance to the query."""
    wanted = await exchange.form(RerankRequest)
    check_model(exchange.face.settings, wanted.model)
    texts = wanted.texts()
    asking = exchange.gateway.rerank(wanted.query, texts, route=wanted.model, top_n=wanted.top_n)
    found = await exchange.while_connected(asking)
    results: list[dict[str, Any]] = [
        {"index": each.index, "relevance_score": each.score} for each in found.results
    ]
    if wanted.return_documents:
        for each in results:
            each["document"] = {"text": texts[each["index"]]}
    tokens = found.usage.prompt_tokens
    await exchange.answer(
        {
            "id": f"rerank-{uuid7().hex}",
            "object": "list",
            "model": found.model,
            "results": results,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )
