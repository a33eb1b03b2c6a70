"""A pooler between us and PostgreSQL: recognised, and nothing is prepared behind it."""

import asyncio
import struct
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from rotina.database import Pool, open_pool

MADE_UP = 4_000_001


class Pooler:
    """Passes everything on, but tells clients a process id of its own, as pgbouncer does."""

    def __init__(self, host: str, port: int) -> None:
        self._place = host, port
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection(*self._place)
        self._writers += [writer, upstream]
        for work in (_copy(reader, upstream), _answers(upstream_reader, writer)):
            self._tasks.append(asyncio.create_task(work))

    async def close(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(
            *(each.wait_closed() for each in self._writers), return_exceptions=True
        )


async def _answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The server's messages; of BackendKeyData the process id is replaced."""
    try:
        while True:
            kind, length = struct.unpack("!cI", await reader.readexactly(5))
            body = await reader.readexactly(length - 4)
            if kind == b"K":
                body = struct.pack("!I", MADE_UP) + body[4:]
            writer.write(struct.pack("!cI", kind, length) + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


@pytest.fixture
async def pooled_url(database_url: str) -> AsyncIterator[str]:
    parts = urlsplit(database_url)
    assert parts.hostname is not None
    assert parts.port is not None
    pooler = Pooler(parts.hostname, parts.port)
    server = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        place = f"{parts.username}:{parts.password}@127.0.0.1:{port}"
        plain = "sslmode=disable&gssencmode=disable"
        yield urlunsplit(parts._replace(netloc=place, query=plain))
        await pooler.close()


async def prepared(pool: Pool) -> int:
    """How many statements the server knows after one was executed often."""
    async with pool.connection() as connection:
        for _ in range(10):
            await connection.execute("select 1 as one")
        cursor = await connection.execute("select count(*) as n from pg_prepared_statements")
        row = await cursor.fetchone()
    assert row is not None
    return int(row["n"])


async def test_nothing_is_prepared_behind_a_pooler(pooled_url: str) -> None:
    async with open_pool(pooled_url, size=1) as pool:
        async with pool.connection() as connection:
            assert connection.info.backend_pid == MADE_UP, "the test's pooler is in between"
        assert await prepared(pool) == 0


async def test_statements_are_prepared_without_one(database_url: str) -> None:
    async with open_pool(database_url, size=1) as pool:
        assert await prepared(pool) > 0
