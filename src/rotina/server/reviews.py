"""Reviews over HTTP: what waits for a person, and the answer."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from rotina.runs import Review
from rotina.server.access import PROTECTION, Caller, TenantClient, problems

router = APIRouter(prefix="/v1/reviews", tags=["reviews"], dependencies=PROTECTION)

MAX_LIST = 1000


class AnswerRequest(BaseModel):
    """A person's answer."""

    model_config = ConfigDict(extra="forbid")

    value: dict[str, Any]
    """What the review's form asks for."""
    by: str | None = Field(default=None, min_length=1, max_length=500)
    """Who answers; the API key's name where it is left out."""


class ReviewList(BaseModel):
    """What waits for a person, oldest first."""

    reviews: list[Review]


@router.get("", responses=problems())
async def list_reviews(
    client: TenantClient,
    assignee: str | None = None,
    run: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIST)] = 50,
) -> ReviewList:
    """What waits for an answer, oldest first."""
    found = await client.reviews.list_open(assignee=assignee, run_id=run, limit=limit)
    return ReviewList(reviews=found)


@router.get("/{review_id}", responses=problems(404))
async def get_review(review_id: UUID, client: TenantClient) -> Review:
    """One review, answered or not."""
    return await client.reviews.get(review_id)


@router.post("/{review_id}/answer", responses=problems(400, 404, 409, 413, 415))
async def answer_review(
    review_id: UUID, answer: AnswerRequest, client: TenantClient, caller: Caller
) -> Review:
    """Answer a review; its run goes on. Of two answers the first one counts."""
    await client.answer(review_id, answer.value, by=answer.by or caller.name)
    return await client.reviews.get(review_id)
