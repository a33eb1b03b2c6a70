"""The sweeper: PostgreSQL is the truth, so whatever the broker forgot is found there.

Any number of processes may sweep at any time: an advisory lock lets one do it, and a sweep that
finds nothing costs a few index scans.
"""

from dataclasses import dataclass
from uuid import UUID

from rotina.database import Pool, load_queries

HINT_PATIENCE = 20.0
"""Seconds after which a queued run's hint counts as lost and is sent again. A run that merely
waits in a long queue gets a second hint, which will find nothing to claim."""
SWEEP_LIMIT = 1000
UNPARK_LIMIT = 200


@dataclass(frozen=True)
class Hint:
    """A run to tell a queue about; what the queue is told is that there is one more."""

    run_id: UUID
    queue: str


@dataclass(frozen=True)
class Sweep:
    """What one sweep found."""

    requeued: int
    failed: int
    hints: tuple[Hint, ...]


async def sweep(pool: Pool, *, patience: float = HINT_PATIENCE) -> Sweep:
    """Take runs from dead workers, end what is due, and collect hints, in one transaction."""
    sql = load_queries("rotina.runs")
    async with pool.connection() as connection, connection.transaction():
        locked = await (await connection.execute(sql["lock_sweep"])).fetchone()
        if locked is None or not locked["locked"]:
            return Sweep(0, 0, ())
        moved = await (await connection.execute(sql["requeue_lost_runs"])).fetchall()
        await connection.execute(sql["remove_dead_workers"])
        await connection.execute(sql["end_due_waits"])
        await connection.execute(sql["end_due_reviews"])
        await connection.execute(
            sql["unpark_forgotten"], {"patience": patience, "limit": UNPARK_LIMIT}
        )
        due = await connection.execute(
            sql["due_hints"], {"patience": patience, "limit": SWEEP_LIMIT}
        )
        hints = tuple(Hint(row["id"], row["queue"]) for row in await due.fetchall())
    failed = sum(row["kind"] == "failed" for row in moved)
    return Sweep(len(moved) - failed, failed, hints)
