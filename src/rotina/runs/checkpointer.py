"""LangGraph checkpoints in PostgreSQL: for any graph, and for a run's under its fence.

Why not the stock saver: it cannot join a transaction that checks the lease, so a worker that was
thought dead could overwrite the checkpoints of the one that took over; it takes two commits a
node; and it never prunes. Values are msgpack with LangGraph's safe types only, no pickle: a stored
checkpoint cannot name a callable.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import TASKS
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from rotina.database import Pool, load_queries
from rotina.runs.journal import Graph, Journal, Row, packed

T = TypeVar("T")

DELTAS = "counters_since_delta_snapshot"
"""In the metadata of a checkpoint that cannot be read without the ones before it."""


class PostgresCheckpointer(BaseCheckpointSaver[int]):
    """A LangGraph checkpoint saver that keeps the whole history of its threads.

    It belongs to the event loop it is made in. The synchronous methods are for other threads,
    while that loop runs; on the loop itself they raise `RuntimeError`.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(serde=JsonPlusSerializer(allowed_msgpack_modules=None))
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._sql = load_queries("rotina.runs")

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the thread's head, with its pending writes."""
        key = _key(config)
        checkpoint_id = get_checkpoint_id(config)
        name = "exact_checkpoint" if checkpoint_id else "latest_checkpoint"
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._sql[name], {**key, "id": checkpoint_id})
            row = await cursor.fetchone()
            return None if row is None else await self._tuple(connection, row)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, newest first."""
        configurable: dict[str, Any] = (config or {}).get("configurable", {})
        values = {
            "thread_id": configurable.get("thread_id"),
            "namespace": configurable.get("checkpoint_ns"),
            "id": configurable.get("checkpoint_id"),
            "before": get_checkpoint_id(before) if before else None,
            "filter": Jsonb(filter or {}),
            "limit": limit,
        }
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._sql["list_checkpoints"], values)
            tuples = [await self._tuple(connection, row) for row in await cursor.fetchall()]
        for found in tuples:
            yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002 - whole states are stored, not versions
    ) -> RunnableConfig:
        """Store a checkpoint."""
        key = _key(config)
        row = self._checkpoint_row(config, checkpoint, metadata)
        async with self._writing() as connection:
            await connection.execute(self._sql["put_checkpoint"], {**key, **row})
        return _config(key, checkpoint["id"])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote, so that a resumed superstep does not repeat it."""
        key = _key(config)
        rows = [{**key, **row} for row in self._write_rows(config, writes, task_id, task_path)]
        special = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        async with self._writing() as connection, connection.cursor() as cursor:
            await cursor.executemany(self._sql["replace_write" if special else "put_write"], rows)

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete all checkpoints of a thread."""
        async with self._writing() as connection:
            await connection.execute(self._sql["delete_thread"], {"thread_id": thread_id})

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints that LangGraph's own runs of these ids made, with their writes."""
        async with self._writing() as connection:
            await connection.execute(self._sql["delete_for_runs"], {"run_ids": list(run_ids)})

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread, whole."""
        values = {"source": source_thread_id, "target": target_thread_id}
        async with self._writing() as connection:
            await connection.execute(self._sql["copy_checkpoints"], values)
            await connection.execute(self._sql["copy_writes"], values)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the head of each namespace, or with the strategy `delete` nothing.

        The history of a namespace whose head needs it (delta channels) is kept.
        """
        if strategy not in {"keep_latest", "delete"}:
            raise ValueError(f"strategy is {strategy!r}: give 'keep_latest' or 'delete'")
        async with self._writing() as connection:
            if strategy == "delete":
                for thread_id in thread_ids:
                    await connection.execute(self._sql["delete_thread"], {"thread_id": thread_id})
            else:
                values = {"thread_ids": list(thread_ids), "deltas": DELTAS}
                await connection.execute(self._sql["prune_threads"], values)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """`aget_tuple` for another thread."""
        return self._wait(self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """`alist` for another thread."""

        async def whole() -> Sequence[CheckpointTuple]:
            found = self.alist(config, filter=filter, before=before, limit=limit)
            return [each async for each in found]

        yield from self._wait(whole())

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """`aput` for another thread."""
        return self._wait(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """`aput_writes` for another thread."""
        self._wait(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """`adelete_thread` for another thread."""
        self._wait(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """`adelete_for_runs` for another thread."""
        self._wait(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """`acopy_thread` for another thread."""
        self._wait(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """`aprune` for another thread."""
        self._wait(self.aprune(thread_ids, strategy=strategy))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._loop:
            work.close()
            raise RuntimeError("on the saver's own event loop use the asynchronous methods")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection[DictRow]]:
        async with self._pool.connection() as connection, connection.transaction():
            yield connection

    def _checkpoint_row(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
    ) -> Row:
        encoding, blob = self.serde.dumps_typed(checkpoint)
        return {
            "id": checkpoint["id"],
            "parent_id": get_checkpoint_id(config),
            "encoding": encoding,
            "checkpoint": blob,
            "metadata": Jsonb(get_checkpoint_metadata(config, metadata)),
        }

    def _write_rows(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> Iterator[Row]:
        for position, (channel, value) in enumerate(writes):
            encoding, blob = self.serde.dumps_typed(value)
            yield {
                "checkpoint_id": get_checkpoint_id(config),
                "task_id": task_id,
                "index": WRITES_IDX_MAP.get(channel, position),
                "task_path": task_path,
                "channel": channel,
                "encoding": encoding,
                "value": blob,
            }

    async def _tuple(self, connection: AsyncConnection[DictRow], row: Row) -> CheckpointTuple:
        cursor = await connection.execute(self._sql["checkpoint_writes"], row)
        writes = [
            (write["task_id"], write["channel"], self._load(write["encoding"], write["value"]))
            for write in await cursor.fetchall()
        ]
        return CheckpointTuple(
            config=_config(row, row["id"]),
            checkpoint=self._load(row["encoding"], row["checkpoint"]),
            metadata=row["metadata"],
            parent_config=_config(row, row["parent_id"]) if row["parent_id"] else None,
            pending_writes=writes,
        )

    def _load(self, encoding: str, blob: bytes) -> Any:
        return self.serde.loads_typed((encoding, bytes(blob)))


class RunCheckpointer(PostgresCheckpointer):
    """The saver of one attempt of a run: everything goes through the run's journal."""

    def __init__(self, pool: Pool, journal: Journal, *, resumes: bool = True) -> None:
        """`resumes`: an earlier attempt may have left checkpoints; without it nothing is read."""
        super().__init__(pool)
        self._journal = journal
        self._unread = resumes
        self._left: dict[Graph, CheckpointTuple] = {}
        self._touched: set[Graph] = set()
        self._rewritten = False
        """Whether threads were copied or deleted through this saver."""

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As in `PostgresCheckpointer`; what the attempt found or cannot have costs no query."""
        if self._unread:
            await self._read()
        graph = _graph(config)
        if graph not in self._touched and not self._rewritten:
            left = self._left.get(graph)
            asked = get_checkpoint_id(config)
            if left is None or asked in (None, get_checkpoint_id(left.config)):
                return left
        await self._journal.commit()
        return await super().aget_tuple(config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As in `PostgresCheckpointer`."""
        await self._journal.commit()
        async for found in super().alist(config, filter=filter, before=before, limit=limit):
            yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002 - as above
    ) -> RunnableConfig:
        """Store a checkpoint, at once if more of the graph follows on it."""
        row = self._checkpoint_row(config, checkpoint, metadata)
        row |= {"checkpoint": packed(row["checkpoint"]), "metadata": row["metadata"].obj}
        self._touched.add(_graph(config))
        self._journal.put(_graph(config), row, keeps_history=DELTAS in metadata)
        # Up to step 0 nothing ran but the graph's own start.
        if metadata.get("step", 1) > 0 and _goes_on(checkpoint):
            await self._journal.commit()
        return _config(_key(config), checkpoint["id"])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Keep what a task wrote until its superstep's checkpoint, or store it soon without one."""
        self._touched.add(_graph(config))
        for row in self._write_rows(config, writes, task_id, task_path):
            self._journal.write(_graph(config), row | {"value": packed(row["value"])})

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection[DictRow]]:
        self._rewritten = True
        await self._journal.commit()
        async with self._journal.fence.transaction() as connection:
            yield connection

    async def _read(self) -> None:
        self._unread = False
        values = {"thread_id": str(self._journal.run_id)}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._sql["thread_checkpoints"], values)
            for row in await cursor.fetchall():  # the newest of each graph comes last
                found = await self._tuple(connection, row)
                self._left[row["thread_id"], row["namespace"]] = found
        heads = {graph: get_checkpoint_id(found.config) for graph, found in self._left.items()}
        self._journal.resume({graph: head for graph, head in heads.items() if head})


def _goes_on(checkpoint: Checkpoint) -> bool:
    """Whether nodes follow, as far as the channels tell that a step has written.

    Edges write to channels of these names, `Send` to the tasks' channel. To be wrong costs time,
    never correctness: the journal keeps what it is given a moment later.
    """
    updated = checkpoint.get("updated_channels") or ()
    return any(name.startswith(("branch:", "join:")) or name == TASKS for name in updated)


def _key(config: RunnableConfig) -> Row:
    configurable = config["configurable"]
    return {
        "thread_id": str(configurable["thread_id"]),
        "namespace": configurable.get("checkpoint_ns", ""),
    }


def _graph(config: RunnableConfig) -> Graph:
    key = _key(config)
    return key["thread_id"], key["namespace"]


def _config(key: Row, checkpoint_id: str) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": key["thread_id"],
            "checkpoint_ns": key["namespace"],
            "checkpoint_id": checkpoint_id,
        }
    }
