"""Runs that a run starts: one that goes its own way, one it waits for, or thousands.

A child is accepted in the transaction of the effect that says so, under the parent's fence, so
that a parent which is driven again finds its children instead of starting others.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from langgraph.types import interrupt
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict
from uuid_utils.compat import uuid7

from rotina.database import load_queries
from rotina.errors import ChildFailedError, InvalidInputError, RunError
from rotina.runs.effects import Effects, Receipt
from rotina.runs.flow import check_priority
from rotina.runs.lease import Fence
from rotina.runs.questions import MARK
from rotina.runs.run import Run
from rotina.runs.store import NOT_STORABLE, input_hash, not_storable
from rotina.runs.thread import is_conversational
from rotina.runs.workflow import Registry, Tell, Workflow, limits


class Child(BaseModel):
    """A run of a group, once it has ended."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    index: int
    """Which of the inputs it was given."""
    state: Literal["succeeded", "failed", "cancelled"]
    result: dict[str, Any] | None
    error: dict[str, Any] | None


class Children:
    """What one run starts; in a node, each call by a name of its own within the run."""

    def __init__(
        self,
        fence: Fence,
        registry: Registry,
        run: Run,
        tell: Tell,
    ) -> None:
        self._fence = fence
        self._registry = registry
        self._run = run
        self._tell = tell
        self._effects = Effects(fence)
        self._sql = load_queries("rotina.runs")

    async def start(
        self, name: str, workflow: str, value: Mapping[str, Any], *, priority: int | None = None
    ) -> UUID:
        """Start a run that goes its own way, once for this run and `name`: an outbox.

        Accepted when this returns, it outlives its parent, cancelled or not; the id is the same in
        every attempt. Raises `UnknownWorkflowError`, `InvalidInputError`, or `LeaseLostError`.
        """
        if priority is not None:
            check_priority(priority)
        receipt = await self._accept(name, workflow, [value], grouped=False, priority=priority)
        return UUID(receipt["first"])

    async def run(self, name: str, workflow: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """Start a run and wait for its end, with nobody alive meanwhile; returns its result.

        As with `review`, LangGraph runs the node again from its top afterwards. Raises
        `ChildFailedError` when it failed or was cancelled, and what `start` raises.
        """
        [child] = await self.map(name, workflow, [value])
        if child.result is None:
            why = (child.error or {}).get("message", "")
            raise ChildFailedError(f"Run {child.id} of {workflow!r} {child.state}: {why}")
        return child.result

    async def map(
        self,
        name: str,
        workflow: str,
        values: Sequence[Mapping[str, Any]],
        *,
        limit: int | None = None,
    ) -> list[Child]:
        """Start a run for each input and wait until all have ended; one `Child` for each, in order.

        At most `limit` are under way at once. Those that failed are among the results: what that
        means is the node's business. When the parent is cancelled they are; when it is retried,
        those that failed are. Otherwise as `run`.
        """
        if limit is not None and limit < 1:
            raise InvalidInputError(f"limit={limit}: at least 1 run has to be under way")
        if not values:
            return []
        await self._accept(name, workflow, values, grouped=True, limit=limit)
        for _ in range(await self._waits(name)):
            _wait(name)
        while (await self._rows("group_under_way", name))[0]["under_way"]:
            # Counted before: whoever runs the node again has as many answers to take.
            await self._count_wait(name)
            _wait(name)
        return [Child.model_validate(row) for row in await self._rows("list_children", name)]

    async def _accept(
        self,
        name: str,
        workflow: str,
        values: Sequence[Mapping[str, Any]],
        *,
        grouped: bool,
        limit: int | None = None,
        priority: int | None = None,
    ) -> Receipt:
        """The receipt of the effect that these runs are; they are told of when they are new."""
        declared = self._registry[workflow]
        if is_conversational(declared):
            raise InvalidInputError(
                f"{workflow!r} answers messages of a thread: it cannot be another run's child"
            )
        checked = [declared.validate_input(value) for value in values]
        rows = _new_rows(declared, checked, self._shared(declared, name, limit), limit)
        inputs = input_hash({"inputs": [row["input_hash"] for row in rows]})
        values_of = {
            "tenant": self._run.tenant,
            "workflow": declared.name,
            "queue": declared.queue,
            "max_attempts": self._run.max_attempts,
            "priority": declared.priority if priority is None else priority,
            "parent_id": self._run.id,
            "group": name if grouped else None,
            **limits(declared, checked[0]),
            **({} if limit is None else {"max_running": limit}),
        }
        if not grouped:
            rows[0]["index"] = None
        new = 0

        async def insert(connection: AsyncConnection[DictRow]) -> Receipt:
            await connection.execute(
                self._sql["insert_children"], {**values_of, "rows": Jsonb(rows)}
            )
            nonlocal new
            new = sum(not row["parked"] for row in rows)
            return {"first": rows[0]["id"], "runs": len(rows), "inputs": inputs}

        try:
            receipt = await self._effects.transact(name, insert)
        except NOT_STORABLE as error:
            raise not_storable(declared, error) from None
        if receipt.get("inputs") != inputs:
            raise RunError(
                f"{name!r} has started runs with other inputs: a node that is run again has to ask "
                "for the same; what changes belongs into a `@step`, or into the name"
            )
        if new:
            await self._tell(declared.queue, new)
        return receipt

    def _shared(self, workflow: Workflow, name: str, limit: int | None) -> str | None:
        """The key of a group's own limit."""
        if limit is None:
            return None
        if workflow.flow is not None:
            raise InvalidInputError(
                f"{workflow.name!r} has limits of its own: leave out limit={limit}"
            )
        return f"children:{self._run.id}:{name}"

    async def _waits(self, name: str) -> int:
        known = await self._effects.known(name)
        return 0 if known is None else int(known["holds"])

    async def _count_wait(self, name: str) -> None:
        async with self._fence.transaction() as connection:
            values = {"run_id": self._run.id, "name": name}
            await connection.execute(self._sql["count_wait"], values)

    async def _rows(self, query: str, name: str) -> list[dict[str, Any]]:
        async with self._fence.pool.connection() as connection:
            values = {"run_id": self._run.id, "group": name}
            return await (await connection.execute(self._sql[query], values)).fetchall()


def _wait(name: str) -> None:
    interrupt({MARK: "wait", "kind": "children", "name": name})


def _new_rows(
    workflow: Workflow, checked: Sequence[dict[str, Any]], shared: str | None, limit: int | None
) -> list[dict[str, Any]]:
    """The rows of a group; those above the limit wait for room."""
    return [
        {
            "id": str(uuid7()),
            "index": index,
            "input": value,
            "input_hash": input_hash(value),
            "limit_key": shared or limits(workflow, value)["limit_key"],
            "parked": limit is not None and index >= limit,
        }
        for index, value in enumerate(checked)
    ]
