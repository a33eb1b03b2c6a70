"""The connection pool of one process.

A connection is borrowed for one statement or one transaction, never across a model call: a call
may take minutes, the pool is small, and idle connections are what firewalls cut.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from rotina.errors import DatabaseError

Pool = AsyncConnectionPool[AsyncConnection[DictRow]]


@asynccontextmanager
async def open_pool(url: str, *, size: int = 10, timeout: float = 15.0) -> AsyncIterator[Pool]:
    """Open a pool of up to `size` connections: autocommit, rows as dicts, checked when borrowed.

    Raises `DatabaseError` when no connection can be made within `timeout` seconds.
    """
    options: dict[str, Any] = {
        "autocommit": True,
        "row_factory": dict_row,
        # Works behind pgbouncer in transaction mode, which cannot hold prepared statements.
        "prepare_threshold": None,
        "application_name": "rotina",
        "connect_timeout": 10,
        # A host that vanished is noticed in half a minute, not in two hours.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 4,
    }
    pool: Pool = AsyncConnectionPool(
        url,
        connection_class=AsyncConnection[DictRow],
        kwargs=options,
        min_size=1,
        max_size=size,
        timeout=timeout,
        # A connection may have died while it lay idle (restart, firewall): try before handing out.
        check=AsyncConnectionPool.check_connection,
        open=False,
    )
    try:
        await pool.open(wait=True, timeout=timeout)
    except PoolTimeout:
        await pool.close()
        raise DatabaseError(
            "PostgreSQL does not answer at DATABASE_URL "
            f"({_place(url)}): is it running, and are user and password right? Try `rotina doctor`."
        ) from None
    try:
        yield pool
    finally:
        await pool.close()


def _place(url: str) -> str:
    """Host, port and database of a URL: the part that is no secret."""
    parts = conninfo_to_dict(url)
    return f"{parts.get('host', 'local')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"
