"""Runs under way over HTTP: cancel, pause, resume, retry, and events they wait for."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from rotina.runs import Run
from rotina.server.access import PROTECTION, Caller, TenantClient, problems

router = APIRouter(prefix="/v1", tags=["runs"], dependencies=PROTECTION)

REFUSALS = problems(400, 404, 409, 413, 415)


class ChangeRequest(BaseModel):
    """Who wants it."""

    model_config = ConfigDict(extra="forbid")

    by: str | None = Field(default=None, min_length=1, max_length=500)
    """The API key's name where it is left out."""


class CancelRequest(ChangeRequest):
    """Who wants it, and why."""

    reason: str = Field(default="", max_length=500)


class SignalRequest(BaseModel):
    """An event from outside."""

    model_config = ConfigDict(extra="forbid")

    name: str
    key: str
    payload: dict[str, Any] = Field(default_factory=dict)


class SignalAnswer(BaseModel):
    """What became of an event."""

    woken: int
    """Runs that waited for it; with 0 it is kept for the first that will."""


@router.post("/runs/{run_id}/cancel", responses=REFUSALS)
async def cancel_run(
    run_id: UUID, client: TenantClient, caller: Caller, wanted: CancelRequest | None = None
) -> Run:
    """End the run: at once, or within a second where a worker drives it."""
    wanted = wanted or CancelRequest()
    await client.cancel(run_id, by=wanted.by or caller.name, reason=wanted.reason)
    return await client.store.get(run_id)


@router.post("/runs/{run_id}/pause", responses=REFUSALS)
async def pause_run(
    run_id: UUID, client: TenantClient, caller: Caller, wanted: ChangeRequest | None = None
) -> Run:
    """Let nobody drive the run; one under way stops after its node."""
    await client.pause(run_id, by=_who(wanted, caller))
    return await client.store.get(run_id)


@router.post("/runs/{run_id}/resume", responses=REFUSALS)
async def resume_run(
    run_id: UUID, client: TenantClient, caller: Caller, wanted: ChangeRequest | None = None
) -> Run:
    """Let a paused run go on."""
    await client.resume(run_id, by=_who(wanted, caller))
    return await client.store.get(run_id)


@router.post("/runs/{run_id}/retry", responses=REFUSALS)
async def retry_run(
    run_id: UUID, client: TenantClient, caller: Caller, wanted: ChangeRequest | None = None
) -> Run:
    """Give a failed or cancelled run another set of attempts, from its last checkpoint."""
    await client.retry(run_id, by=_who(wanted, caller))
    return await client.store.get(run_id)


@router.post("/signals", responses=REFUSALS)
async def send_signal(event: SignalRequest, client: TenantClient) -> SignalAnswer:
    """Tell the runs that wait for it of an event."""
    woken = await client.signal(event.name, event.key, event.payload)
    return SignalAnswer(woken=woken)


def _who(wanted: ChangeRequest | None, caller: Caller) -> str:
    return caller.name if wanted is None or wanted.by is None else wanted.by
