"""The tenant's scope: row-level security decides what a statement sees, not its `where`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from rotina.database.pool import Pool
from rotina.database.queries import load_queries


@asynccontextmanager
async def tenant_scope(pool: Pool, tenant: str) -> AsyncIterator[AsyncConnection[DictRow]]:
    """A transaction as the role `rotina_tenant`, which sees and writes this tenant's rows only.

    Both settings end with the transaction, so nothing leaks to who borrows the connection next,
    and it works behind pgbouncer in transaction mode.
    """
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(
            load_queries("rotina.database")["enter_tenant"], {"tenant": tenant}
        )
        yield connection
