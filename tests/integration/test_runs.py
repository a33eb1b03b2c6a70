"""Durable runs on a real PostgreSQL, without Celery: accept, lease, fence, resume, end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict
from uuid import UUID, uuid4

import psycopg
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel

from rotina.database import Pool
from rotina.errors import (
    DocumentTooLargeError,
    IdempotencyConflictError,
    InvalidInputError,
    LeaseLostError,
    ModelServerError,
    RunNotFoundError,
    UnknownWorkflowError,
)
from rotina.runs import (
    Attempt,
    Driver,
    Effects,
    Journal,
    Registry,
    RunStore,
    Upload,
    WorkerLease,
    Workflow,
    sweep,
)


class Number(BaseModel):
    """Input and output of the test workflow."""

    number: int


class State(TypedDict, total=False):
    """State of the test workflow."""

    number: int


@dataclass
class Probe:
    """What the test's nodes do, and what they did."""

    calls: list[str] = field(default_factory=list)
    hooks: dict[str, Callable[[], Any]] = field(default_factory=dict)
    effects: Effects | None = None

    async def at(self, node: str) -> None:
        self.calls.append(node)
        hook = self.hooks.get(node)
        result = hook() if hook else None
        if asyncio.iscoroutine(result):
            await result


async def add(state: State, runtime: Runtime[Probe]) -> State:
    await runtime.context.at("add")
    return {"number": state["number"] + 1}


async def double(state: State, runtime: Runtime[Probe]) -> State:
    await runtime.context.at("double")
    return {"number": state["number"] * 2}


async def last(state: State, runtime: Runtime[Probe]) -> State:
    await runtime.context.at("last")
    return state


def build() -> StateGraph[State, Probe]:
    graph = StateGraph(State, context_schema=Probe)
    for name, node in (("add", add), ("double", double), ("last", last)):
        graph.add_node(name, node)
    graph.add_edge(START, "add")
    graph.add_edge("add", "double")
    graph.add_edge("double", "last")
    graph.add_edge("last", END)
    return graph


ARITHMETIC = Workflow(name="arithmetic", input=Number, output=Number, build=build)


@pytest.fixture
def store(pool: Pool) -> RunStore:
    return RunStore(pool, tenant="default", max_attempts=3, max_file_bytes=1000)


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
async def driver(pool: Pool, probe: Probe) -> AsyncIterator[Driver]:
    async with WorkerLease(pool, lease_seconds=5).held() as lease:
        yield make_driver(pool, lease, probe)


def make_driver(pool: Pool, lease: WorkerLease, probe: Probe) -> Driver:
    def context(attempt: Attempt) -> Probe:
        probe.effects = attempt.effects
        return probe

    return Driver(pool, Registry([ARITHMETIC]), lease, context)


async def scalar(pool: Pool, query: str, *values: Any) -> Any:
    async with pool.connection() as connection:
        row = await (await connection.execute(query.encode(), values)).fetchone()
    assert row is not None
    return next(iter(row.values()))


async def make_due(pool: Pool, run_id: UUID) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "update rotina.run set available_at = now() where id = %s", (run_id,)
        )


async def kinds(store: RunStore, run_id: UUID) -> list[str]:
    return [event.kind for event in await store.events(run_id)]


async def test_a_run_is_driven_to_its_result(
    store: RunStore, driver: Driver, pool: Pool, probe: Probe
) -> None:
    accepted = await store.accept(ARITHMETIC, {"number": 20})
    assert (await store.get(accepted.id)).state == "queued"
    assert await driver.drive(accepted.id) == "succeeded"
    run = await store.get(accepted.id)
    assert (run.state, run.result, run.attempts) == ("succeeded", {"number": 42}, 1)
    assert run.seconds is not None
    assert await kinds(store, run.id) == [
        "accepted", "started", "node", "node", "node", "succeeded",
    ]  # fmt: skip
    assert probe.calls == ["add", "double", "last"]
    assert await scalar(pool, "select count(*) from rotina.checkpoint") == 0
    assert await driver.drive(accepted.id) == "nothing"


@pytest.mark.parametrize(("rounds", "ended"), [(40, "succeeded"), (60, "failed")])
async def test_a_graph_makes_as_many_steps_as_its_workflow_allows(
    store: RunStore, driver: Driver, rounds: int, ended: str
) -> None:
    def turning() -> StateGraph[State, Probe]:
        graph = StateGraph(State, context_schema=Probe)
        graph.add_node("add", add)
        graph.add_edge(START, "add")
        graph.add_conditional_edges(
            "add", lambda state: "add" if state["number"] < rounds else END, ["add", END]
        )
        return graph

    workflow = Workflow("turning", Number, Number, turning, max_steps=50)
    driver.registry = Registry([workflow])
    accepted = await store.accept(workflow, {"number": 0})
    assert await driver.drive(accepted.id) == ended
    error = (await store.get(accepted.id)).error
    assert error is None if ended == "succeeded" else "max_steps" in (error or {})["message"]


async def test_an_idempotency_key_names_one_run(store: RunStore) -> None:
    first = await store.accept(ARITHMETIC, {"number": 1}, key="k")
    again = await store.accept(ARITHMETIC, {"number": 1}, key="k")
    assert (again.id, again.created) == (first.id, False)
    with pytest.raises(IdempotencyConflictError, match=r"'k'.*another input"):
        await store.accept(ARITHMETIC, {"number": 2}, key="k")
    assert len(await store.list_runs()) == 1


async def test_concurrent_accepts_with_one_key_make_one_run(store: RunStore) -> None:
    accepted = await asyncio.gather(
        *(store.accept(ARITHMETIC, {"number": 1}, key="k") for _ in range(20))
    )
    assert len({one.id for one in accepted}) == 1
    assert sum(one.created for one in accepted) == 1


async def test_bad_input_is_refused_before_anything_is_written(store: RunStore) -> None:
    with pytest.raises(InvalidInputError, match=r"'arithmetic'.*number"):
        await store.accept(ARITHMETIC, {"number": "many"})
    upload = Upload("big.txt", b"x" * 1001)
    with pytest.raises(DocumentTooLargeError, match=r"1,001 bytes.*max_file_bytes"):
        await store.accept(ARITHMETIC, {"number": 1}, upload=upload)
    assert await store.list_runs() == []


async def test_unknown_runs_and_workflows_are_named(store: RunStore) -> None:
    with pytest.raises(RunNotFoundError, match="There is no run"):
        await store.get(uuid4())
    with pytest.raises(UnknownWorkflowError, match=r"'taxes'.*arithmetic"):
        Registry([ARITHMETIC])["taxes"]


async def test_another_tenant_sees_nothing(store: RunStore, pool: Pool) -> None:
    upload = Upload("a.txt", b"secret")
    accepted = await store.accept(ARITHMETIC, {"number": 1}, upload=upload)
    other = RunStore(pool, tenant="other")
    assert await store.file(upload.reference) == b"secret"
    assert await other.list_runs() == []
    with pytest.raises(RunNotFoundError):
        await other.get(accepted.id)
    with pytest.raises(RunNotFoundError):
        await other.events(accepted.id)
    with pytest.raises(RunNotFoundError, match="not stored"):
        await other.file(upload.reference)
    with pytest.raises(RunNotFoundError, match="no run"):
        await other.find(str(accepted.id)[:8])
    assert (await store.find(str(accepted.id)[:13])).id == accepted.id


async def test_five_workers_drive_a_run_once(store: RunStore, pool: Pool, probe: Probe) -> None:
    accepted = await store.accept(ARITHMETIC, {"number": 20})
    async with contextlib.AsyncExitStack() as stack:
        leases = [await stack.enter_async_context(WorkerLease(pool, 60).held()) for _ in range(5)]
        drivers = [make_driver(pool, lease, probe) for lease in leases]
        # Twice each: a worker may get two hints for one run.
        outcomes = await asyncio.gather(*(each.drive(accepted.id) for each in drivers * 2))
    assert sorted(outcomes) == ["nothing"] * 9 + ["succeeded"]
    assert probe.calls == ["add", "double", "last"]


async def test_a_worker_whose_lease_ran_out_claims_nothing(store: RunStore, pool: Pool) -> None:
    accepted = await store.accept(ARITHMETIC, {"number": 20})
    async with WorkerLease(pool, 60).held() as lease:
        async with pool.connection() as connection:
            await connection.execute("update rotina.worker set expires_at = now()")
        async with lease.claimed(accepted.id) as claimed:
            assert claimed is None


async def test_what_jsonb_cannot_hold_is_refused_as_input(store: RunStore) -> None:
    class Text(BaseModel):
        text: str

    workflow = Workflow(name="text", input=Text, output=Text, build=build)
    with pytest.raises(InvalidInputError, match="NUL"):
        await store.accept(workflow, {"text": "a\x00b"})


async def test_an_error_that_jsonb_cannot_hold_still_ends_the_run(
    store: RunStore, driver: Driver, probe: Probe
) -> None:
    accepted = await store.accept(ARITHMETIC, {"number": 20})

    def broken() -> None:
        raise ValueError("half \ud83d and \x00")

    probe.hooks["last"] = broken
    assert await driver.drive(accepted.id) == "failed"
    error = (await store.get(accepted.id)).error
    assert error is not None
    assert error["message"] == "half ? and \ufffd"


async def test_a_zombie_writes_nothing_and_the_next_worker_resumes(
    store: RunStore, pool: Pool
) -> None:
    """The first worker stops in the middle of `double`, is thought dead, and wakes up later."""
    accepted = await store.accept(ARITHMETIC, {"number": 20})
    asleep, wake = asyncio.Event(), asyncio.Event()
    zombie, heir = Probe(), Probe()

    async def sleep() -> None:
        asleep.set()
        await wake.wait()

    zombie.hooks["double"] = sleep
    first, second = WorkerLease(pool, 60), WorkerLease(pool, 60)
    async with first.held(), second.held():
        late = asyncio.create_task(make_driver(pool, first, zombie).drive(accepted.id))
        await asleep.wait()
        # The event of `add` is written beside `double`, and a sweep passes over a locked row.
        while "node" not in await kinds(store, accepted.id):
            await asyncio.sleep(0.01)
        async with pool.connection() as connection:
            await connection.execute("delete from rotina.worker where id = %s", (first.id,))
        swept = await sweep(pool)
        assert (swept.requeued, swept.due) == (1, {"io": 1})
        assert await make_driver(pool, second, heir).drive(accepted.id) == "succeeded"
        wake.set()
        assert await late == "lost"
    run = await store.get(accepted.id)
    assert (run.result, run.attempts) == ({"number": 42}, 2)
    assert heir.calls == ["double", "last"], "`add` was checkpointed and is not repeated"
    events = await kinds(store, run.id)
    assert events.count("succeeded") == 1
    assert "worker_lost" in events


async def note(journal: Journal) -> None:
    journal.note("node", {})
    await journal.commit()


async def test_a_lost_fence_refuses_every_write(store: RunStore, pool: Pool) -> None:
    accepted = await store.accept(ARITHMETIC, {"number": 1})
    async with WorkerLease(pool, 60).held() as lease, lease.claimed(accepted.id) as claimed:
        assert claimed is not None
        fence = claimed.fence
    await sweep(pool)
    before = await store.get(accepted.id)

    async def change(_: Any) -> dict[str, Any]:
        raise AssertionError("must not be reached")

    for write in (
        lambda: note(Journal(fence)),
        lambda: Journal(fence).finish("succeeded", result={}, error=None),
        lambda: Journal(fence).release(kind="retry", refund=False),
        lambda: Journal(fence).suspend([]),
        lambda: Effects(fence).transact("pay", change),
    ):
        with pytest.raises(LeaseLostError):
            await write()
    assert await store.get(accepted.id) == before


async def test_a_run_that_kills_its_workers_ends_failed(store: RunStore, pool: Pool) -> None:
    accepted = await store.accept(ARITHMETIC, {"number": 1})
    for _ in range(3):
        async with WorkerLease(pool, 60).held() as lease, lease.claimed(accepted.id) as claimed:
            assert claimed is not None
        await sweep(pool)
    run = await store.get(accepted.id)
    assert run.state == "failed"
    assert run.error is not None
    assert run.error["type"] == "WorkerLostError"
    assert "3 attempts" in run.error["message"]
    assert (await kinds(store, run.id))[-1] == "failed"


async def test_a_transient_error_is_retried_then_fails(
    store: RunStore, driver: Driver, pool: Pool, probe: Probe
) -> None:
    accepted = await store.accept(ARITHMETIC, {"number": 20})

    def broken() -> None:
        raise ModelServerError("503 from the model server")

    probe.hooks["double"] = broken
    for outcome in ("retrying", "retrying", "failed"):
        await make_due(pool, accepted.id)
        assert await driver.drive(accepted.id) == outcome
    run = await store.get(accepted.id)
    assert run.error == {
        "type": "ModelServerError",
        "message": "503 from the model server",
        "node": "double",
    }
    assert probe.calls.count("add") == 1


async def test_a_retried_run_is_not_claimed_before_it_is_due(
    store: RunStore, driver: Driver, pool: Pool, probe: Probe
) -> None:
    accepted = await store.accept(ARITHMETIC, {"number": 20})
    failures = iter([ModelServerError("503")])

    def once() -> None:
        for failure in failures:
            raise failure

    probe.hooks["double"] = once
    assert await driver.drive(accepted.id) == "retrying"
    assert await driver.drive(accepted.id) == "nothing"
    assert (await sweep(pool)).due == {}
    await make_due(pool, accepted.id)
    assert (await sweep(pool)).due == {"io": 1}
    assert await driver.drive(accepted.id) == "succeeded"


async def test_a_bug_fails_the_run_at_once_with_its_node(
    store: RunStore, driver: Driver, probe: Probe
) -> None:
    accepted = await store.accept(ARITHMETIC, {"number": 20})
    probe.hooks["last"] = lambda: 1 / 0
    assert await driver.drive(accepted.id) == "failed"
    run = await store.get(accepted.id)
    assert run.error == {"type": "ZeroDivisionError", "message": "division by zero", "node": "last"}


async def test_a_drained_run_goes_on_where_it_stopped(
    store: RunStore, driver: Driver, pool: Pool, probe: Probe
) -> None:
    accepted = await store.accept(ARITHMETIC, {"number": 20})
    probe.hooks["double"] = driver.drain
    assert await driver.drive(accepted.id) == "drained"
    run = await store.get(accepted.id)
    assert (run.state, run.attempts) == ("queued", 0)
    assert await driver.drive(accepted.id) == "nothing", "a draining worker claims nothing"
    async with WorkerLease(pool, 60).held() as lease:
        assert await make_driver(pool, lease, probe).drive(accepted.id) == "succeeded"
    assert probe.calls == ["add", "double", "last"]


async def test_a_cancelled_drive_hands_the_run_back(
    store: RunStore, driver: Driver, probe: Probe
) -> None:
    accepted = await store.accept(ARITHMETIC, {"number": 20})
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.sleep(60)

    probe.hooks["double"] = hang
    driving = asyncio.create_task(driver.drive(accepted.id))
    await reached.wait()
    driving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driving
    assert (await store.get(accepted.id)).state == "queued"


async def test_an_effect_happens_once_across_attempts(
    store: RunStore, driver: Driver, pool: Pool, probe: Probe
) -> None:
    accepted = await store.accept(ARITHMETIC, {"number": 20})
    receipts = []
    failures = iter([ModelServerError("after the effect, before the checkpoint")])

    async def book() -> None:
        assert probe.effects is not None

        async def change(connection: Any) -> dict[str, Any]:
            await connection.execute(
                "insert into invoice_register (run_id, document, status) "
                "values (%s, 'x', 'to_check')",
                (accepted.id,),
            )
            return {"booked": True}

        receipts.append(await probe.effects.transact("book", change))
        for failure in failures:
            raise failure

    probe.hooks["last"] = book
    assert await driver.drive(accepted.id) == "retrying"
    await make_due(pool, accepted.id)
    assert await driver.drive(accepted.id) == "succeeded"
    assert receipts == [{"booked": True}] * 2
    assert await scalar(pool, "select count(*) from invoice_register") == 1


async def test_queues_are_told_of_what_nobody_takes(
    store: RunStore, driver: Driver, pool: Pool
) -> None:
    assert (await sweep(pool)).due == {}
    for number in range(101):
        await store.accept(ARITHMETIC, {"number": number})
    assert (await sweep(pool)).due == {"io": 100}
    assert (await sweep(pool)).due == {"io": 100}, "until somebody does"


async def test_sweepers_do_not_wait_for_each_other(pool: Pool) -> None:
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(hashtext('rotina.sweep'))")
        assert await asyncio.wait_for(sweep(pool), 5) == await sweep(pool)


async def test_a_run_whose_end_cannot_be_written_is_driven_again(
    store: RunStore, pool: Pool, probe: Probe
) -> None:
    """The database fails between the last node and the terminal state, and comes back."""
    accepted = await store.accept(ARITHMETIC, {"number": 20})

    async def rename(table: str, name: str) -> None:
        async with pool.connection() as connection:
            await connection.execute(f"alter table rotina.{table} rename to {name}".encode())

    probe.hooks["last"] = lambda: rename("run_event", "gone")
    async with WorkerLease(pool, lease_seconds=1.2).held() as lease:
        driver = make_driver(pool, lease, probe)
        with pytest.raises(psycopg.Error):
            await driver.drive(accepted.id)
        assert (await store.get(accepted.id)).state == "running", "it hangs, for now"
        probe.hooks.clear()
        await rename("gone", "run_event")
        async with asyncio.timeout(10):
            while (await store.get(accepted.id)).state == "running":
                await asyncio.sleep(0.05)
        assert await driver.drive(accepted.id) == "succeeded"
    assert (await store.get(accepted.id)).result == {"number": 42}
    assert "orphaned" in await kinds(store, accepted.id)


async def test_a_result_that_postgresql_cannot_hold_fails_the_run(
    store: RunStore, pool: Pool
) -> None:
    class Text(BaseModel):
        text: str

    class TextState(TypedDict, total=False):
        number: int
        text: str

    async def answer(state: TextState) -> TextState:
        return {"text": "a\x00b"}

    def build_text() -> StateGraph[TextState, None]:
        graph = StateGraph(TextState)
        graph.add_node("answer", answer)
        graph.add_edge(START, "answer")
        graph.add_edge("answer", END)
        return graph

    workflow = Workflow(name="text", input=Number, output=Text, build=build_text)
    accepted = await store.accept(workflow, {"number": 1})
    async with WorkerLease(pool, 60).held() as lease:
        driver = Driver(pool, Registry([workflow]), lease, lambda _: None)
        assert await driver.drive(accepted.id) == "failed"
    run = await store.get(accepted.id)
    assert run.error is not None
    assert run.error["type"] == "UntranslatableCharacter"


async def test_no_connection_is_held_while_nodes_wait(
    store: RunStore, driver: Driver, pool: Pool, probe: Probe
) -> None:
    """More waiting runs than the pool has connections, and every connection is free."""
    waiting, go_on = asyncio.Barrier(21), asyncio.Event()

    async def ask_a_model() -> None:
        await waiting.wait()
        await go_on.wait()

    probe.hooks["double"] = ask_a_model
    accepted = [await store.accept(ARITHMETIC, {"number": 20}) for _ in range(20)]
    driving = [asyncio.create_task(driver.drive(one.id)) for one in accepted]
    async with asyncio.timeout(30):
        await waiting.wait()
        statistics = pool.get_stats()
        assert statistics["pool_available"] == statistics["pool_size"] <= 5
        go_on.set()
        assert await asyncio.gather(*driving) == ["succeeded"] * 20
