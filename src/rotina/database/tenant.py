"""The tenant's scope: row-level security decides what a statement sees, not its `where`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.sql import SQL

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


async def query_as_tenant(
    pool: Pool,
    tenant: str,
    statement: SQL | bytes,
    values: Mapping[str, Any],
    *,
    enter: SQL | None = None,
    settings: Mapping[str, str] | None = None,
    binary: bool = False,
    timeout: float | None = None,
) -> list[DictRow]:
    """The rows of one statement in the tenant's scope, in one round trip; none where it has none.

    A pipeline of an autocommit connection is one transaction, as `tenant_scope`'s. `enter` stands
    in for `enter_tenant`, and may set more with `settings`. `timeout` is for a connection, in
    seconds; the pool's unless given.
    """
    entered = {"tenant": tenant, **(settings or {})}
    enter = enter or SQL(load_queries("rotina.database")["enter_tenant"])
    async with pool.connection(timeout=timeout) as connection:
        async with connection.pipeline():
            await connection.execute(enter, entered)
            cursor = await connection.execute(statement, values, binary=binary)
        # Within the pipeline this would ask the server for what it has, and then for its end.
        return await cursor.fetchall() if cursor.description else []
