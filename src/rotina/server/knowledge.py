"""The knowledge base over HTTP: what there is, and search."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from rotina.knowledge import Collection, Passage
from rotina.server.access import PROTECTION, TenantClient, problems
from rotina.server.streaming import while_connected

router = APIRouter(prefix="/v1/collections", tags=["knowledge"], dependencies=PROTECTION)

MAX_PASSAGES = 1000


class CollectionList(BaseModel):
    """All collections of the tenant, by name."""

    collections: list[Collection]


class SearchRequest(BaseModel):
    """A question to a collection."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=20_000)
    k: int = Field(default=8, ge=1, le=MAX_PASSAGES)
    filter: dict[str, Any] | None = None
    """Over the documents' metadata, as `KnowledgeBase.search` takes it."""


class PassageList(BaseModel):
    """What was found, best first."""

    passages: list[Passage]


@router.get("", responses=problems())
async def list_collections(client: TenantClient) -> CollectionList:
    """The tenant's collections."""
    return CollectionList(collections=await client.knowledge.collections())


@router.post("/{name}/search", responses=problems(400, 404, 413, 415, 429, 502, 504))
async def search(
    name: str, wanted: SearchRequest, request: Request, client: TenantClient
) -> PassageList:
    """The passages that fit a question best."""
    found = client.knowledge.search(name, wanted.query, k=wanted.k, filter=wanted.filter)
    return PassageList(passages=await while_connected(request, found))
