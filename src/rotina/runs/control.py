"""What programs and people do to a run that is under way, or over."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from rotina.database import Pool, load_queries, tenant_scope
from rotina.errors import InvalidInputError, RunNotFoundError, RunStateError
from rotina.runs.workflow import Queue

MAX_NAME = 200


class Control:
    """Cancel, pause, resume, retry and signal the runs of one tenant.

    Some return what queues are to be told. Each but `signal` raises `RunNotFoundError`, and
    `RunStateError` when the run's state does not allow it.
    """

    def __init__(self, pool: Pool, *, tenant: str) -> None:
        self._pool = pool
        self._tenant = tenant
        self._sql = load_queries("rotina.runs")

    async def cancel(self, run_id: UUID, *, by: str, reason: str = "") -> None:
        """End a run as `cancelled`: at once, or within a second where a worker drives it.

        A model call under way is given up; what effects have done stays done. What the run waited
        for is withdrawn, and children it waits for are cancelled with it. A run that ends by
        itself in that second has ended by itself.
        """
        data = {"by": by, **({"reason": reason} if reason else {})}
        async with tenant_scope(self._pool, self._tenant) as connection:
            row = await self._change(connection, "cancel_run", run_id)
            kind = "cancel_requested" if row["state"] == "running" else "cancelled"
            await self._note(connection, run_id, kind, data)

    async def pause(self, run_id: UUID, *, by: str) -> None:
        """Let nobody claim the run; a worker that drives it stops after the node under way."""
        async with tenant_scope(self._pool, self._tenant) as connection:
            await self._change(connection, "pause_run", run_id)
            await self._note(connection, run_id, "paused", {"by": by})

    async def resume(self, run_id: UUID, *, by: str) -> Queue | None:
        """Let a paused run go on, and return its queue; one that was not paused goes on anyway."""
        async with tenant_scope(self._pool, self._tenant) as connection:
            row = await self._change(connection, "resume_run", run_id)
            await self._note(connection, run_id, "resumed", {"by": by})
        queue: Queue = row["queue"]
        return queue if row["state"] == "queued" else None

    async def retry(self, run_id: UUID, *, by: str) -> Queue:
        """Give a failed or cancelled run another set of attempts, from its last checkpoint.

        The node that did not finish asks its models anew: what they said may be why it failed.
        Children that it waits for and that failed are retried with it.
        """
        async with tenant_scope(self._pool, self._tenant) as connection:
            row = await self._change(connection, "retry_run", run_id)
            await connection.execute(self._sql["forget_unfinished"], {"id": run_id})
            await connection.execute(self._sql["retry_children"], {"id": run_id})
            await self._note(connection, run_id, "retried", {"by": by})
        queue: Queue = row["queue"]
        return queue

    async def signal(self, name: str, key: str, payload: Mapping[str, Any]) -> list[Queue]:
        """Tell of an event: every run that waits for it goes on; or it is kept for the first.

        Returns the queue of each run that goes on. Raises `InvalidInputError` for an empty or
        overlong name or key.
        """
        for what, text in (("name", name), ("key", key)):
            if not 0 < len(text) <= MAX_NAME:
                raise InvalidInputError(
                    f"The event's {what} has {len(text)} characters: give it 1 to {MAX_NAME}"
                )
        event = {"tenant": self._tenant, "name": name, "key": key, "payload": Jsonb(dict(payload))}
        async with tenant_scope(self._pool, self._tenant) as connection:
            await connection.execute(self._sql["lock_event"], event)
            waits = await connection.execute(self._sql["end_event_waits"], event)
            run_ids = [row["run_id"] for row in await waits.fetchall()]
            if not run_ids:
                await connection.execute(self._sql["keep_signal"], event)
                return []
            data = Jsonb({"by": "event", "name": name, "key": key})
            woken = await connection.execute(
                self._sql["wake_waiting"], {"run_ids": run_ids, "data": data}
            )
            return [row["queue"] for row in await woken.fetchall()]

    async def _change(
        self, connection: AsyncConnection[DictRow], name: str, run_id: UUID
    ) -> dict[str, Any]:
        values = {"id": run_id, "tenant": self._tenant}
        row = await (await connection.execute(self._sql[name], values)).fetchone()
        if row is not None:
            return row
        cursor = await connection.execute(self._sql["get_run"], values)
        found = await cursor.fetchone()
        if found is None:
            raise RunNotFoundError(f"There is no run {run_id}; `rotina runs` lists them.")
        verb = name.removesuffix("_run")
        remedy = (
            "only a failed or cancelled run is retried"
            if verb == "retry"
            else "it is over; `retry` starts a failed or cancelled run again"
        )
        raise RunStateError(f"Run {run_id} is {found['state']} and cannot {verb}: {remedy}")

    async def _note(
        self, connection: AsyncConnection[DictRow], run_id: UUID, kind: str, data: dict[str, Any]
    ) -> None:
        values = {"run_id": run_id, "kind": kind, "data": Jsonb(data)}
        await connection.execute(self._sql["insert_event"], values)
