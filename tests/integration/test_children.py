"""Runs that runs start, wait for, cancel and retry, on a real PostgreSQL."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict
from uuid import UUID

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel

from rotina.database import Pool
from rotina.errors import ChildFailedError, LeaseLostError
from rotina.runs import (
    Attempt,
    Children,
    Control,
    Driver,
    FlowControl,
    Queue,
    Registry,
    RunStore,
    WorkerLease,
    Workflow,
    review,
    sweep,
)


class Nothing(BaseModel):
    """Input of a parent."""


class Told(BaseModel):
    """Output of a parent."""

    told: Any = None


class Number(BaseModel):
    """Input of a child."""

    number: int


class Double(BaseModel):
    """Output of a child."""

    double: int


class ParentState(TypedDict, total=False):
    """State of a parent."""

    told: Any


class ChildState(TypedDict, total=False):
    """State of a child."""

    number: int
    double: int


Act = Callable[[Children], Awaitable[Any]]


async def _nothing(children: Children) -> None:
    """What a parent does that a test says nothing of."""


@dataclass
class Desk:
    """What the nodes do, and what they did."""

    children: Children | None = None
    act: Act = _nothing
    bad: set[int] = field(default_factory=set)
    doubled: Counter[int] = field(default_factory=Counter)


async def ask(state: ParentState, runtime: Runtime[Desk]) -> ParentState:
    desk = runtime.context
    assert desk.children is not None
    return {"told": await desk.act(desk.children)}


async def double(state: ChildState, runtime: Runtime[Desk]) -> ChildState:
    number = state["number"]
    runtime.context.doubled[number] += 1
    if number in runtime.context.bad:
        raise ValueError(f"{number} is bad")
    return {"double": 2 * number}


def build_parent() -> StateGraph[ParentState, Desk]:
    graph = StateGraph(ParentState, context_schema=Desk)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph


def build_child() -> StateGraph[ChildState, Desk]:
    graph = StateGraph(ChildState, context_schema=Desk)
    graph.add_node("double", double)
    graph.add_edge(START, "double")
    graph.add_edge("double", END)
    return graph


PARENT = Workflow("parent", Nothing, Told, build_parent)
CHILD = Workflow("child", Number, Double, build_child)
LIMITED = replace(CHILD, name="limited", flow=FlowControl(running=1))


@dataclass
class Stage:
    """A worker and the ledger of one tenant."""

    pool: Pool
    store: RunStore
    control: Control
    driver: Driver
    desk: Desk
    news: list[tuple[Queue, int]]

    async def accept(self, act: Act) -> UUID:
        self.desk.act = act
        return (await self.store.accept(PARENT, {})).id

    async def settle(self) -> None:
        """Drive whatever is due, until nothing is."""
        for _ in range(200):
            await self.driver.drive("io")
            queued = await self.store.list_runs(state="queued", limit=1000)
            if not queued or all(run.parked for run in queued):
                return

    async def children(self, state: str | None = None) -> int:
        found = await self.store.list_runs(workflow="child", limit=1000)
        return sum(state is None or run.state == state for run in found)

    async def told(self, run_id: UUID) -> Any:
        run = await self.store.get(run_id)
        assert run.result is not None, run.error
        return run.result["told"]


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    desk, news = Desk(), list[tuple[Queue, int]]()

    def context(attempt: Attempt) -> Desk:
        made = attempt.children
        # One desk for all: what a child needs of it, its parent does not.
        return replace(desk, children=made)

    async def tell(queue: Queue, runs: int) -> None:
        news.append((queue, runs))

    async with WorkerLease(pool, 30).held() as lease:
        registry = Registry([PARENT, CHILD, LIMITED])
        driver = Driver(pool, registry, lease, context, tell=tell)
        store = RunStore(pool, tenant="acme", max_attempts=3)
        yield Stage(pool, store, Control(pool, tenant="acme"), driver, desk, news)


async def test_a_parent_waits_with_nobody_alive_and_gets_the_result(stage: Stage) -> None:
    run_id = await stage.accept(lambda children: children.run("one", "child", {"number": 21}))
    assert await stage.driver.drive(run_id) == "waiting"
    assert stage.news == [("io", 1)], "its queue is told at once"
    await stage.settle()
    assert await stage.told(run_id) == {"double": 42}
    assert stage.desk.doubled == {21: 1}
    kinds = [event.kind for event in await stage.store.events(run_id)]
    assert [kind for kind in kinds if kind not in {"started", "node"}] == [
        "accepted", "children", "woken", "succeeded",
    ]  # fmt: skip


async def test_results_come_in_the_order_of_the_inputs_with_the_failures(stage: Stage) -> None:
    stage.desk.bad = {3}

    async def act(children: Children) -> Any:
        found = await children.map("many", "child", [{"number": n} for n in (5, 3, 4)])
        return [(child.index, child.state, child.result) for child in found]

    run_id = await stage.accept(act)
    await stage.settle()
    assert await stage.told(run_id) == [
        [0, "succeeded", {"double": 10}],
        [1, "failed", None],
        [2, "succeeded", {"double": 8}],
    ]


async def test_a_fan_out_keeps_its_limit(stage: Stage, pool: Pool) -> None:
    async def act(children: Children) -> Any:
        found = await children.map("many", "child", [{"number": n} for n in range(40)], limit=3)
        return sum(child.result["double"] for child in found if child.result)

    run_id = await stage.accept(act)
    assert await stage.driver.drive(run_id) == "waiting"
    parked = sum(run.parked for run in await stage.store.list_runs(state="queued", limit=100))
    assert (parked, stage.news) == (37, [("io", 3)])
    async with WorkerLease(pool, 30).held() as other:
        claims = [other.claimed("io", stage.driver.registry.versions) for _ in range(5)]
        got = [await each.__aenter__() for each in claims]
        assert sum(claim is not None for claim in got) == 3
        async with pool.connection() as connection:
            await connection.execute(
                "update rotina.run set state = 'queued', worker_id = null, lease_token = null "
                "where state = 'running'"
            )
        for each in claims:
            await each.__aexit__(None, None, None)
    await stage.settle()
    assert await stage.told(run_id) == sum(2 * n for n in range(40))
    assert set(stage.desk.doubled.values()) == {1}


async def test_a_parent_driven_again_finds_its_children(stage: Stage) -> None:
    lost: list[bool] = []

    async def act(children: Children) -> Any:
        first = await children.start("away", "child", {"number": 1})
        if not lost:
            lost.append(True)
            raise LeaseLostError("as if its worker had died here")
        return [str(first), await children.run("one", "child", {"number": 2})]

    run_id = await stage.accept(act)
    assert await stage.driver.drive(run_id) == "lost"
    async with stage.pool.connection() as connection:
        await connection.execute("delete from rotina.worker")
    await sweep(stage.pool)
    async with WorkerLease(stage.pool, 30).held() as lease:
        stage.driver.lease = lease
        await stage.settle()
    assert (await stage.told(run_id))[1] == {"double": 4}
    assert await stage.children() == 2


async def test_a_child_that_failed_fails_run_and_is_retried_with_its_parent(stage: Stage) -> None:
    stage.desk.bad = {7}
    run_id = await stage.accept(lambda children: children.run("one", "child", {"number": 7}))
    await stage.settle()
    run = await stage.store.get(run_id)
    assert run.error is not None
    assert run.error["type"] == ChildFailedError.__name__
    assert "7 is bad" in run.error["message"]
    stage.desk.bad.clear()
    await stage.control.retry(run_id, by="ana")
    await stage.settle()
    assert await stage.told(run_id) == {"double": 14}
    assert await stage.children() == 1


async def test_cancelling_a_parent_cancels_what_it_waits_for_only(stage: Stage) -> None:
    async def act(children: Children) -> Any:
        await children.start("away", "child", {"number": 1})
        return await children.map("many", "child", [{"number": n} for n in range(5)], limit=1)

    run_id = await stage.accept(act)
    assert await stage.driver.drive(run_id) == "waiting"
    await stage.control.cancel(run_id, by="ana")
    assert (await stage.children("cancelled"), await stage.children("queued")) == (5, 1)
    await stage.settle()
    assert stage.desk.doubled == {1: 1}
    assert (await stage.store.get(run_id)).state == "cancelled"


async def test_a_review_after_children_gets_its_own_answer(stage: Stage) -> None:
    """LangGraph tells a node the answers in order: none may be taken for another's."""

    async def act(children: Children) -> Any:
        first = await children.run("one", "child", {"number": 1})
        second = await children.run("two", "child", {"number": 2})
        decided = review("Both?", Number)
        return [first["double"], second["double"], decided.number]

    run_id = await stage.accept(act)
    await stage.settle()
    async with stage.pool.connection() as connection:
        cursor = await connection.execute("select id from rotina.review where state = 'open'")
        row = await cursor.fetchone()
        assert row is not None
        await connection.execute(
            "update rotina.review set state = 'answered', answer = '{\"number\": 9}', "
            "answered_by = 'ana', answered_at = now()"
        )
        await connection.execute("update rotina.run set state = 'queued' where id = %s", [run_id])
    await stage.settle()
    assert await stage.told(run_id) == [2, 4, 9]


async def test_no_inputs_is_no_wait(stage: Stage) -> None:
    run_id = await stage.accept(lambda children: children.map("none", "child", []))
    assert await stage.driver.drive(run_id) == "succeeded"
    assert await stage.told(run_id) == []


@pytest.mark.parametrize(
    ("workflow", "value", "limit", "problem"),
    [
        ("unknown", {}, None, "No workflow 'unknown'"),
        ("child", {"number": "x"}, None, "number: Input should be a valid integer"),
        ("child", {"number": 1}, 0, "at least 1"),
        ("limited", {"number": 1}, 2, "has limits of its own"),
    ],
)
async def test_what_cannot_be_started_fails_the_parent(
    stage: Stage, workflow: str, value: dict[str, Any], limit: int | None, problem: str
) -> None:
    run_id = await stage.accept(
        lambda children: children.map("one", workflow, [value], limit=limit)
    )
    assert await stage.driver.drive(run_id) == "failed"
    error = (await stage.store.get(run_id)).error
    assert error is not None
    assert problem in error["message"]
    assert await stage.children() == 0


async def test_a_node_that_asks_for_something_else_the_second_time_is_told(stage: Stage) -> None:
    numbers = iter(range(10))
    run_id = await stage.accept(
        lambda children: children.run("one", "child", {"number": next(numbers)})
    )
    await stage.settle()
    error = (await stage.store.get(run_id)).error
    assert error is not None
    assert "started runs with other inputs" in error["message"]
