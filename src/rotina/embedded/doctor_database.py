"""`rotina doctor` on PostgreSQL: reachable, new enough, pgvector, migrations, clock."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from rotina.embedded.check import Check, attempt
from rotina.errors import DatabaseError, RotinaError
from rotina.settings import Settings

if TYPE_CHECKING:
    from psycopg import Connection

OLDEST = 15
MOST_SKEW = 2.0
"""Seconds between our clock and PostgreSQL's; leases last a few times that."""

_VECTOR = """
select installed_version, default_version from pg_available_extensions where name = 'vector'
"""


def examine_database(settings: Settings) -> Iterator[Check]:
    """Without a connection the first check fails and the others are left out."""
    import psycopg  # noqa: PLC0415 - `rotina --help` must not pay for it

    try:
        url = settings.require_database_url()
        connection = psycopg.connect(url, connect_timeout=5, autocommit=True)
    except RotinaError as error:
        problem, _, remedy = str(error).partition(": ")
        yield Check("postgres", "failed", problem, remedy)
        return
    except psycopg.Error as error:
        yield Check(
            "postgres",
            "failed",
            f"does not answer at DATABASE_URL ({_reason(error)})",
            "start it and correct DATABASE_URL, or unset it and use the embedded one (`rotina up`)",
        )
        return
    with connection:
        looks: dict[str, Callable[[], str]] = {
            "postgres": partial(_version, connection),
            "pgvector": partial(_vector, connection),
            "clock": partial(_clock, connection),
            "migrations": partial(_migrations, settings),
            "runs": partial(_runs, settings, url),
        }
        for name, look in looks.items():
            found = attempt(name, look)
            yield found
            if name == "migrations" and found.status == "failed":
                return  # without its tables there is nothing to look at


def _version(connection: "Connection") -> str:
    number = connection.info.server_version
    if number // 10_000 < OLDEST:
        raise DatabaseError(
            f"PostgreSQL {number // 10_000} is too old: move to version {OLDEST} or newer"
        )
    return f"PostgreSQL {number // 10_000}.{number % 10_000}"


def _vector(connection: "Connection") -> str:
    row = connection.execute(_VECTOR).fetchone()
    if row is None:
        raise DatabaseError(
            "the server has no pgvector: install it there (package postgresql-NN-pgvector), "
            "or unset DATABASE_URL and use the embedded server (`rotina up`)"
        )
    installed, available = row
    if installed is None:
        raise DatabaseError(
            f"pgvector {available} is available, not installed: run `rotina migrate` as a role "
            "that may `CREATE EXTENSION vector`"
        )
    return f"pgvector {installed} (available: {available})"


def _clock(connection: "Connection") -> str:
    before = datetime.now(UTC)
    row = connection.execute("select clock_timestamp()").fetchone()
    after = datetime.now(UTC)
    assert row is not None
    skew = max((row[0] - after).total_seconds(), (before - row[0]).total_seconds(), 0.0)
    if skew > MOST_SKEW:
        raise DatabaseError(
            f"our clock and PostgreSQL's differ by {skew:.1f} s: synchronise both (NTP)"
        )
    return f"differs from PostgreSQL's by less than {max(skew, 0.1):.1f} s"


def _migrations(settings: Settings) -> str:
    from rotina.database import applied_migrations, pending_migrations  # noqa: PLC0415

    url = settings.require_database_url()
    extra = [settings.project_dir / folder for folder in settings.migrations]
    pending = asyncio.run(pending_migrations(url, extra))
    if pending:
        listed = ", ".join(pending[:3])
        raise DatabaseError(f"{len(pending)} migrations are missing ({listed}): `rotina migrate`")
    return f"{len(asyncio.run(applied_migrations(url)))} applied, none missing"


def _reason(error: Exception) -> str:
    """The first line: the others are advice, and psycopg names host and port, no password."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _runs(settings: Settings, url: str) -> str:
    """Whether this project's code goes on with every unfinished run."""
    from rotina.database import open_pool  # noqa: PLC0415 - `rotina --help` must not pay for it
    from rotina.runs import Registry, Stranded, stranded_runs  # noqa: PLC0415 - as above

    async def look() -> list[Stranded]:
        registry = Registry.load(settings.workflows, settings.project_dir)
        async with open_pool(url, size=1) as pool:
            return await stranded_runs(pool, registry.versions)

    left = asyncio.run(look())
    if left:
        raise DatabaseError("; ".join(str(each) for each in left))
    return "this code goes on with every unfinished run"
