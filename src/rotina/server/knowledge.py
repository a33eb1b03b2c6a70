"""The knowledge base over HTTP: what there is, and search."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from rotina.knowledge import Collection, Passage, Refinement
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
    access: list[str] | None = None
    """Labels of who asks: documents with labels need one of them. Null sees all."""
    as_of: AwareDatetime | None = None
    """When documents have to hold; now, unless given."""
    diversity: float = Field(default=0.0, ge=0, le=1)
    neighbours: int = Field(default=0, ge=0, le=50)
    section: bool = False
    rerank: str | None = None
    """As in `Refinement`."""

    def options(self) -> dict[str, Any]:
        """For `KnowledgeBase.search`."""
        moment = {} if self.as_of is None else {"as_of": self.as_of}
        refinement = Refinement(
            rerank=self.rerank,
            diversity=self.diversity,
            neighbours=self.neighbours,
            section=self.section,
        )
        return {
            "k": self.k, "filter": self.filter, "access": self.access,
            "refinement": refinement, **moment,
        }  # fmt: skip


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
    found = client.knowledge.search(name, wanted.query, **wanted.options())
    return PassageList(passages=await while_connected(request, found))
