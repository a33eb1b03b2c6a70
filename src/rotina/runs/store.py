"""The run ledger: accepting, reading and listing runs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from rotina.database import Pool, load_queries, tenant_scope
from rotina.errors import (
    DocumentTooLargeError,
    IdempotencyConflictError,
    InvalidInputError,
    RunNotFoundError,
)
from rotina.runs.flow import check_priority
from rotina.runs.run import ModelCallRow, Run, RunEvent, RunState, RunSummary
from rotina.runs.thread import is_conversational, lock_thread
from rotina.runs.workflow import FileReference, Queue, Workflow, limits

MAX_LIST = 1000
NOT_STORABLE = (psycopg.DataError, UnicodeEncodeError)


@dataclass(frozen=True)
class Upload:
    """A file to be stored with the run that reads it."""

    name: str
    content: bytes
    media_type: str | None = None

    @property
    def reference(self) -> FileReference:
        """How the run's input names this file."""
        digest = hashlib.sha256(self.content).hexdigest()
        return FileReference(sha256=digest, name=self.name, media_type=self.media_type)


@dataclass(frozen=True)
class Accepted:
    """A run that is committed: from here on it is not lost."""

    id: UUID
    queue: Queue
    created: bool
    """False when the run was there already: its idempotency key named it, or debounce did."""
    due: bool = True
    """False when debounce puts the run off: the sweeper tells its queue."""

    @property
    def news(self) -> bool:
        """Whether its queue is to be told now."""
        return self.created and self.due


class RunStore:
    """The runs of one tenant."""

    def __init__(
        self, pool: Pool, *, tenant: str, max_attempts: int = 5, max_file_bytes: int = 50_000_000
    ) -> None:
        self._pool = pool
        self._tenant = tenant
        self._max_attempts = max_attempts
        self._max_file_bytes = max_file_bytes
        self._sql = load_queries("rotina.runs")

    async def accept(
        self,
        workflow: Workflow,
        value: Mapping[str, Any],
        *,
        key: str | None = None,
        upload: Upload | None = None,
        priority: int | None = None,
    ) -> Accepted:
        """Commit a run, with the file it reads or the message it answers, in one transaction.

        A conversational workflow's input is a customer's message: it becomes one of its thread,
        whoever starts the run. The same `key` with the same input returns the run it made before;
        with another input it is an `IdempotencyConflictError`. Of the runs of this tenant that are
        due, those with the higher `priority` (default: the workflow's) go first. Raises
        `InvalidInputError` or `ThreadNotFoundError` before anything is written.
        """
        priority = workflow.priority if priority is None else priority
        check_priority(priority)
        if upload is not None:
            self._check_size(upload)
        checked = workflow.validate_input(value)
        row: dict[str, Any] = {
            "id": uuid7(),
            "tenant": self._tenant,
            "workflow": workflow.name,
            "queue": workflow.queue,
            "input": Jsonb(checked),
            "idempotency_key": key,
            "max_attempts": self._max_attempts,
            "priority": priority,
            **limits(workflow, checked),
        }
        try:
            row["input_hash"] = digest = input_hash(checked)
            accepted = await self._insert(row, workflow, checked, upload)
        except NOT_STORABLE as error:
            raise not_storable(workflow, error) from None
        return accepted or await self._known(workflow, key, digest)

    async def get(self, run_id: UUID) -> Run:
        """One run, or `RunNotFoundError`."""
        row = await self._one("get_run", id=run_id)
        if row is None:
            raise RunNotFoundError(f"There is no run {run_id}; `rotina runs` lists them.")
        return Run.model_validate(row)

    async def find(self, prefix: str) -> Run:
        """The run whose id begins with `prefix`, or `RunNotFoundError` when none or several do."""
        rows = await self._all("find_runs", prefix=prefix.lower().replace("%", "").strip())
        if len(rows) != 1:
            count = "more than one run" if rows else "no run"
            raise RunNotFoundError(
                f"There is {count} whose id begins with {prefix!r}; `rotina runs` lists them."
            )
        return Run.model_validate(rows[0])

    async def list_runs(
        self,
        *,
        workflow: str | None = None,
        state: RunState | None = None,
        before: UUID | None = None,
        limit: int = 20,
    ) -> list[RunSummary]:
        """Runs, newest first; `before` pages on from the last id seen."""
        rows = await self._all(
            "list_runs",
            workflow=workflow,
            state=state,
            before=before,
            limit=max(1, min(limit, MAX_LIST)),
        )
        return [RunSummary.model_validate(row) for row in rows]

    async def events(self, run_id: UUID, *, after: int = 0) -> list[RunEvent]:
        """The timeline of a run after event `after`, oldest first."""
        run = await self.get(run_id)
        rows = await self._all("list_events", run_id=run.id, after=after)
        return [RunEvent.model_validate(row) for row in rows]

    async def model_calls(self, run_id: UUID) -> list[ModelCallRow]:
        """What a run asked of models, oldest first."""
        rows = await self._all("list_model_calls", run_id=run_id)
        return [ModelCallRow.model_validate(row) for row in rows]

    async def file(self, reference: FileReference) -> bytes:
        """The bytes of a stored file."""
        row = await self._one("get_file", sha256=reference.sha256)
        if row is None:
            raise RunNotFoundError(
                f"The file {reference.name!r} ({reference.sha256[:12]}…) is not stored: "
                "start the run again with the file"
            )
        return bytes(row["content"])

    async def live_workers(self) -> int:
        """How many worker processes are alive."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._sql["list_workers"])
            return len(await cursor.fetchall())

    async def _insert(
        self,
        row: Mapping[str, Any],
        workflow: Workflow,
        checked: Mapping[str, Any],
        upload: Upload | None,
    ) -> Accepted | None:
        """One transaction; None when the idempotency key is taken."""
        converses = is_conversational(workflow)
        async with tenant_scope(self._pool, self._tenant) as connection:
            if converses:
                thread_id = UUID(checked["thread"])
                await lock_thread(connection, workflow, tenant=self._tenant, thread_id=thread_id)
            if row["limit_key"] is not None:
                await connection.execute(self._sql["lock_limit"], row)
            if row["debounce"] is not None:
                known = await connection.execute(self._sql["find_by_key"], row)
                if await known.fetchone() is not None:
                    return None
                merged = await self._merge(connection, row, upload)
                if merged is not None:
                    return merged
            cursor = await connection.execute(self._sql["insert_run"], row)
            if await cursor.fetchone() is None:
                return None
            if upload is not None:
                await connection.execute(self._sql["put_file"], self._file_row(upload))
            if converses:
                await self._add_message(connection, row["id"], checked)
            event = {"run_id": row["id"], "kind": "accepted", "data": Jsonb({})}
            await connection.execute(self._sql["insert_event"], event)
        return Accepted(row["id"], workflow.queue, created=True, due=row["debounce"] is None)

    async def _merge(
        self, connection: AsyncConnection[DictRow], row: Mapping[str, Any], upload: Upload | None
    ) -> Accepted | None:
        """Make a start part of the run that debounce puts off, if there is one."""
        key = row["idempotency_key"]
        found = await (await connection.execute(self._sql["debounce_run"], row)).fetchone()
        if found is None:
            return None
        if key is not None:
            debounced = {**row, "run_id": found["id"]}
            await connection.execute(self._sql["insert_debounced"], debounced)
        if upload is not None:
            await connection.execute(self._sql["put_file"], self._file_row(upload))
        line = {"run_id": found["id"], "kind": "debounced", "data": Jsonb({"key": key})}
        await connection.execute(self._sql["insert_event"], line)
        return Accepted(found["id"], row["queue"], created=False, due=False)

    async def _add_message(
        self, connection: AsyncConnection[DictRow], run_id: UUID, checked: Mapping[str, Any]
    ) -> None:
        said = {
            "thread_id": checked["thread"],
            "run_id": run_id,
            "role": "user",
            "text": checked["text"],
            "data": Jsonb({}),
        }
        await connection.execute(self._sql["insert_message"], said)

    def _check_size(self, upload: Upload) -> None:
        size = len(upload.content)
        if size > self._max_file_bytes:
            raise DocumentTooLargeError(
                f"{upload.name!r} has {size:,} bytes; the limit is {self._max_file_bytes:,} "
                "(setting max_file_bytes)"
            )

    def _file_row(self, upload: Upload) -> dict[str, Any]:
        return {
            "tenant": self._tenant,
            "sha256": upload.reference.sha256,
            "size": len(upload.content),
            "content": upload.content,
        }

    async def _known(self, workflow: Workflow, key: str | None, digest: str) -> Accepted:
        row = await self._one("find_by_key", workflow=workflow.name, idempotency_key=key)
        assert row is not None, "the conflicting row is committed"
        if row["input_hash"] != digest:
            raise IdempotencyConflictError(
                f"The key {key!r} was used for run {row['id']} with another input: "
                "use a new key for new input"
            )
        return Accepted(row["id"], workflow.queue, created=False)

    async def _one(self, name: str, **values: Any) -> dict[str, Any] | None:
        async with tenant_scope(self._pool, self._tenant) as connection:
            cursor = await connection.execute(self._sql[name], {"tenant": self._tenant, **values})
            return await cursor.fetchone()

    async def _all(self, name: str, **values: Any) -> list[dict[str, Any]]:
        async with tenant_scope(self._pool, self._tenant) as connection:
            cursor = await connection.execute(self._sql[name], {"tenant": self._tenant, **values})
            return await cursor.fetchall()


def not_storable(workflow: Workflow, error: Exception) -> InvalidInputError:
    """The error for an input that JSON in PostgreSQL cannot hold."""
    return InvalidInputError(
        f"Input of {workflow.name!r} cannot be stored ({type(error).__name__}): "
        "take NUL characters, lone surrogates, NaN and Infinity out of it"
    )


def input_hash(value: Mapping[str, Any]) -> str:
    """By which one input is told from another."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
