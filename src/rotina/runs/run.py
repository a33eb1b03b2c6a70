"""What a run is, as read from PostgreSQL."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

RunState = Literal["queued", "running", "waiting", "succeeded", "failed", "cancelled"]
TERMINAL: frozenset[RunState] = frozenset({"succeeded", "failed", "cancelled"})


class RunSummary(BaseModel):
    """One row of the run ledger, without what went in and came out."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    tenant: str
    workflow: str
    queue: str
    state: RunState
    idempotency_key: str | None
    priority: int
    parked: bool
    """Whether it waits for others that share its limits; see `FlowControl`."""
    error: dict[str, Any] | None
    """`{"type", "message", "node"?}` of a failed run, or of the last attempt."""
    attempts: int
    max_attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def ended(self) -> bool:
        """Whether the state is terminal."""
        return self.state in TERMINAL

    @property
    def seconds(self) -> float | None:
        """Seconds from the first attempt's start to the end; None while it is not over."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


class Run(RunSummary):
    """One row of the run ledger."""

    input: dict[str, Any]
    result: dict[str, Any] | None


class RunEvent(BaseModel):
    """One line of a run's timeline."""

    model_config = ConfigDict(frozen=True)

    id: int
    kind: str
    data: dict[str, Any]
    at: datetime


class ModelCallRow(BaseModel):
    """One model call of a run, as the gateway's ledger has it."""

    model_config = ConfigDict(frozen=True)

    node: str | None
    route: str
    deployment: str
    model: str
    kind: str
    outcome: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    cost_usd: Decimal | None
    latency_ms: int
    attempts: int
    started_at: datetime
