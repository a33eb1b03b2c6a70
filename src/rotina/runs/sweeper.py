"""The sweeper: PostgreSQL is the truth, so whatever the broker forgot is found there.

Any number of processes may sweep at any time: an advisory lock lets one do it, and a sweep that
finds nothing costs a few index scans.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from rotina.database import Pool, load_queries
from rotina.runs.workflow import Queue

UNPARK_SECONDS = 20.0
"""How long room for a parked run may go unnoticed."""
UNPARK_LIMIT = 200
DUE_LIMIT = 100


@dataclass(frozen=True)
class Sweep:
    """What one sweep found."""

    requeued: int = 0
    failed: int = 0
    due: Mapping[Queue, int] = field(default_factory=dict)
    """The queues with runs that are due, and how many, up to a hundred. Most of them wait for a
    hand only; but whoever was told of them may have forgotten it."""


async def sweep(pool: Pool, *, patience: float = UNPARK_SECONDS) -> Sweep:
    """Take runs from dead workers, end what is over, and see what is due, in one transaction."""
    sql = load_queries("rotina.runs")
    async with pool.connection() as connection, connection.transaction():
        locked = await (await connection.execute(sql["lock_sweep"])).fetchone()
        if locked is None or not locked["locked"]:
            return Sweep()
        moved = await (await connection.execute(sql["requeue_lost_runs"])).fetchall()
        await connection.execute(sql["remove_dead_workers"])
        await connection.execute(sql["end_due_waits"])
        await connection.execute(sql["end_due_reviews"])
        await connection.execute(
            sql["unpark_forgotten"], {"patience": patience, "limit": UNPARK_LIMIT}
        )
        cursor = await connection.execute(
            sql["due_queues"], {"queues": list(get_args(Queue)), "limit": DUE_LIMIT}
        )
        due = {row["queue"]: row["due"] for row in await cursor.fetchall()}
    failed = sum(row["kind"] == "failed" for row in moved)
    return Sweep(len(moved) - failed, failed, due)
