"""Effects: what a run changes outside its own state, each at most once and never lost.

This first kind writes to tables of the same PostgreSQL: the change, its receipt and the fence
commit together, so a run killed before the commit has done nothing and one killed after it finds
the receipt and does nothing again.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from rotina.database import load_queries
from rotina.runs.lease import Fence

Transaction = Callable[[AsyncConnection[DictRow]], Awaitable[dict[str, Any]]]


class Effects:
    """The effects of one run."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence

    async def transact(self, name: str, change: Transaction) -> dict[str, Any]:
        """Run `change` in a fenced transaction, once for this run and `name`.

        `change` gets a connection inside the transaction and returns a JSON receipt; it must do
        nothing but SQL on that connection. Returns the receipt, of this or an earlier attempt.
        Raises `LeaseLostError`, with nothing written, when another worker owns the run.
        """
        sql = load_queries("rotina.runs")
        key = {"run_id": self._fence.run_id, "name": name}
        async with self._fence.transaction() as connection:
            done = await (await connection.execute(sql["done_effect"], key)).fetchone()
            if done is not None:
                receipt: dict[str, Any] = done["receipt"]
                return receipt
            receipt = await change(connection)
            await connection.execute(sql["insert_effect"], {**key, "receipt": Jsonb(receipt)})
            return receipt
