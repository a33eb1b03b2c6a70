"""The ledger and the budgets in PostgreSQL: what many callers book goes in one statement.

Group commit (DeWitt et al., "Implementation techniques for main memory database systems", 1984):
while one transaction is under way, everything else waits for the next, which takes all of it. A
caller alone waits for nobody; a hundred callers share one round trip.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rotina.errors import DatabaseError
from rotina.gateway.budget import Claim, Spent, exceeded
from rotina.gateway.encoding import to_json
from rotina.gateway.ledger import ModelCall

if TYPE_CHECKING:
    import psycopg

    from rotina.database.pool import Pool

log = logging.getLogger(__name__)

POOL_TIMEOUT = 5.0
"""Seconds to wait for a connection: an answer waits for its row, but not long."""
LATER = 0.02
"""Seconds that what nobody waits for may wait for company."""
BATCH = 5000
"""Rows that are deleted at once."""

_Asked = asyncio.Future[Mapping[str, Any] | None]


@dataclass
class _Entries:
    """What one statement books."""

    spent: list[str] = field(default_factory=list)
    rows: list[tuple[str, asyncio.Future[None]]] = field(default_factory=list)
    wanted: list[tuple[str, str, _Asked]] = field(default_factory=list)
    """Each with its call's id."""
    durable: bool = False
    """Whether somebody waits until it is on disk."""

    def __len__(self) -> int:
        return len(self.spent) + len(self.rows) + len(self.wanted)

    def take(self) -> "_Entries":
        """Remove all of it, for the next statement; who has stopped waiting for a hold gets none.

        All, because what a call has spent and its row must not be parted.
        """
        wanted = [entry for entry in self.wanted if not entry[2].cancelled()]
        share = _Entries(self.spent, self.rows, wanted, self.durable)
        self.spent, self.rows, self.wanted, self.durable = [], [], [], False
        return share

    def alone(self) -> "list[_Entries]":
        """Each entry by itself, in the order of one statement."""
        return [
            *(_Entries(spent=[entry], durable=self.durable) for entry in self.spent),
            *(_Entries(rows=[entry], durable=self.durable) for entry in self.rows),
            *(_Entries(wanted=[entry], durable=self.durable) for entry in self.wanted),
        ]

    def values(self) -> dict[str, str | bool]:
        """The parameters of the statement: three JSON arrays, and `durable`."""
        return {
            "durable": self.durable,
            "spent": f"[{','.join(self.spent)}]",
            "calls": f"[{','.join(row for row, _ in self.rows)}]",
            "wanted": f"[{','.join(text for _, text, _ in self.wanted)}]",
        }

    def done(self, refused: Mapping[str, Mapping[str, Any]]) -> None:
        """Tell everybody that it is booked; `refused` says by call why not."""
        for _, waiting in self.rows:
            if not waiting.done():
                waiting.set_result(None)
        for call, _, asked in self.wanted:
            if not asked.done():
                asked.set_result(refused.get(call))

    def failed(self, error: DatabaseError) -> None:
        """Tell everybody that it is not."""
        if self.spent:
            log.error(
                "%d calls were not settled and will count as all they held: %s",
                len(self.spent), error,
            )  # fmt: skip
        for _, waiting in self.rows:
            if not waiting.done():
                waiting.set_exception(error)
        for _, _, asked in self.wanted:
            if not asked.done():
                asked.set_exception(error)


class PostgresLedger:
    """The tables `rotina.model_call`, `rotina.budget_account` and `rotina.budget_hold`.

    Both a `CallLedger` and a `BudgetStore`. It belongs to the event loop that uses it.
    """

    def __init__(self, pool: "Pool", *, strict: bool = False) -> None:
        """`pool` is an open `psycopg_pool.AsyncConnectionPool`; the caller closes it.

        A hold that is not `strict` is on disk half a second after its call has begun: it survives
        this process at once, and PostgreSQL's own crash from then on.
        """
        self._pool = pool
        self._strict = strict
        self._entries = _Entries()
        self._booking: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None

    def record(self, call: ModelCall, *, soon: bool = True) -> Coroutine[Any, Any, None]:
        """Write the row. Raises `DatabaseError` when PostgreSQL does not take it.

        It is entered at once, not when it is awaited: with what was settled a moment before.
        """
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._entries.rows.append((call.model_dump_json(), waiting))
        self._entries.durable |= soon
        self._go(soon=soon)
        return _written(waiting)

    async def reserve(
        self, call: UUID, claims: Sequence[Claim], seconds: float, facts: Mapping[str, Any]
    ) -> None:
        """Hold in every claim's budget, or in none.

        Raises `BudgetExceededError`, and `DatabaseError` when PostgreSQL does not answer: without
        it no call with a budget is made.
        """
        asked: _Asked = asyncio.get_running_loop().create_future()
        entry = {"call": str(call), "seconds": seconds, "facts": facts, "claims": claims}
        self._entries.wanted.append((str(call), to_json(entry).decode(), asked))
        self._entries.durable |= self._strict
        self._go(soon=True)
        told = await asked
        if told is not None:
            raise exceeded(told, claims)

    def settle(self, call: UUID, spent: Spent) -> None:
        """Book what the call has cost, with whatever is booked next.

        What cannot be booked is in the log; its hold expires, as spent.
        """
        entry = {"call": call, **vars(spent)}
        self._entries.spent.append(to_json(entry).decode())
        self._go(soon=False)

    async def flush(self) -> None:
        """Wait until everything is booked."""
        while self._entries or self._booking:
            self._go(soon=True)
            if self._booking:
                await asyncio.shield(self._booking)

    def _go(self, *, soon: bool) -> None:
        if self._booking is not None:
            return
        loop = asyncio.get_running_loop()
        if soon:
            if self._later is not None:
                self._later.cancel()
                self._later = None
            self._booking = loop.create_task(self._book_all())
        elif self._later is None:
            self._later = loop.call_later(LATER, self._now)

    def _now(self) -> None:
        self._later = None
        self._go(soon=True)

    async def _book_all(self) -> None:
        try:
            while self._entries:
                await self._book(self._entries.take())
        finally:
            self._booking = None

    async def _book(self, entries: _Entries, *, again: bool = True) -> None:
        import psycopg  # noqa: PLC0415 - heavy, and a gateway without a database needs none

        try:
            entries.done(await self._execute(entries.values()))
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as error:
            if not again:
                entries.failed(_failure(error))
                return
            await self._book(entries, again=False)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            # One entry that PostgreSQL cannot store must not take the others with it.
            if len(entries) == 1:
                entries.failed(_failure(error))
                return
            for each in entries.alone():
                await self._book(each)
        except psycopg.Error as error:
            entries.failed(_failure(error))
        except BaseException:
            entries.failed(DatabaseError("the ledger was closed in the middle of its work"))
            raise

    async def _execute(self, values: Mapping[str, str | bool]) -> dict[str, Mapping[str, Any]]:
        """Book it all; returns what was refused, by call."""
        from rotina.database.queries import load_queries  # noqa: PLC0415 - as psycopg

        query = load_queries("rotina.gateway")["book"]
        async with self._pool.connection(timeout=POOL_TIMEOUT) as connection:
            cursor = await connection.execute(query, values)
            return {str(row["refused"]): row["told"] for row in await cursor.fetchall()}


async def _written(waiting: asyncio.Future[None]) -> None:
    await waiting


def _failure(error: "psycopg.Error") -> DatabaseError:
    failure = DatabaseError(
        f"PostgreSQL did not book model calls ({type(error).__name__}): check DATABASE_URL and "
        "that `rotina migrate` has run"
    )
    failure.__cause__ = error
    return failure


async def purge_content(pool: "Pool", days: int) -> int:
    """Delete what was said in calls more than `days` ago; returns how many calls."""
    from rotina.database.queries import load_queries  # noqa: PLC0415 - as psycopg

    query = load_queries("rotina.gateway")["purge_content"]
    deleted, batch = 0, BATCH
    while batch == BATCH:
        async with pool.connection() as connection:
            batch = (await connection.execute(query, {"days": days, "limit": BATCH})).rowcount
        deleted += batch
    return deleted
