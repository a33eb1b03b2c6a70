"""The connection pool of one process.

A connection is borrowed for one statement or one transaction, never across a model call: a call
may take minutes, the pool is small, and idle connections are what firewalls cut.
"""

import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from pydantic_core import from_json

from rotina.database.queries import load_queries
from rotina.errors import DatabaseError

Pool = AsyncConnectionPool[AsyncConnection[DictRow]]

PREPARE_AFTER = 2
"""Executions of a statement on a connection until it is prepared there."""
RECONNECT_SECONDS = 2.0
CHECK_SECONDS = 1.0
"""A silent connection that answered this recently is lent out again without being asked."""
_answered: WeakKeyDictionary[AsyncConnection[DictRow], float] = WeakKeyDictionary()


@asynccontextmanager
async def open_pool(url: str, *, size: int = 10, timeout: float = 15.0) -> AsyncIterator[Pool]:
    """Open a pool of up to `size` connections: autocommit, rows as dicts, checked when borrowed.

    Raises `DatabaseError` when no connection can be made within `timeout` seconds.
    """
    options: dict[str, Any] = {
        "autocommit": True,
        "row_factory": dict_row,
        "prepare_threshold": None,  # until `_configure` knows better
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
        configure=_configure,
        check=_check,
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
    # From here on a server that comes back is found at once, not after a delay that has doubled.
    pool.reconnect_timeout = RECONNECT_SECONDS
    try:
        yield pool
    finally:
        await pool.close()


async def _configure(connection: AsyncConnection[DictRow]) -> None:
    """Read JSON by pydantic's parser: the same values, sooner. Prepare statements, if it is safe.

    pgbouncer in transaction mode gives each transaction another server connection, which may not
    know what was prepared. It is recognised by the process id it made up for its clients.
    """
    set_json_loads(from_json, connection)
    cursor = await connection.execute(load_queries("rotina.database")["backend_pid"])
    row = await cursor.fetchone()
    if row is not None and row["pid"] == connection.info.backend_pid:
        connection.prepare_threshold = PREPARE_AFTER


async def _check(connection: AsyncConnection[DictRow]) -> None:
    now = time.monotonic()
    lately = now - _answered.get(connection, -CHECK_SECONDS) < CHECK_SECONDS
    # A server that shuts down says so, and then there is something to read.
    if lately and not _readable(connection):
        return
    await AsyncConnectionPool.check_connection(connection)
    _answered[connection] = now


def _readable(connection: AsyncConnection[DictRow]) -> bool:
    poll = select.poll()  # `select` itself refuses file numbers above 1023
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _place(url: str) -> str:
    """Host, port and database of a URL: the part that is no secret."""
    parts = conninfo_to_dict(url)
    return f"{parts.get('host', 'local')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"
