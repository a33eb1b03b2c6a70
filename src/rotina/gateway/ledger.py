"""The call ledger: one row a model call, whether it succeeded or not."""

from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict

CallKind = Literal["chat", "embedding", "rerank"]
OK = "ok"
CACHED = "cached"


class Content(BaseModel):
    """What was said in a call."""

    model_config = ConfigDict(frozen=True)

    request: str
    """Messages, tools and parameters, as JSON."""
    answer: str
    redacted: bool
    """Whether personal data and secrets were taken out."""


class ModelCall(BaseModel):
    """One call as the ledger keeps it."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    """UUIDv7: sorts by time."""
    tenant: str
    run_id: UUID | None
    node: str | None
    """The graph's node that called."""
    route: str
    deployment: str
    model: str
    kind: CallKind
    outcome: str
    """`ok`, `cached`, or the name of the error's class; `CancelledError` where the caller gave up
    on it, `unknown` where its process died."""
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None = None
    """Tokens of the answer that its reader does not see."""
    cost_usd: Decimal | None
    """None means unknown, never free."""
    gpu_seconds: Decimal | None = None
    """What it took of a GPU deployment; None where the deployment has no `gpu_share`."""
    latency_ms: int
    first_token_ms: int | None = None
    """Until the first piece of a stream."""
    attempts: int
    """Requests that were sent."""
    started_at: datetime
    api_key: str | None = None
    """The name of the API key that asked."""
    prompt: str | None = None
    """Name, version and hash of the prompt, where it came out of the registry."""
    mirror_of: UUID | None = None
    """The call that this one repeats on another deployment, for comparison."""
    agreement: float | None = None
    """Of a mirrored call: how alike the two answers are, from 0 to 1."""
    content: Content | None = None
    """Where the settings keep what was said (`store_prompts`)."""


class CallLedger(Protocol):
    """Where calls are recorded."""

    async def record(self, call: ModelCall, *, soon: bool = True) -> None:
        """Keep the call; not `soon`: with whatever is written next.

        Raises `DatabaseError` when that is impossible.
        """


class MemoryLedger:
    """A ledger for tests and notebooks: a list."""

    def __init__(self) -> None:
        self.calls: list[ModelCall] = []

    async def record(self, call: ModelCall, *, soon: bool = True) -> None:
        """Keep the call."""
        del soon
        self.calls.append(call)
