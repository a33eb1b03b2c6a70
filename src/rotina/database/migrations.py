"""Forward-only migrations: SQL files, applied once each, in the order of their names.

A file is named `<version>_<serial>_<pre|post>_<what>.sql`. Code of the version before keeps
running after a `pre` file; a `post` file is applied when no old process is left. A file that was
applied must not change: its checksum is kept and compared.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import psycopg
from psycopg import AsyncConnection, errors

from rotina.database.queries import load_queries
from rotina.errors import DatabaseError

_FILE = re.compile(r"^\d{2}\.\d{2}\.\d{2}_\d{2}_(pre|post)_[a-z0-9_]+\.sql$")
_OWN = "rotina"
_PROJECT = "project"


@dataclass(frozen=True)
class Migration:
    """One SQL file of a source: Rotina's own, or the project's."""

    source: str
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


async def migrate(database_url: str, extra: Sequence[Path] = ()) -> list[str]:
    """Apply what is missing, one transaction a file; returns the names applied now.

    Any number of processes may call it at once: an advisory lock lets one go first.
    Raises `DatabaseError` when a file changed after it was applied, or cannot be applied.
    """
    queries = load_queries("rotina.database")
    migrations = [*_own(), *_project(extra)]
    try:
        connection = await AsyncConnection.connect(
            database_url, autocommit=True, connect_timeout=10
        )
    except psycopg.OperationalError as error:
        raise DatabaseError(
            f"PostgreSQL does not answer at DATABASE_URL: {str(error).splitlines()[0]}"
        ) from None
    async with connection:
        await connection.execute(queries["lock_migrations"])
        await connection.execute(queries["create_migration_table"])
        done = await _applied(connection)
        fresh = [m for m in migrations if _is_missing(m, done)]
        for migration in fresh:
            await _apply(connection, migration)
    return [migration.name for migration in fresh]


async def applied_migrations(database_url: str) -> list[str]:
    """Names of the migrations a database has, oldest first; empty for a fresh one."""
    async with await AsyncConnection.connect(database_url, connect_timeout=10) as connection:
        try:
            return [name for _, name in await _applied(connection)]
        except (errors.UndefinedTable, errors.InvalidSchemaName):
            return []


async def pending_migrations(database_url: str, extra: Sequence[Path] = ()) -> list[str]:
    """Names of the migrations that a database still lacks."""
    done = set(await applied_migrations(database_url))
    return [m.name for m in [*_own(), *_project(extra)] if m.name not in done]


def _own() -> list[Migration]:
    folder = resources.files("rotina.database").joinpath("sql")
    files = [(entry.name, entry.read_text(encoding="utf-8")) for entry in folder.iterdir()]
    return _ordered(_OWN, files)


def _project(folders: Iterable[Path]) -> list[Migration]:
    files = []
    for folder in folders:
        if not folder.is_dir():
            raise DatabaseError(f"migrations names {folder}, which is not a folder")
        files += [(path.name, path.read_text(encoding="utf-8")) for path in folder.glob("*.sql")]
    return _ordered(_PROJECT, files)


def _ordered(source: str, files: Iterable[tuple[str, str]]) -> list[Migration]:
    migrations = sorted((Migration(source, *file) for file in files), key=lambda m: m.name)
    for migration in migrations:
        if not _FILE.match(migration.name):
            raise DatabaseError(
                f"{migration.name!r} is not a migration's name: "
                "use <00.00.00>_<00>_<pre|post>_<what>.sql"
            )
    return migrations


async def _applied(connection: AsyncConnection) -> dict[tuple[str, str], str]:
    cursor = await connection.execute(load_queries("rotina.database")["applied_migrations"])
    return {(source, name): checksum for source, name, checksum in await cursor.fetchall()}


def _is_missing(migration: Migration, done: dict[tuple[str, str], str]) -> bool:
    checksum = done.get((migration.source, migration.name))
    if checksum is not None and checksum != migration.checksum:
        raise DatabaseError(
            f"{migration.name} changed after it was applied here: "
            "migrations are forward-only, so undo the change and write a new file"
        )
    return checksum is None


async def _apply(connection: AsyncConnection, migration: Migration) -> None:
    queries = load_queries("rotina.database")
    try:
        async with connection.transaction():
            await connection.execute(migration.sql.encode())
            await connection.execute(
                queries["record_migration"],
                {
                    "source": migration.source,
                    "name": migration.name,
                    "checksum": migration.checksum,
                },
            )
    except errors.FeatureNotSupported as error:
        if "vector" not in str(error):
            raise
        raise DatabaseError(
            "This PostgreSQL server has no pgvector: install it (package postgresql-NN-pgvector, "
            "or the image pgvector/pgvector) and run `rotina migrate` again"
        ) from None
    except errors.InsufficientPrivilege as error:
        user = connection.info.user
        raise DatabaseError(
            f"{migration.name} needs more than {user!r} may do ({error.diag.message_primary}). "
            "As an administrator of the server run: create role rotina_tenant nologin; "
            f"grant rotina_tenant to {user}; and in this database: create extension vector; "
            "create extension pg_trgm; create extension btree_gin. Then `rotina migrate` again."
        ) from None
    except psycopg.Error as error:
        raise DatabaseError(f"{migration.name} cannot be applied: {error}") from error
