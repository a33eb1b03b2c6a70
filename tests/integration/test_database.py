"""Migrations, the pool and named queries on a real PostgreSQL."""

import asyncio
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import psycopg
import pytest

from rotina.database import (
    applied_migrations,
    load_queries,
    migrate,
    open_pool,
    pending_migrations,
)
from rotina.database.arrays import Integers, Texts, Uuids
from rotina.errors import DatabaseError

SQL = Path(__file__).resolve().parents[2] / "src/rotina/database/sql"
OWN = sorted(path.name for path in SQL.glob("*.sql"))


async def test_migrations_are_applied_once_and_in_order(
    empty_database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "00.01.00_02_pre_second.sql").write_text("alter table own add y int;")
    (tmp_path / "00.01.00_01_pre_first.sql").write_text("create table own (x int);")
    assert await applied_migrations(empty_database_url) == []
    names = [*OWN, "00.01.00_01_pre_first.sql", "00.01.00_02_pre_second.sql"]
    assert await pending_migrations(empty_database_url, [tmp_path]) == names
    assert await migrate(empty_database_url, [tmp_path]) == names
    assert await migrate(empty_database_url, [tmp_path]) == []
    assert await applied_migrations(empty_database_url) == names


async def test_many_processes_may_migrate_at_once(empty_database_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))
    assert sorted(applied) == [[], [], [], OWN]


async def test_a_changed_migration_is_refused(empty_database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "00.01.00_01_pre_first.sql"
    path.write_text("create table own (x int);")
    await migrate(empty_database_url, [tmp_path])
    path.write_text("create table own (x bigint);")
    with pytest.raises(DatabaseError, match=r"pre_first\.sql changed.*write a new file"):
        await migrate(empty_database_url, [tmp_path])


async def test_a_broken_migration_leaves_nothing(empty_database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "00.01.00_01_pre_first.sql"
    path.write_text("create table own (x int); select nonsense;")
    with pytest.raises(DatabaseError, match=r"pre_first\.sql cannot be applied.*nonsense"):
        await migrate(empty_database_url, [tmp_path])
    assert await applied_migrations(empty_database_url) == OWN
    async with await psycopg.AsyncConnection.connect(empty_database_url) as connection:
        row = await (await connection.execute("select to_regclass('own')")).fetchone()
    assert row == (None,)


async def test_odd_names_and_folders_are_refused(empty_database_url: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="absent, which is not a folder"):
        await migrate(empty_database_url, [tmp_path / "absent"])
    (tmp_path / "first.sql").write_text("select 1;")
    with pytest.raises(DatabaseError, match=r"'first\.sql'.*pre\|post"):
        await migrate(empty_database_url, [tmp_path])


async def test_a_dead_server_is_named_without_the_password() -> None:
    url = "postgresql://user:hunter2@127.0.0.1:1/shop"
    with pytest.raises(DatabaseError, match="DATABASE_URL") as caught:
        await migrate(url)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(DatabaseError, match=r"127\.0\.0\.1:1/shop.*rotina doctor") as caught:
        async with open_pool(url, timeout=0.5):
            pass
    assert "hunter2" not in str(caught.value)


async def test_a_connection_that_died_in_the_pool_is_replaced(database_url: str) -> None:
    async with open_pool(database_url, size=2) as pool:
        async with pool.connection() as connection:
            pid = connection.info.backend_pid
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as killer:
            await killer.execute("select pg_terminate_backend(%s, 10_000)", (pid,))
        async with pool.connection() as connection:
            row = await (await connection.execute("select 1 as one")).fetchone()
    assert row == {"one": 1}


@pytest.mark.parametrize("package", ["rotina.database", "rotina.runs", "rotina.gateway"])
def test_every_query_is_named_and_described(package: str) -> None:
    assert load_queries(package)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- name: a\n-- why\nselect 1;\n-- name: a\n-- why\nselect 2;", "there twice"),
        ("-- name: a\nselect 1;", "no description"),
    ],
)
def test_a_bad_query_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    package = tmp_path / f"queries_{abs(hash(text))}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "queries.sql").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=message):
        load_queries(package.name)
    module = sys.modules.pop(package.name)
    assert isinstance(module, ModuleType)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (Texts(["a", "ção 👩‍👧", None, "", "\\ {} , \" '"]), "text[]"),
        (Texts(), "text[]"),
        (Integers([0, -1, None, 2**31 - 1]), "integer[]"),
        (Uuids([UUID(int=7), UUID(int=2**128 - 1)]), "uuid[]"),
        (Uuids(), "uuid[]"),
    ],
)
async def test_arrays_arrive_as_they_are(database_url: str, given: Any, kind: str) -> None:
    async with open_pool(database_url) as pool, pool.connection() as connection:
        cursor = await connection.execute(f"select %b::{kind} as value".encode(), [given])
        row = await cursor.fetchone()
    assert row == {"value": list(given)}
