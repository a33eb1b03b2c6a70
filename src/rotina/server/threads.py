"""Threads and their messages over HTTP."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from rotina.runs import Run, Thread, ThreadMessage
from rotina.server.access import PROTECTION, IdempotencyKey, TenantClient, problems

router = APIRouter(prefix="/v1/threads", tags=["threads"], dependencies=PROTECTION)

MAX_LIST = 1000


class ThreadRequest(BaseModel):
    """What begins a conversation."""

    model_config = ConfigDict(extra="forbid")

    workflow: str = Field(min_length=1)
    customer: str | None = Field(default=None, max_length=500)


class MessageRequest(BaseModel):
    """What a customer says."""

    model_config = ConfigDict(extra="forbid")

    text: str


class ThreadList(BaseModel):
    """A page of threads, newest first."""

    threads: list[Thread]
    next: UUID | None
    """What to send as `before` for the next page; None on the last."""


class MessageList(BaseModel):
    """What was said, oldest first."""

    messages: list[ThreadMessage]


@router.post("", status_code=201, responses=problems(400, 413, 415))
async def open_thread(wanted: ThreadRequest, response: Response, client: TenantClient) -> Thread:
    """Begin a conversation with the agent behind a conversational workflow."""
    thread = await client.open_thread(wanted.workflow, customer=wanted.customer)
    response.headers["Location"] = f"/v1/threads/{thread.id}"
    return thread


@router.get("", responses=problems())
async def list_threads(
    client: TenantClient,
    before: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIST)] = 20,
) -> ThreadList:
    """Threads, newest first."""
    found = await client.threads.list_threads(before=before, limit=limit)
    return ThreadList(threads=found, next=found[-1].id if len(found) == limit else None)


@router.get("/{thread_id}", responses=problems(404))
async def get_thread(thread_id: UUID, client: TenantClient) -> Thread:
    """One thread."""
    return await client.threads.get(thread_id)


@router.post(
    "/{thread_id}/messages",
    status_code=202,
    responses={
        200: {"model": Run, "description": "the run that answers the message this key sent before"},
        **problems(400, 404, 409, 413, 415),
    },
)
async def say(
    thread_id: UUID,
    message: MessageRequest,
    response: Response,
    client: TenantClient,
    key: IdempotencyKey = None,
) -> Run:
    """Add a customer's message; the run that answers it is accepted with it."""
    accepted = await client.say(thread_id, message.text, key=key)
    response.status_code = 202 if accepted.created else 200
    response.headers["Location"] = f"/v1/runs/{accepted.id}"
    return await client.store.get(accepted.id)


@router.get("/{thread_id}/messages", responses=problems(404))
async def list_messages(
    thread_id: UUID, client: TenantClient, after: Annotated[int, Query(ge=0)] = 0
) -> MessageList:
    """What was said after message `after`, oldest first."""
    return MessageList(messages=await client.threads.messages(thread_id, after=after))
