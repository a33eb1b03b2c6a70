"""The checkpoint savers pass LangGraph's own conformance suite, also when used from threads."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

from rotina.database import Pool
from rotina.runs import Journal, PostgresCheckpointer, RunStore, WorkerLease, Workflow
from rotina.runs.checkpointer import RunCheckpointer


class Nothing(BaseModel):
    """Input and output of a run that is never driven."""


def build() -> StateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(dict)
    graph.add_node("only", lambda state: state)
    graph.add_edge(START, "only")
    graph.add_edge("only", END)
    return graph


IDLE = Workflow("idle", Nothing, Nothing, build)


class FromThreads(PostgresCheckpointer):
    """The saver's synchronous methods, each called from a thread, as the suite can only await."""

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await asyncio.to_thread(self._sync.get_tuple, config)

    async def alist(
        self, config: RunnableConfig | None, **options: Any
    ) -> AsyncIterator[CheckpointTuple]:
        for each in await asyncio.to_thread(lambda: list(self._sync.list(config, **options))):
            yield each

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await asyncio.to_thread(self._sync.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        await asyncio.to_thread(self._sync.put_writes, config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        await asyncio.to_thread(self._sync.delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await asyncio.to_thread(self._sync.delete_for_runs, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await asyncio.to_thread(self._sync.copy_thread, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await asyncio.to_thread(lambda: self._sync.prune(thread_ids, strategy=strategy))

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._sync = PostgresCheckpointer(pool)


@pytest.mark.parametrize("kind", [PostgresCheckpointer, FromThreads])
async def test_conformance(pool: Pool, kind: type[PostgresCheckpointer]) -> None:
    @checkpointer_test(name=kind.__name__)
    async def saver() -> AsyncIterator[PostgresCheckpointer]:
        yield kind(pool)

    report = await validate(saver)
    report.print_report()
    assert report.passed_all()


async def test_conformance_of_a_runs_own_saver(pool: Pool) -> None:
    """With history: a run itself keeps heads only, which the suite's history tests are not for."""
    accepted = await RunStore(pool, tenant="default").accept(IDLE, {})
    async with WorkerLease(pool, 60).held() as lease, lease.claimed(accepted.id) as claim:
        assert claim is not None

        @checkpointer_test(name="RunCheckpointer")
        async def saver() -> AsyncIterator[PostgresCheckpointer]:
            yield RunCheckpointer(pool, Journal(claim.fence, prune=False))

        report = await validate(saver)
        report.print_report()
        assert report.passed_all()


async def test_synchronous_methods_say_where_they_belong(pool: Pool) -> None:
    saver = PostgresCheckpointer(pool)
    with pytest.raises(RuntimeError, match="asynchronous methods"):
        saver.get_tuple({"configurable": {"thread_id": "any"}})
