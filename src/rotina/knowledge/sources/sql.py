"""Rows of a query in a PostgreSQL, followed for changes."""

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed

from rotina.database import load_queries
from rotina.errors import SourceError
from rotina.knowledge.sources.model import Fetched, Listed, Source, SqlSettings

PAGE = 1000
SECONDS = 600


class SqlQuery(Source):
    """Each row a document; a hash of the row tells whether it has changed.

    Everything runs in read-only transactions.
    """

    def __init__(self, settings: SqlSettings) -> None:
        """Raises `SourceError` when the environment variable is not set."""
        self._query = settings.query.strip().rstrip(";")
        self._url = os.environ.get(settings.database, "")
        if not self._url:
            raise SourceError(
                f"The environment variable {settings.database} is not set for this worker: it "
                "holds the URL of the database whose rows are followed"
            )

    async def listed(self) -> AsyncIterator[Listed]:
        """All rows, without their texts. Raises `SourceError` with what PostgreSQL says."""
        try:
            async with (
                await self._connect() as connection,
                connection.cursor(name="rotina_source", row_factory=dict_row) as cursor,
            ):
                await cursor.execute(self._around("list_rows"), {})
                while rows := await cursor.fetchmany(PAGE):
                    for row in rows:
                        if row["id"] is None:
                            raise SourceError("The query gives a row whose id is null: name it")
                        yield Listed(row["id"], row["hash"], row["metadata"])
        except psycopg.Error as error:
            raise self._refused(error) from None

    async def fetch(self, uri: str) -> Fetched:
        """A row's text."""
        try:
            async with await self._connect() as connection:
                cursor = connection.cursor(row_factory=dict_row)
                await cursor.execute(self._around("get_row"), {"id": uri})
                row: dict[str, Any] | None = await cursor.fetchone()
        except psycopg.Error as error:
            raise self._refused(error) from None
        if row is None:
            raise SourceError(f"The row {uri!r} is gone: it was there when rows were listed")
        title = row["title"]
        text = f"# {title}\n\n{row['text']}" if title else row["text"] or ""
        media_type = "text/markdown" if title else "text/plain"
        return Fetched(uri, text.encode(), media_type)

    async def _connect(self) -> AsyncConnection:
        connection = await AsyncConnection.connect(self._url, connect_timeout=10)
        await connection.set_read_only(True)
        milliseconds = json.dumps(SECONDS * 1000)
        await connection.execute(
            load_queries("rotina.knowledge.sources")["limit_time"], {"milliseconds": milliseconds}
        )
        return connection

    def _around(self, name: str) -> Composed:
        # The operator's own statement, in the operator's own database, read-only; neither its
        # percent signs nor its braces are ours.
        query = SQL(self._query.replace("%", "%%").replace("{", "{{").replace("}", "}}"))
        return SQL(load_queries("rotina.knowledge.sources")[name]).format(query=query)

    def _refused(self, error: psycopg.Error) -> SourceError:
        said = (error.diag.message_primary or str(error)).splitlines()[0]
        return SourceError(
            f"The database refused the query ({said}): it needs the columns id and text, and may "
            "only read"
        )
