"""Leases: which worker process drives a run, and the fence that keeps all others from writing.

A worker process keeps one row alive (`beat`). A run it drives carries that worker's id and a
fencing token from a sequence. When the row expires, the sweeper hands the run to another worker,
which gets a higher token; every write of a run checks its token in its own transaction. So the
time-out only decides how soon a dead worker's runs go on; it never decides who may write.
(Kleppmann, "How to do distributed locking", 2016.)
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from rotina.database import Pool, load_queries, open_pool
from rotina.errors import LeaseLostError
from rotina.runs.run import Run
from rotina.runs.workflow import Queue

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fence:
    """The right to write for one run: lost when another worker gets a higher token."""

    pool: Pool
    run_id: UUID
    token: int
    tenant: str

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[DictRow]]:
        """A transaction that commits only if this worker still owns the run.

        Raises `LeaseLostError`, with nothing written, when it does not.
        """
        async with self.pool.connection() as connection, connection.transaction():
            held = await connection.execute(
                load_queries("rotina.runs")["hold_lease"],
                {"run_id": self.run_id, "token": self.token},
            )
            if await held.fetchone() is None:
                raise self.lost()
            yield connection

    def lost(self) -> LeaseLostError:
        """The error of a write that came too late."""
        return LeaseLostError(f"Run {self.run_id} is driven by another worker now")


@dataclass(frozen=True)
class Claim:
    """A run that this worker may drive now."""

    run: Run
    fence: Fence
    resumes: bool
    """Whether an earlier attempt left checkpoints."""
    limited: bool
    """Whether others may wait for the end of this run: those of its limits, its parent,
    or other suspects (see `rotina.is_safe`)."""


@dataclass
class WorkerLease:
    """One worker process: its row in PostgreSQL, kept alive while `held` is open."""

    pool: Pool
    lease_seconds: float
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    id: UUID = field(default_factory=uuid7)
    _driving: set[UUID] = field(default_factory=set)
    _idle: set[tuple[UUID, int]] = field(default_factory=set)
    """Runs and tokens of this worker that it did not drive at the last beat."""

    @asynccontextmanager
    async def held(self) -> AsyncIterator["WorkerLease"]:
        """Register, beat every quarter of the lease, and take the row away at the end.

        The beat has a connection of its own: runs that wait for one of the pool's must not make
        this worker look dead.
        """
        url = self.pool.conninfo
        assert isinstance(url, str), "open_pool was given a URL"
        async with open_pool(url, size=1, timeout=self.lease_seconds / 2) as own:
            await self._beat(own)
            beating = asyncio.create_task(self._keep_beating(own), name="rotina-lease")
            try:
                yield self
            finally:
                beating.cancel()
                await asyncio.gather(beating, return_exceptions=True)
                await self._execute(own, "remove_worker")

    @asynccontextmanager
    async def claimed(
        self,
        wanted: UUID | Queue,
        versions: Mapping[str, Sequence[int]] | None = None,
        ceilings: Mapping[str, int] | None = None,
    ) -> AsyncIterator[Claim | None]:
        """`claim` for the length of the block, which ends the run or releases it."""
        claim = await self.claim(wanted, versions, ceilings)
        try:
            yield claim
        finally:
            if claim is not None:
                self.let_go(claim)

    def let_go(self, claim: Claim) -> None:
        """This worker does not drive that run any more: it has ended, or was released.

        Where neither could be written, the next beats hand it back to the queue.
        """
        self._driving.discard(claim.run.id)

    async def claim(
        self,
        wanted: UUID | Queue,
        versions: Mapping[str, Sequence[int]] | None = None,
        ceilings: Mapping[str, int] | None = None,
    ) -> Claim | None:
        """Take the lease on the next run of a queue, or a certain one, until `let_go`.

        None: there is nothing to do. A run that is wanted by its id is driven already, it ended,
        it is not due, it never was, its limits leave no room, or it began with a version of its
        workflow that is not among `versions` (see `Registry.versions`). `ceilings` maps tenants,
        or `*` for all others, to how many runs they may have under way.
        """
        ceilings = ceilings or {}
        certain = isinstance(wanted, UUID)
        values = {
            "queue": None if certain else wanted,
            "run_id": wanted if certain else None,
            "worker_id": self.id,
            "worker": self.name,
            "versions": None if versions is None else Jsonb(dict(versions)),
            "ceilings": Jsonb(dict(ceilings)),
        }
        async with self.pool.connection() as connection:
            cursor = await connection.execute(load_queries("rotina.runs")["claim_run"], values)
            row = await cursor.fetchone()
        if row is None:
            return None
        self._driving.add(row["id"])
        tenant = row["tenant"]
        return Claim(
            run=Run.model_validate(row),
            fence=Fence(self.pool, row["id"], row["lease_token"], tenant),
            resumes=row["resumes"],
            limited=bool({tenant, "*"} & set(ceilings))
            or row["limit_key"] is not None
            or row["child_group"] is not None
            or row["crashes"] > 0,
        )

    async def _keep_beating(self, own: Pool) -> None:
        while True:
            await asyncio.sleep(self.lease_seconds / 4)
            try:
                await self._beat(own)
                await self._requeue_orphans(own)
            except Exception:  # the beat must outlive whatever one round of it meets
                # Not fatal: without a beat the runs go to another worker, and the fence holds.
                logger.exception("lease of worker %s not renewed", self.name)

    async def _beat(self, own: Pool) -> None:
        await self._execute(own, "beat_worker")

    async def _requeue_orphans(self, own: Pool) -> None:
        """Hand back what this worker owns and does not drive, seen at two beats.

        At the first one the answer to its claim may still be on the way.
        """
        sql = load_queries("rotina.runs")
        async with own.connection() as connection:
            rows = await (await connection.execute(sql["own_running"], {"id": self.id})).fetchall()
            idle = {
                (row["id"], row["lease_token"]) for row in rows if row["id"] not in self._driving
            }
            orphans = sorted(idle & self._idle)
            self._idle = idle
            if orphans:
                ids, tokens = zip(*orphans, strict=True)
                values = {"ids": list(ids), "tokens": list(tokens)}
                await connection.execute(sql["requeue_orphans"], values)

    async def _execute(self, own: Pool, name: str) -> None:
        values = {"id": self.id, "name": self.name, "lease_seconds": self.lease_seconds}
        async with own.connection() as connection:
            await connection.execute(load_queries("rotina.runs")[name], values)
