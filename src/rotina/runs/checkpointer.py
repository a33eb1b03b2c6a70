"""LangGraph checkpoints in PostgreSQL, written under the run's fence.

Why not the stock saver: it cannot join a transaction that checks the lease, so a worker that was
thought dead could overwrite the checkpoints of the one that took over. Values are msgpack with
LangGraph's safe types only, no pickle: a stored checkpoint cannot name a callable.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

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
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from rotina.database import Pool, load_queries
from rotina.runs.lease import Fence

Row = dict[str, Any]


class PostgresCheckpointer(BaseCheckpointSaver[int]):
    """A LangGraph checkpoint saver; with a fence, its writes need the run's lease.

    Asynchronous only, as the worker is; the synchronous methods raise `NotImplementedError`.
    """

    def __init__(self, pool: Pool, fence: Fence | None = None) -> None:
        super().__init__(serde=JsonPlusSerializer(allowed_msgpack_modules=None))
        self._pool = pool
        self._fence = fence
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
        encoding, blob = self.serde.dumps_typed(checkpoint)
        values = {
            **key,
            "id": checkpoint["id"],
            "parent_id": get_checkpoint_id(config),
            "encoding": encoding,
            "checkpoint": blob,
            "metadata": Jsonb(get_checkpoint_metadata(config, metadata)),
        }
        async with self._writing() as connection:
            await connection.execute(self._sql["put_checkpoint"], values)
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
        rows = []
        for position, (channel, value) in enumerate(writes):
            encoding, blob = self.serde.dumps_typed(value)
            rows.append(
                {
                    **key,
                    "checkpoint_id": get_checkpoint_id(config),
                    "task_id": task_id,
                    "index": WRITES_IDX_MAP.get(channel, position),
                    "task_path": task_path,
                    "channel": channel,
                    "encoding": encoding,
                    "value": blob,
                }
            )
        special = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        async with self._writing() as connection, connection.cursor() as cursor:
            await cursor.executemany(self._sql["replace_write" if special else "put_write"], rows)

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete all checkpoints of a thread."""
        async with self._writing() as connection:
            await connection.execute(self._sql["delete_thread"], {"thread_id": thread_id})

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection[DictRow]]:
        if self._fence is not None:
            async with self._fence.transaction() as connection:
                yield connection
        else:
            async with self._pool.connection() as connection, connection.transaction():
                yield connection

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


def _key(config: RunnableConfig) -> Row:
    configurable = config["configurable"]
    return {
        "thread_id": str(configurable["thread_id"]),
        "namespace": configurable.get("checkpoint_ns", ""),
    }


def _config(key: Row, checkpoint_id: str) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": key["thread_id"],
            "checkpoint_ns": key["namespace"],
            "checkpoint_id": checkpoint_id,
        }
    }
