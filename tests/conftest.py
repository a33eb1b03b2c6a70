"""Fixtures: one PostgreSQL and one Valkey a session, a database of its own for each test."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from rotina.database import Pool, migrate, open_pool

TEMPLATE = "rotina_template"
PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of the person who runs it, and none calls home."""
    forget_settings(monkeypatch)


def forget_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every setting out of the environment."""
    for name in list(os.environ):
        conventional = name.startswith(("DATABASE_URL", "REDIS_URL", "OPENAI_"))
        if name.startswith("ROTINA_") or conventional:
            monkeypatch.delenv(name)
    monkeypatch.setenv("LANGSMITH_TRACING", "false")


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    """A folder for the session's servers, removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="rotina-tests-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url(servers_dir: Path) -> Iterator[str]:
    """A PostgreSQL server with a migrated template database."""
    from rotina.embedded import postgres

    service = postgres.start(servers_dir / "postgres", fast=True)
    try:
        with psycopg.connect(service.url, autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
        asyncio.run(
            migrate(with_database(service.url, TEMPLATE), [PROJECT / "workflows" / "migrations"])
        )
        yield service.url
    finally:
        service.stop()


@pytest.fixture(scope="session")
def redis_server(servers_dir: Path) -> Iterator[str]:
    """A Valkey server."""
    from rotina.embedded import valkey

    service = valkey.start(servers_dir / "valkey")
    try:
        yield service.url
    finally:
        service.stop()


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The session's Valkey, emptied."""
    import redis

    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A migrated database of this test's own, cloned from the template."""
    name = f"test_{uuid4().hex}"
    identifier = sql.Identifier(name)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {}").format(identifier, sql.Identifier(TEMPLATE))
        )
        yield with_database(postgres_url, name)
        connection.execute(sql.SQL("drop database {} with (force)").format(identifier))


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A database without any migration."""
    name = f"empty_{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        yield with_database(postgres_url, name)
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool on this test's database."""
    async with open_pool(database_url, size=5) as opened:
        yield opened


def with_database(url: str, name: str) -> str:
    """`url` with another database name."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
