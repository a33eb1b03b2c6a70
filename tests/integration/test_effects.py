"""Effects on a receiver outside PostgreSQL: done once, looked up, repeated or held, never both."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict
from uuid import UUID

import pytest
from aiohttp import web
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel

from rotina.database import Pool
from rotina.errors import EffectNotDoneError, InvalidInputError, LeaseLostError, ReceiverDownError
from rotina.runs import (
    Driver,
    Effects,
    Registry,
    ReviewStore,
    RunStore,
    WorkerLease,
    Workflow,
    http_request,
    sweep,
)
from rotina.runs.effects import Receipt

Mode = Literal["held", "repeatable", "reconciled"]
Fault = Literal["died_before", "died_after", "refused", "answered_500", "down", "none"]


class Payment(BaseModel):
    """Input."""

    mode: Mode


class Paid(BaseModel):
    """Output."""

    receipt: dict[str, Any]


class State(TypedDict, total=False):
    """State of the test's graph."""

    mode: Mode
    receipt: dict[str, Any]


@dataclass
class Bank:
    """A receiver of payments on loopback, and the faults on the way to it."""

    url: str = ""
    keys: list[str] = field(default_factory=list)
    """Of the requests that arrived."""
    paid: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    knows_keys: bool = True

    async def pay(self, request: web.Request) -> web.Response:
        key = request.headers["Idempotency-Key"]
        self.keys.append(key)
        fault = self.faults[0] if self.faults else "none"
        if fault == "refused":
            self.faults.pop(0)
            return web.Response(status=402, text="no money")
        self.paid.add(key if self.knows_keys else f"{key} {len(self.keys)}")
        if fault == "answered_500":
            self.faults.pop(0)
            return web.Response(status=500, text="maybe")
        return web.json_response({"paid": key})

    async def act(self, key: UUID) -> Receipt:
        """The request, with the worker dying around it."""
        if self.faults and self.faults[0] == "died_before":
            self.faults.pop(0)
            raise LeaseLostError("as if the process were gone")
        url = self.url
        if self.faults and self.faults[0] == "down":
            self.faults.pop(0)
            url = "http://127.0.0.1:1/pay"
        receipt = await http_request("POST", url, json={"amount": 7})(key)
        if self.faults and self.faults[0] == "died_after":
            self.faults.pop(0)
            raise LeaseLostError("as if the process were gone")
        return receipt

    async def look_up(self, key: UUID) -> Receipt | None:
        return {"status": 200, "found": str(key)} if str(key) in self.paid else None


@dataclass
class Desk:
    """What the node gets."""

    bank: Bank
    effects: Effects


async def pay(state: State, runtime: Runtime[Desk]) -> State:
    bank, mode = runtime.context.bank, state["mode"]
    receipt = await runtime.context.effects.call(
        "pay",
        bank.act,
        repeatable=mode == "repeatable",
        reconcile=bank.look_up if mode == "reconciled" else None,
    )
    return {"mode": mode, "receipt": receipt}


def build() -> StateGraph[State, Desk]:
    graph = StateGraph(State, context_schema=Desk)
    graph.add_node("pay", pay)
    graph.add_edge(START, "pay")
    graph.add_edge("pay", END)
    return graph


PAYING = Workflow("paying", Payment, Paid, build)


@dataclass
class Stage:
    """Workers that come and go, and the bank."""

    pool: Pool
    store: RunStore
    bank: Bank

    async def drive(self, run_id: UUID) -> str:
        """A new worker drives the run once."""
        async with WorkerLease(self.pool, 30).held() as lease:
            driver = Driver(
                self.pool,
                Registry([PAYING]),
                lease,
                lambda attempt: Desk(self.bank, attempt.effects),
            )
            outcome = await driver.drive(run_id)
        await sweep(self.pool)
        async with self.pool.connection() as connection:
            await connection.execute("update rotina.run set available_at = now()")
        return outcome

    async def accept(self, mode: Mode, *faults: Fault) -> UUID:
        self.bank.faults = list(faults)
        return (await self.store.accept(PAYING, {"mode": mode})).id

    async def receipt(self, run_id: UUID) -> Any:
        run = await self.store.get(run_id)
        assert run.result is not None, run.error
        return run.result["receipt"]

    async def decide(self, outcome: str, **receipt: Any) -> None:
        reviews = ReviewStore(self.pool, tenant="acme")
        (asked,) = await reviews.list_open()
        assert asked.data["effect"] == "pay"
        await reviews.answer(asked.id, {"outcome": outcome, "receipt": receipt}, by="ana")


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    bank = Bank()
    app = web.Application()
    app.router.add_post("/pay", bank.pay)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bank.url = f"http://127.0.0.1:{runner.addresses[0][1]}/pay"
    try:
        yield Stage(pool, RunStore(pool, tenant="acme", max_attempts=5), bank)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("mode", ["held", "repeatable", "reconciled"])
async def test_without_a_fault_it_is_done_once(stage: Stage, mode: Mode) -> None:
    run_id = await stage.accept(mode)
    assert await stage.drive(run_id) == "succeeded"
    assert (await stage.receipt(run_id))["status"] == 200
    assert len(stage.bank.keys) == len(stage.bank.paid) == 1


@pytest.mark.parametrize("fault", ["died_before", "died_after"])
async def test_a_receiver_that_knows_the_key_is_asked_again(stage: Stage, fault: Fault) -> None:
    run_id = await stage.accept("repeatable", fault)
    assert await stage.drive(run_id) == "lost"
    assert await stage.drive(run_id) == "succeeded"
    assert len(stage.bank.paid) == 1
    assert len(set(stage.bank.keys)) == 1


@pytest.mark.parametrize(("fault", "asked"), [("died_before", 1), ("died_after", 1)])
async def test_a_receiver_that_can_be_asked_is_not_told_twice(
    stage: Stage, fault: Fault, asked: int
) -> None:
    run_id = await stage.accept("reconciled", fault)
    assert await stage.drive(run_id) == "lost"
    assert await stage.drive(run_id) == "succeeded"
    assert len(stage.bank.keys) == asked
    assert len(stage.bank.paid) == 1


async def test_an_unknown_outcome_waits_for_a_person_who_says_it_is_done(stage: Stage) -> None:
    run_id = await stage.accept("held", "died_after")
    assert await stage.drive(run_id) == "lost"
    assert await stage.drive(run_id) == "waiting"
    assert await stage.drive(run_id) == "nothing"
    await stage.decide("done", by_phone=True)
    assert await stage.drive(run_id) == "succeeded"
    assert await stage.receipt(run_id) == {"by_phone": True}
    assert len(stage.bank.keys) == 1


async def test_a_person_who_says_it_is_not_done_has_it_done_once(stage: Stage) -> None:
    run_id = await stage.accept("held", "died_before")
    assert await stage.drive(run_id) == "lost"
    assert await stage.drive(run_id) == "waiting"
    await stage.decide("not_done")
    assert await stage.drive(run_id) == "succeeded"
    assert len(stage.bank.keys) == len(stage.bank.paid) == 1


async def test_each_unknown_outcome_is_decided_for_itself(stage: Stage) -> None:
    """The earlier decision must not count for the later fault."""
    run_id = await stage.accept("held", "died_before", "answered_500", "died_before")
    assert await stage.drive(run_id) == "lost"
    assert await stage.drive(run_id) == "waiting"
    await stage.decide("not_done")
    assert await stage.drive(run_id) == "waiting", "a 500 leaves the outcome unknown"
    await stage.decide("not_done")
    assert await stage.drive(run_id) == "lost"
    assert await stage.drive(run_id) == "waiting"
    await stage.decide("done", third=True)
    assert await stage.drive(run_id) == "succeeded"
    assert await stage.receipt(run_id) == {"third": True}
    assert len(stage.bank.keys) == 1


async def test_a_refusal_ends_the_run_and_a_retry_acts_again(stage: Stage) -> None:
    run_id = await stage.accept("held", "refused")
    assert await stage.drive(run_id) == "failed"
    error = (await stage.store.get(run_id)).error
    assert error is not None
    assert error["type"] == EffectNotDoneError.__name__
    assert "402" in error["message"]
    assert stage.bank.paid == set()


async def test_a_receiver_that_is_down_is_tried_again_later(stage: Stage) -> None:
    run_id = await stage.accept("held", "down")
    assert await stage.drive(run_id) == "retrying"
    error = (await stage.store.get(run_id)).error
    assert error is not None
    assert error["type"] == ReceiverDownError.__name__
    assert await stage.drive(run_id) == "succeeded"
    assert len(stage.bank.keys) == len(stage.bank.paid) == 1


async def test_a_decision_must_fit_the_form(stage: Stage) -> None:
    run_id = await stage.accept("held", "died_after")
    await stage.drive(run_id)
    await stage.drive(run_id)
    with pytest.raises(InvalidInputError, match="outcome"):
        await stage.decide("perhaps")
