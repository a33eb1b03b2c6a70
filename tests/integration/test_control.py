"""Cancel, pause, retry, timers, events and deadlines, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict
from uuid import UUID, uuid4

import psycopg
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel

from rotina.database import Pool
from rotina.errors import (
    InvalidInputError,
    ReviewAnsweredError,
    ReviewExpiredError,
    RunError,
    RunNotFoundError,
    RunStateError,
)
from rotina.runs import (
    Attempt,
    Control,
    Driver,
    Registry,
    ReviewStore,
    RunStore,
    WorkerLease,
    Workflow,
    follow,
    review,
    sleep,
    sleep_until,
    step,
    sweep,
    wait_event,
)
from rotina.runs.recording import Recording


class Nothing(BaseModel):
    """Input."""


class Told(BaseModel):
    """Output."""

    told: Any = None


class State(TypedDict, total=False):
    """State of the test's graphs."""

    told: Any


Act = Callable[[], Any]


@dataclass
class Desk:
    """What the nodes do, and what they did."""

    act: Act = lambda: None
    entered: list[str] = field(default_factory=list)
    recording: Recording | None = None


async def first(state: State, runtime: Runtime[Desk]) -> State:
    runtime.context.entered.append("first")
    return state


async def second(state: State, runtime: Runtime[Desk]) -> State:
    runtime.context.entered.append("second")
    told = runtime.context.act()
    return {**state, "told": await told if isinstance(told, Awaitable) else told}


def build() -> StateGraph[State, Desk]:
    graph = StateGraph(State, context_schema=Desk)
    graph.add_node("first", first)
    graph.add_node("second", second)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", END)
    return graph


WORK = Workflow("work", Nothing, Told, build)


@dataclass
class Stage:
    """A worker, the ledger of one tenant, and what its runs do."""

    pool: Pool
    store: RunStore
    control: Control
    driver: Driver
    desk: Desk

    async def accept(self, act: Act = lambda: None) -> UUID:
        self.desk.act = act
        return (await self.store.accept(WORK, {})).id

    async def state(self, run_id: UUID) -> str:
        return (await self.store.get(run_id)).state

    async def kinds(self, run_id: UUID) -> list[str]:
        return [event.kind for event in await self.store.events(run_id)]

    async def told(self, run_id: UUID) -> Any:
        run = await self.store.get(run_id)
        assert run.result is not None, run.error
        return run.result["told"]

    async def drive_later(self) -> set[UUID]:
        """What a sweep wakes, driven."""
        driven = set()
        if (await sweep(self.pool)).due:
            while (claim := await self.driver.take("io")) is not None:
                driven.add(claim.run.id)
                await self.driver.work(claim)
        return driven


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    desk = Desk()

    def context(attempt: Attempt) -> Desk:
        desk.recording = attempt.recording
        return desk

    async with WorkerLease(pool, 30).held() as lease:
        driver = Driver(pool, Registry([WORK]), lease, context)
        watching = asyncio.create_task(driver.watch())
        try:
            store = RunStore(pool, tenant="acme", max_attempts=3)
            yield Stage(pool, store, Control(pool, tenant="acme"), driver, desk)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def test_a_queued_run_is_cancelled_at_once(stage: Stage) -> None:
    run_id = await stage.accept()
    await stage.control.cancel(run_id, by="ana", reason="a mistake")
    assert await stage.driver.drive(run_id) == "nothing"
    run = await stage.store.get(run_id)
    assert (run.state, run.ended, stage.desk.entered) == ("cancelled", True, [])
    last = (await stage.store.events(run_id))[-1]
    assert (last.kind, last.data) == ("cancelled", {"by": "ana", "reason": "a mistake"})


async def test_a_run_is_cancelled_in_the_middle_of_what_it_waits_for(stage: Stage) -> None:
    given_up = asyncio.Event()

    async def act() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            given_up.set()
            raise

    run_id = await stage.accept(act)
    driving = asyncio.create_task(stage.driver.drive(run_id))
    while "second" not in stage.desk.entered:
        await asyncio.sleep(0.01)
    await stage.control.cancel(run_id, by="ana")
    assert await driving == "cancelled"
    assert given_up.is_set()
    assert await stage.state(run_id) == "cancelled"
    kinds = await stage.kinds(run_id)
    assert kinds[-2:] == ["cancel_requested", "cancelled"]
    assert kinds.count("cancelled") == 1


async def test_a_cancelled_run_whose_worker_dies_is_not_driven_again(
    stage: Stage, pool: Pool
) -> None:
    run_id = await stage.accept()
    async with WorkerLease(pool, 60).held() as dying, dying.claimed(run_id) as claim:
        assert claim is not None
        await stage.control.cancel(run_id, by="ana")
    await sweep(pool)
    assert await stage.state(run_id) == "cancelled"
    assert [
        event.kind async for event in follow(lambda after: stage.store.events(run_id, after=after))
    ][-1] == "cancelled"


async def test_cancelling_withdraws_the_question(stage: Stage, pool: Pool) -> None:
    run_id = await stage.accept(lambda: review("Go on?", Told).told)
    assert await stage.driver.drive(run_id) == "waiting"
    reviews = ReviewStore(pool, tenant="acme")
    (asked,) = await reviews.list_open()
    await stage.control.cancel(run_id, by="ana")
    assert await reviews.list_open() == []
    with pytest.raises(ReviewAnsweredError, match="withdrawn"):
        await reviews.answer(asked.id, {"told": 1}, by="bo")
    assert await stage.state(run_id) == "cancelled"


async def test_a_paused_run_waits_and_goes_on(stage: Stage) -> None:
    run_id = await stage.accept()
    await stage.control.pause(run_id, by="ana")
    assert await stage.driver.drive(run_id) == "nothing"
    assert (await sweep(stage.pool)).due == {}
    assert await stage.control.resume(run_id, by="ana") == "io"
    assert await stage.driver.drive(run_id) == "succeeded"
    assert {"paused", "resumed"} <= set(await stage.kinds(run_id))


async def test_a_running_run_pauses_after_its_step(stage: Stage) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(state: State) -> State:
        entered.set()
        await go_on.wait()
        return state

    graph = StateGraph(State, context_schema=Desk)
    graph.add_node("slow", slow)
    graph.add_node("second", second)
    graph.add_edge(START, "slow")
    graph.add_edge("slow", "second")
    workflow = Workflow("slow", Nothing, Told, lambda: graph)
    stage.driver.registry = Registry([workflow])
    run_id = (await stage.store.accept(workflow, {})).id
    driving = asyncio.create_task(stage.driver.drive(run_id))
    await entered.wait()
    await stage.control.pause(run_id, by="ana")
    await asyncio.sleep(1.2)  # the watch looks twice a second
    go_on.set()
    assert await driving == "drained"
    run = await stage.store.get(run_id)
    assert (run.state, run.attempts, stage.desk.entered) == ("queued", 0, [])
    await stage.control.resume(run_id, by="ana")
    assert await stage.driver.drive(run_id) == "succeeded"


async def test_a_failed_run_goes_on_from_the_node_that_failed(stage: Stage) -> None:
    def fail() -> None:
        raise ValueError("a bug")

    run_id = await stage.accept(fail)
    assert await stage.driver.drive(run_id) == "failed"
    stage.desk.act = lambda: "mended"
    assert await stage.control.retry(run_id, by="ana") == "io"
    assert await stage.driver.drive(run_id) == "succeeded"
    assert stage.desk.entered == ["first", "second", "second"]
    assert await stage.told(run_id) == "mended"
    kinds = [e.kind async for e in follow(lambda after: stage.store.events(run_id, after=after))]
    assert kinds.index("failed") < kinds.index("retried") < kinds.index("succeeded")


COUNTED: list[int] = []


@step
async def count() -> int:
    COUNTED.append(1)
    return len(COUNTED)


async def test_a_retry_asks_anew_what_the_failed_node_was_told(stage: Stage) -> None:
    COUNTED.clear()

    async def odd_fails() -> int:
        number = await count()
        if number % 2:
            raise ValueError("odd")
        return number

    run_id = await stage.accept(odd_fails)
    assert await stage.driver.drive(run_id) == "failed"
    await stage.control.retry(run_id, by="ana")
    assert await stage.driver.drive(run_id) == "succeeded"
    assert await stage.told(run_id) == 2


async def test_what_a_state_does_not_allow_is_refused(stage: Stage) -> None:
    run_id = await stage.accept()
    with pytest.raises(RunStateError, match="queued and cannot retry"):
        await stage.control.retry(run_id, by="ana")
    assert await stage.driver.drive(run_id) == "succeeded"
    for refused in (stage.control.cancel, stage.control.pause, stage.control.resume):
        with pytest.raises(RunStateError, match="succeeded"):
            await refused(run_id, by="ana")
    with pytest.raises(RunNotFoundError):
        await stage.control.cancel(uuid4(), by="ana")
    with pytest.raises(RunNotFoundError):
        await Control(stage.pool, tenant="other").cancel(run_id, by="eve")


async def test_postgresql_itself_refuses_a_wrong_transition(stage: Stage) -> None:
    run_id = await stage.accept()
    assert await stage.driver.drive(run_id) == "succeeded"
    async with stage.pool.connection() as connection:
        with pytest.raises(psycopg.errors.CheckViolation, match="from succeeded to queued"):
            await connection.execute(
                "update rotina.run set state = 'queued', finished_at = null where id = %s",
                (run_id,),
            )


async def test_a_timer_wakes_its_run_without_repeating_the_wait(stage: Stage) -> None:
    run_id = await stage.accept(lambda: sleep(timedelta(seconds=0.4)))
    assert await stage.driver.drive(run_id) == "waiting"
    assert await stage.drive_later() == set()
    await asyncio.sleep(0.5)
    assert await stage.drive_later() == {run_id}
    assert await stage.state(run_id) == "succeeded"
    assert stage.desk.entered == ["first", "second", "second"]
    kinds = await stage.kinds(run_id)
    assert (kinds.count("sleeping"), kinds.count("woken")) == (1, 1)


async def test_a_timer_runs_on_while_its_run_is_paused(stage: Stage) -> None:
    run_id = await stage.accept(lambda: sleep(timedelta(0)))
    assert await stage.driver.drive(run_id) == "waiting"
    await stage.control.pause(run_id, by="ana")
    assert await stage.drive_later() == set()
    assert await stage.state(run_id) == "queued"
    assert await stage.driver.drive(run_id) == "nothing"
    await stage.control.resume(run_id, by="ana")
    assert await stage.driver.drive(run_id) == "succeeded"


async def test_two_waits_of_one_node_come_one_after_the_other(stage: Stage) -> None:
    def act() -> str:
        sleep_until(datetime.now(UTC) - timedelta(seconds=1))
        sleep(timedelta(0))
        return "both"

    run_id = await stage.accept(act)
    assert await stage.driver.drive(run_id) == "waiting"
    assert await stage.drive_later() == {run_id}
    assert await stage.state(run_id) == "waiting"
    assert await stage.drive_later() == {run_id}
    assert await stage.told(run_id) == "both"
    run = await stage.store.get(run_id)
    assert run.attempts == 1, "a wait is no attempt"


async def test_an_event_wakes_all_who_wait_for_it(stage: Stage) -> None:
    run_ids = [await stage.accept(lambda: wait_event("paid", "order-1")) for _ in range(2)]
    for run_id in run_ids:
        assert await stage.driver.drive(run_id) == "waiting"
    assert await stage.control.signal("paid", "order-2", {"amount": 1}) == []
    assert await Control(stage.pool, tenant="other").signal("paid", "order-1", {}) == []
    assert await stage.control.signal("paid", "order-1", {"amount": 7}) == ["io", "io"]
    for run_id in run_ids:
        assert await stage.driver.drive(run_id) == "succeeded"
        assert await stage.told(run_id) == {"amount": 7}


async def test_an_event_that_came_first_is_taken_once(stage: Stage) -> None:
    assert await stage.control.signal("paid", "order-1", {"amount": 7}) == []
    first_run, other = [await stage.accept(lambda: wait_event("paid", "order-1")) for _ in range(2)]
    assert await stage.driver.drive(first_run) == "waiting"
    assert await stage.drive_later() == {first_run, other}
    assert await stage.told(first_run) == {"amount": 7}
    assert await stage.state(other) == "waiting"
    assert await stage.drive_later() == set()


async def test_events_sent_while_runs_begin_to_wait_are_not_lost(stage: Stage) -> None:
    keys = [f"order-{index}" for index in range(12)]
    run_ids = []
    for key in keys:
        accepted = await stage.store.accept(WORK, {}, key=key)
        run_ids.append(accepted.id)
    waiting = iter(keys)
    stage.desk.act = lambda: wait_event("paid", key_of.setdefault(len(key_of), next(waiting)))
    key_of: dict[int, str] = {}
    await asyncio.gather(
        *(stage.driver.drive(run_id) for run_id in run_ids),
        *(stage.control.signal("paid", key, {"key": key}) for key in keys),
    )
    open_waits = "select count(*) as n from rotina.wait where state = 'open'"
    async with stage.pool.connection() as connection:
        row = await (await connection.execute(open_waits)).fetchone()
    assert row is not None
    assert row["n"] == 0


async def test_an_event_that_does_not_come_in_time_is_none(stage: Stage) -> None:
    run_id = await stage.accept(lambda: wait_event("paid", "x", timeout=timedelta(seconds=0.1)))
    assert await stage.driver.drive(run_id) == "waiting"
    await asyncio.sleep(0.2)
    assert await stage.drive_later() == {run_id}
    assert await stage.told(run_id) is None
    with pytest.raises(InvalidInputError, match="1 to 200"):
        await stage.control.signal("paid", "", {})


@pytest.mark.parametrize("otherwise", [None, Told(told="nobody")])
async def test_a_review_has_a_deadline(stage: Stage, pool: Pool, otherwise: Told | None) -> None:
    def act() -> Any:
        try:
            return review("Go on?", Told, deadline=timedelta(seconds=0.1), otherwise=otherwise).told
        except ReviewExpiredError as error:
            return f"expired: {error}"

    run_id = await stage.accept(act)
    assert await stage.driver.drive(run_id) == "waiting"
    (asked,) = await ReviewStore(pool, tenant="acme").list_open()
    assert asked.due_at is not None
    await asyncio.sleep(0.2)
    assert await stage.drive_later() == {run_id}
    told = await stage.told(run_id)
    assert told == "nobody" if otherwise else told.startswith("expired: Nobody answered")
    with pytest.raises(ReviewAnsweredError, match="deadline"):
        await ReviewStore(pool, tenant="acme").answer(asked.id, {"told": 1}, by="bo")


async def test_a_wait_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(RunError, match="no time to wait"):
        sleep(timedelta(seconds=-1))
    with pytest.raises(RunError, match="time zone"):
        sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001 - that is the mistake
