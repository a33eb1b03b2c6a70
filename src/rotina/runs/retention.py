"""Deletes what is kept for a time only: what runs that have ended were told."""

from rotina.database import Pool, load_queries

BATCH = 5000


async def purge(pool: Pool, *, record_days: int) -> int:
    """Delete answers older than `record_days` of runs that have ended; returns how many.

    With 0 days they go as soon as their run has ended. A run that is under way keeps its own,
    however old. In batches, so that no lock is held for long; any number of processes may do it.
    """
    sql = load_queries("rotina.runs")["purge_recorded"]
    deleted = 0
    while True:
        async with pool.connection() as connection:
            cursor = await connection.execute(sql, {"days": record_days, "limit": BATCH})
        deleted += cursor.rowcount
        if cursor.rowcount < BATCH:
            return deleted
