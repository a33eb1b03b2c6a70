"""Deploys: a run goes on with code that fits its checkpoints, and waits for it otherwise."""

from typing import Any, TypedDict
from uuid import UUID

import pytest
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

from rotina.database import Pool
from rotina.errors import ModelServerError
from rotina.runs import (
    Driver,
    Registry,
    RunStore,
    WorkerLease,
    Workflow,
    stranded_runs,
)


class Nothing(BaseModel):
    """Input."""


class Told(BaseModel):
    """Output."""

    told: str


class State(TypedDict, total=False):
    """State of the test's graphs."""

    told: str


def graph(last: Any, name: str) -> StateGraph[State]:
    built = StateGraph(State)
    built.add_node("first", first)
    built.add_node(name, last)
    built.add_edge(START, "first")
    built.add_edge("first", name)
    built.add_edge(name, END)
    return built


def first(state: State) -> State:
    return state


def breaks(state: State) -> State:
    raise ModelServerError("the old code got no further")


def ends(state: State) -> State:
    return {"told": "the new code"}


OLD = Workflow("deployed", Nothing, Told, lambda: graph(breaks, "second"))
OTHER_GRAPH = Workflow("deployed", Nothing, Told, lambda: graph(ends, "renamed"), version=2)
SAME_NODES = Workflow(
    "deployed",
    Nothing,
    Told,
    lambda: graph(ends, "second"),
    version=2,
    resumes=frozenset({1}),
)


@pytest.fixture
def store(pool: Pool) -> RunStore:
    return RunStore(pool, tenant="acme")


async def drive(pool: Pool, run_id: UUID, *workflows: Workflow) -> str:
    async with pool.connection() as connection:
        await connection.execute("update rotina.run set available_at = now()")
    async with WorkerLease(pool, 30).held() as lease:
        return await Driver(pool, Registry(workflows), lease, lambda _: None).drive(run_id)


async def begun(pool: Pool, store: RunStore) -> UUID:
    """A run with a checkpoint of the old code."""
    run_id = (await store.accept(OLD, {})).id
    assert await drive(pool, run_id, OLD) == "retrying"
    return run_id


async def test_a_run_waits_for_code_that_fits_its_checkpoints(pool: Pool, store: RunStore) -> None:
    run_id = await begun(pool, store)
    assert await drive(pool, run_id, OTHER_GRAPH) == "nothing"
    run = await store.get(run_id)
    assert (run.state, run.attempts) == ("queued", 1)
    assert await drive(pool, run_id, OLD) == "retrying", "workers with the old code go on with it"


async def test_newer_code_goes_on_with_the_versions_it_names(pool: Pool, store: RunStore) -> None:
    run_id = await begun(pool, store)
    assert await drive(pool, run_id, SAME_NODES) == "succeeded"
    run = await store.get(run_id)
    assert run.result == {"told": "the new code"}


async def test_a_run_without_checkpoints_is_anybodys(pool: Pool, store: RunStore) -> None:
    run_id = (await store.accept(OLD, {})).id
    assert await drive(pool, run_id, OTHER_GRAPH) == "succeeded"


async def test_a_worker_leaves_what_it_does_not_have(pool: Pool, store: RunStore) -> None:
    run_id = (await store.accept(OLD, {})).id
    assert await drive(pool, run_id) == "nothing"
    assert (await store.get(run_id)).state == "queued"


async def test_what_is_stranded_is_counted_with_its_remedy(pool: Pool, store: RunStore) -> None:
    for _ in range(2):
        await begun(pool, store)
    await store.accept(OLD, {})
    assert await stranded_runs(pool, Registry([OLD]).versions) == []
    assert await stranded_runs(pool, Registry([SAME_NODES]).versions) == []
    (left,) = await stranded_runs(pool, Registry([OTHER_GRAPH]).versions)
    assert (left.workflow, left.version, left.runs) == ("deployed", 1, 2)
    told = str(left)
    assert "2 runs of 'deployed' began with version 1, with which this code (version 2)" in told
    assert "add 1 to `resumes`" in told
    gone: list[Any] = await stranded_runs(pool, {})
    assert sum(each.runs for each in gone) == 3
    assert "has no such workflow" in str(gone[0])
