"""A run's timeline as a source of server-sent events."""

from uuid import UUID

from rotina.database import Pool, load_queries, tenant_scope
from rotina.errors import RunNotFoundError
from rotina.runs import TERMINAL, RunEvent
from rotina.server.streaming import encode_event


class Timeline:
    """The events of one run after event `after`; see `Source`."""

    def __init__(self, pool: Pool, tenant: str, run_id: UUID, *, after: int) -> None:
        self._pool = pool
        self._tenant = tenant
        self._run_id = run_id
        self._after = after
        self._sql = load_queries("rotina.server")["poll_events"]
        self.ended = False

    async def read(self) -> list[bytes]:
        """What is new; raises `RunNotFoundError` when the tenant has no such run."""
        values = {"run_id": self._run_id, "after": self._after}
        async with tenant_scope(self._pool, self._tenant) as connection:
            rows = await (await connection.execute(self._sql, values)).fetchall()
        if not rows:
            raise RunNotFoundError(
                f"There is no run {self._run_id}; GET /v1/runs lists this tenant's runs."
            )
        events = [RunEvent.model_validate(row) for row in rows if row["id"] is not None]
        if events:
            self._after = events[-1].id
        # The end and its event commit together, so nothing comes after it; a reader who has seen
        # it already finds the run over and nothing new.
        last = events[-1].kind if events else rows[0]["state"]
        self.ended = last in TERMINAL
        return [_encode(event) for event in events]


def _encode(event: RunEvent) -> bytes:
    return encode_event(event.model_dump_json(), name=event.kind, number=event.id)
