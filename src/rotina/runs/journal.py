"""The journal of one attempt: what a run wants to keep, committed in order and under its fence.

A superstep costs one statement, and so one commit: the nodes' results, the checkpoint that holds
them, the timeline's lines and the check of the lease go in together. Two checkpoints are not worth
a commit of their own and wait for the next one: the run's input, which the ledger has, and the
last one before the end, which the end makes superfluous. What waits is written within
`FLUSH_SECONDS`, so that a node that works on for hours after a subgraph does not hold it back.

A run keeps the head of each graph and subgraph, not its history: what came before is of no use to
a resume. Checkpoints of graphs with delta channels are the exception, their history is their state.
"""

import asyncio
import contextlib
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from rotina.database import load_queries
from rotina.errors import LeaseLostError
from rotina.runs.lease import Fence
from rotina.runs.questions import Question, Wait
from rotina.runs.run import RunState

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.2

Row = dict[str, Any]
Graph = tuple[str, str]
"""Thread and namespace: one graph or subgraph of a run."""


@dataclass
class _Pending:
    """What is not committed yet."""

    heads: dict[tuple[str, str, str], Row] = field(default_factory=dict)
    writes: dict[tuple[Any, ...], Row] = field(default_factory=dict)
    recorded: list[Row] = field(default_factory=list)
    lines: list[Row] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.heads or self.writes or self.recorded or self.lines)


class Journal:
    """The writes of one attempt; for one event loop, any number of concurrent tasks."""

    def __init__(self, fence: Fence, *, prune: bool = True) -> None:
        """`prune` keeps heads only; without it every checkpoint stays, as LangGraph's savers do."""
        self.fence = fence
        self._prune = prune
        self._pending = _Pending()
        self._stored: dict[Graph, str] = {}
        self._lock = asyncio.Lock()
        self._flushing: asyncio.Task[None] | None = None
        self._broken: Exception | None = None
        self._sql = load_queries("rotina.runs")

    @property
    def run_id(self) -> UUID:
        """The run."""
        return self.fence.run_id

    def resume(self, heads: Mapping[Graph, str]) -> None:
        """Tell what an earlier attempt left: the id of the stored checkpoint of each graph."""
        self._stored = dict(heads)

    def put(self, graph: Graph, row: Row, *, keeps_history: bool = False) -> None:
        """A new checkpoint of `graph`, a row in JSON; it supersedes the one before."""
        pruned = self._prune and not keeps_history
        if pruned:
            self._forget_pending(graph)
        own = {"thread_id": graph[0], "namespace": graph[1], "pruned": pruned}
        self._pending.heads[*graph, row["id"]] = {**own, **row}
        self._flush_soon()

    def write(self, graph: Graph, row: Row) -> None:
        """What a task wrote: the first counts, of special writes (negative index) the last."""
        key = (*graph, row["checkpoint_id"], row["task_id"], row["index"])
        if row["index"] < 0 or key not in self._pending.writes:
            self._pending.writes[key] = {"thread_id": graph[0], "namespace": graph[1], **row}
        self._flush_soon()

    def record(self, row: Row) -> None:
        """An answer the run was given, to be committed with what comes next."""
        self._pending.recorded.append(row)

    def note(self, kind: str, data: Mapping[str, Any]) -> None:
        """A line of the timeline, to be committed with what comes next."""
        self._pending.lines.append(_line(kind, data))
        self._flush_soon()

    async def commit(self) -> None:
        """Commit what is pending. Raises `LeaseLostError`, with nothing written."""
        async with self._lock:
            if self._broken is not None:
                raise self._broken
            if not self._pending:
                return
            taken, self._pending = self._pending, _Pending()
            async with self.fence.pool.connection() as connection:
                await self._keep(connection, taken)

    async def finish(self, state: RunState, *, result: Row | None, error: Row | None) -> None:
        """Terminal state, result and timeline in one statement; checkpoints go with it.

        A run that did not succeed keeps its checkpoints: they tell where it stood, and a retry
        goes on from them.
        """
        if state != "succeeded" or self._pending.recorded:
            await self._settle()
        async with self._ending() as taken:
            # The ledger itself writes the last line of a run that was cancelled.
            last = [] if state == "cancelled" else [_line(state, error or {})]
            lines = [*taken.lines, *last]
            await self._end(
                "finish_run",
                lines,
                state=state,
                result=None if result is None else Jsonb(result),
                error=None if error is None else Jsonb(error),
                forget=state == "succeeded",
            )

    async def release(
        self, *, kind: str, delay: float = 0.0, refund: bool, error: Row | None = None
    ) -> None:
        """Hand the run back to the queue, due in `delay` seconds.

        `refund` gives the attempt back: a drained run did nothing wrong.
        """
        await self._settle()
        async with self._ending() as taken:
            await self._end(
                "release_run",
                [*taken.lines, _line(kind, error or {})],
                refund=int(refund),
                delay=delay,
                error=None if error is None else Jsonb(error),
            )

    async def suspend(self, waits: Sequence[Question | Wait], given: Sequence[UUID] = ()) -> None:
        """Give the lease up until something comes; what is waited for and state commit together.

        `given` are the answers that the attempt was told: it has them in its checkpoints now.
        """
        own = {"run_id": self.run_id, "token": self.fence.token, "given": list(given)}
        async with self._ending() as taken, self.fence.transaction() as connection:
            await connection.execute(self._sql["deliver_answers"], own)
            for wait in waits:
                taken.lines += await self._ask(connection, wait)
            await self._keep(connection, taken)
            await connection.execute(self._sql["suspend_run"], own)

    async def _ask(self, connection: AsyncConnection[DictRow], wait: Question | Wait) -> list[Row]:
        """Write down what is waited for; the lines to add, none if that was done before."""
        name = "insert_review" if isinstance(wait, Question) else "insert_wait"
        row = {"run_id": self.run_id, **wait.row()}
        asked = await (await connection.execute(self._sql[name], row)).fetchone()
        if asked is None:
            return []
        due = {} if asked["due_at"] is None else {"until": asked["due_at"].isoformat()}
        if isinstance(wait, Question):
            review = {"review": str(asked["id"]), "question": wait.question, **due}
            return [_line("review", review)]
        if wait.kind == "timer":
            return [_line("sleeping", due)]
        if wait.kind == "children":
            await connection.execute(self._sql["end_children_wait"], {"id": asked["id"]})
            return [_line("children", {"name": wait.name})]
        event = {**row, "tenant": self.fence.tenant}
        await connection.execute(self._sql["lock_event"], event)
        await connection.execute(self._sql["take_signal"], event)
        return [_line("expecting", {"name": wait.name, "key": wait.key, **due})]

    def close(self) -> None:
        """Nothing more is written by itself; what is pending then is not kept."""
        if self._flushing is not None:
            self._flushing.cancel()

    async def _settle(self) -> None:
        """Keep what is pending if that can still be done: an attempt that ends has to end."""
        try:
            await self.commit()
        except LeaseLostError:
            raise
        except Exception:  # whatever broke the journal has been told already
            logger.warning("run %s: its last steps were not kept", self.run_id, exc_info=True)

    @contextlib.asynccontextmanager
    async def _ending(self) -> AsyncIterator[_Pending]:
        async with self._lock:
            taken, self._pending = self._pending, _Pending()
            self.close()
            yield taken

    async def _end(self, name: str, lines: Sequence[Row], **values: Any) -> None:
        own = {"run_id": self.run_id, "token": self.fence.token, "lines": Jsonb(lines)}
        async with self.fence.pool.connection() as connection:
            cursor = await connection.execute(self._sql[name], {**own, **values})
            if await cursor.fetchone() is None:
                raise self.fence.lost()

    async def _keep(self, connection: AsyncConnection[DictRow], taken: _Pending) -> None:
        heads = list(taken.heads.values())
        for head in heads:
            graph = head["thread_id"], head["namespace"]
            head["previous"] = self._stored.get(graph) if head["pruned"] else None
        values = {
            "run_id": self.run_id,
            "token": self.fence.token,
            "heads": Jsonb(heads),
            "writes": Jsonb(list(taken.writes.values())),
            "recorded": Jsonb(taken.recorded),
            "lines": Jsonb(taken.lines),
        }
        cursor = await connection.execute(self._sql["keep_progress"], values)
        row = await cursor.fetchone()
        if row is None or not row["kept"]:
            raise self.fence.lost()
        for head in heads:
            self._stored[head["thread_id"], head["namespace"]] = head["id"]

    def _forget_pending(self, graph: Graph) -> None:
        """Take back what a new checkpoint supersedes: those before it, and their tasks' writes."""
        pending = self._pending
        pending.heads = {key: row for key, row in pending.heads.items() if key[:2] != graph}
        pending.writes = {key: row for key, row in pending.writes.items() if key[:2] != graph}

    def _flush_soon(self) -> None:
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush(), name="rotina-journal")

    async def _flush(self) -> None:
        await asyncio.sleep(FLUSH_SECONDS)
        try:
            await self.commit()
        except Exception as error:  # noqa: BLE001 - told by the next commit, in the run's own task
            self._broken = error


def _line(kind: str, data: Mapping[str, Any]) -> Row:
    return {"kind": kind, "data": dict(data)}


def packed(value: bytes) -> str:
    """Bytes as the journal takes them."""
    return b64encode(value).decode()
