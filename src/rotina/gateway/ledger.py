"""The call ledger: one row a model call, whether it succeeded or not."""

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from rotina.errors import DatabaseError

if TYPE_CHECKING:
    from rotina.database.pool import Pool

OK = "ok"
CACHED = "cached"

POOL_TIMEOUT = 5.0
"""Seconds to wait for a connection: an answer waits for its row, but not long."""


class ModelCall(BaseModel):
    """One call as the ledger keeps it; no prompt, no answer."""

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
    kind: Literal["chat", "embedding"]
    outcome: str
    """`ok`, `cached`, or the name of the error's class; `CancelledError` where the caller gave up
    on it."""
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    cost_usd: Decimal | None
    """None means unknown, never free."""
    latency_ms: int
    attempts: int
    """Requests that were sent."""
    started_at: datetime


class CallLedger(Protocol):
    """Where calls are recorded."""

    async def record(self, call: ModelCall) -> None:
        """Keep the call. Raises `DatabaseError` when that is impossible."""


class MemoryLedger:
    """A ledger for tests and notebooks: a list."""

    def __init__(self) -> None:
        self.calls: list[ModelCall] = []

    async def record(self, call: ModelCall) -> None:
        """Keep the call."""
        self.calls.append(call)


class PostgresLedger:
    """The table `rotina.model_call`."""

    def __init__(self, pool: "Pool") -> None:
        """`pool` is an open `psycopg_pool.AsyncConnectionPool`; the caller closes it."""
        self._pool = pool

    async def record(self, call: ModelCall) -> None:
        """Insert the row. Raises `DatabaseError` when PostgreSQL does not take it."""
        import psycopg  # noqa: PLC0415 - heavy, and a gateway without a database needs none

        from rotina.database.queries import load_queries  # noqa: PLC0415 - as above

        query = load_queries("rotina.gateway")["insert_model_call"]
        try:
            async with self._pool.connection(timeout=POOL_TIMEOUT) as connection:
                await connection.execute(query, call.model_dump())
        except psycopg.Error as error:
            raise DatabaseError(
                f"the ledger row of call {call.id} was not written ({type(error).__name__}): "
                "check DATABASE_URL and that `rotina migrate` has run"
            ) from error
