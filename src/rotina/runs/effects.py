"""Effects: what a run changes outside its own state, never lost and never silently done twice.

In the same PostgreSQL (`transact`) the change, its receipt and the fence commit together. Anywhere
else (`call`) the intent is committed first, then the receiver is asked, then the receipt is kept.
A worker that dies in between leaves an intent whose outcome nobody knows: it is repeated where the
receiver knows the key again, looked up where it can be asked, and otherwise held for a person.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Literal
from uuid import UUID, uuid5

from langgraph.errors import GraphBubbleUp
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from pydantic import BaseModel, Field

from rotina.database import load_queries
from rotina.errors import EffectNotDoneError, LeaseLostError
from rotina.runs.lease import Fence
from rotina.runs.review import review

Receipt = dict[str, Any]
Transaction = Callable[[AsyncConnection[DictRow]], Awaitable[Receipt]]
Act = Callable[[UUID], Awaitable[Receipt]]
"""Does something outside, given the effect's key; returns a JSON receipt."""
Reconcile = Callable[[UUID], Awaitable[Receipt | None]]
"""Asks the receiver what became of a key: the receipt, or None when it never happened."""


class HeldEffect(BaseModel):
    """What a person decides about an effect whose outcome is unknown."""

    outcome: Literal["done", "not_done"] = Field(description="what the receiver says happened")
    receipt: dict[str, Any] = Field(default_factory=dict, description="what it answered, if done")


class Effects:
    """The effects of one run."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self._sql = load_queries("rotina.runs")

    async def transact(self, name: str, change: Transaction) -> Receipt:
        """Run `change` in a fenced transaction, once for this run and `name`.

        `change` gets a connection inside the transaction and returns a JSON receipt; it must do
        nothing but SQL on that connection. Returns the receipt, of this or an earlier attempt.
        Raises `LeaseLostError`, with nothing written, when another worker owns the run.
        """
        async with self._fence.transaction() as connection:
            cursor = await connection.execute(self._sql["done_effect"], self._key(name))
            done = await cursor.fetchone()
            if done is not None:
                receipt: Receipt = done["receipt"]
                return receipt
            receipt = await change(connection)
            row = {**self._key(name), "receipt": Jsonb(receipt)}
            await connection.execute(self._sql["insert_effect"], row)
            return receipt

    async def call(
        self,
        name: str,
        act: Act,
        *,
        repeatable: bool = False,
        reconcile: Reconcile | None = None,
    ) -> Receipt:
        """Do something outside this PostgreSQL, for this run and `name`; returns its receipt.

        `act` is given the effect's key, the same in every attempt, to hand to the receiver. Where
        the outcome is unknown (the worker died, or `act` raised) it is

        - called again with `repeatable`: the receiver knows the key and does a thing once;
        - looked up with `reconcile`;
        - held otherwise: the run waits for a person to answer the review `HeldEffect`.

        `act` raises `EffectNotDoneError` when the receiver certainly did nothing: the error goes
        on to the node, and another attempt may act. Other errors go on as well where the effect
        is repeatable or can be looked up. Call it in a node before what must not happen twice: a
        held effect suspends the run. Raises `LeaseLostError` when another worker owns the run.
        """
        known = await self.known(name)
        for _ in range(known["holds"] if known else 0):
            self._hold(name, None)  # answered before: LangGraph gives the same answers again
        if known is not None and known["state"] == "done":
            receipt: Receipt = known["receipt"]
            return receipt
        if known is not None and known["state"] == "intent":
            found = await self._find_out(name, repeatable=repeatable, reconcile=reconcile)
            if found is not None:
                return found
        await self._write("intend_effect", name)
        try:
            receipt = await act(self.key(name))
        except EffectNotDoneError:
            await self._settle(name, "clear")
            raise
        except (LeaseLostError, GraphBubbleUp):
            raise
        except Exception as error:
            if not repeatable and reconcile is None:
                self._hold(name, error)  # suspends the run; the answer is met at the next entry
            raise
        await self._settle(name, "done", receipt)
        return receipt

    def key(self, name: str) -> UUID:
        """The idempotency key of an effect of this run."""
        return uuid5(self._fence.run_id, name)

    async def _find_out(
        self, name: str, *, repeatable: bool, reconcile: Reconcile | None
    ) -> Receipt | None:
        """The receipt of an effect that was intended; None: it is to be done (again)."""
        if reconcile is not None:
            receipt = await reconcile(self.key(name))
            if receipt is not None:
                await self._settle(name, "done", receipt)
            return receipt
        return None if repeatable else await self._decide(name)

    async def _decide(self, name: str) -> Receipt | None:
        """What a person says became of it; None: it is to be done."""
        decision = self._hold(name, None)
        if decision.outcome == "done":
            await self._settle(name, "done", decision.receipt, decided=True)
            return decision.receipt
        await self._settle(name, "clear", decided=True)
        return None

    def _hold(self, name: str, error: Exception | None) -> HeldEffect:
        why = "its worker was lost in the middle" if error is None else str(error) or repr(error)
        return review(
            f"Did {name!r} happen? Nobody knows: {why}. Ask its receiver for the key below.",
            HeldEffect,
            data={"effect": name, "key": str(self.key(name)), "run": str(self._fence.run_id)},
        )

    async def known(self, name: str) -> dict[str, Any] | None:
        """`state`, `receipt` and `holds` of an effect of this run; None: nobody intended it."""
        async with self._fence.pool.connection() as connection:
            cursor = await connection.execute(self._sql["get_effect"], self._key(name))
            return await cursor.fetchone()

    async def _settle(
        self,
        name: str,
        state: Literal["clear", "done"],
        receipt: Receipt | None = None,
        *,
        decided: bool = False,
    ) -> None:
        kept = None if receipt is None else Jsonb(receipt)
        await self._write("settle_effect", name, state=state, receipt=kept, decided=int(decided))

    async def _write(self, query: str, name: str, **values: Any) -> None:
        async with self._fence.transaction() as connection:
            await connection.execute(self._sql[query], {**self._key(name), **values})

    def _key(self, name: str) -> dict[str, Any]:
        return {"run_id": self._fence.run_id, "name": name}
