"""One message, many runs: the hands of a worker process."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

from rotina.database import Pool
from rotina.runs import Driver, FlowControl, Registry, RunStore, WorkerLease, Workflow
from rotina.worker.pump import Pump


class State(TypedDict, total=False):
    """What the graph holds."""

    number: int


class Number(BaseModel):
    """Input and output."""

    number: int


@dataclass
class Bench:
    """A worker whose runs wait at a gate, and note how many are inside."""

    pool: Pool
    driver: Driver
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    inside: int = 0
    most: int = 0
    done: int = 0

    async def accept(self, workflow: Workflow, runs: int) -> None:
        store = RunStore(self.pool, tenant="acme")
        for number in range(runs):
            await store.accept(workflow, {"number": number})

    async def until(self, done: int) -> None:
        async with asyncio.timeout(30):
            while self.done < done:
                await asyncio.sleep(0.01)

    def build(self) -> StateGraph[State]:
        async def wait(state: State) -> State:
            self.inside += 1
            self.most = max(self.most, self.inside)
            await self.gate.wait()
            self.inside -= 1
            self.done += 1
            return state

        graph = StateGraph(State)
        graph.add_node("wait", wait)
        graph.add_edge(START, "wait")
        graph.add_edge("wait", END)
        return graph


@pytest.fixture
async def bench(pool: Pool) -> AsyncIterator[Bench]:
    async with WorkerLease(pool, 60).held() as lease:
        bench = Bench(pool, Driver(pool, Registry([]), lease, lambda _: None))
        free = Workflow("free", Number, Number, bench.build)
        one = Workflow("one", Number, Number, bench.build, flow=FlowControl(running=1))
        cpu = Workflow("cpu", Number, Number, bench.build, queue="cpu")
        bench.driver.registry = Registry([free, one, cpu])
        yield bench


def workflow(bench: Bench, name: str) -> Workflow:
    return bench.driver.registry[name]


async def test_one_message_fills_every_hand_and_waits_for_the_rest(bench: Bench) -> None:
    pump = Pump(bench.driver, 3)
    await bench.accept(workflow(bench, "free"), 8)
    serving = asyncio.create_task(pump.serve("io"))
    async with asyncio.timeout(10):
        while bench.inside < 3:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert (bench.inside, serving.done()) == (3, False), "it waits for a hand"
    bench.gate.set()
    assert await serving
    await bench.until(8)
    assert bench.most == 3
    await pump.join()


async def test_a_message_returns_when_there_is_nothing(bench: Bench) -> None:
    pump = Pump(bench.driver, 3)
    assert await pump.serve("io")
    await bench.accept(workflow(bench, "cpu"), 1)
    assert await pump.serve("io"), "that run is of another queue"
    assert bench.inside == 0
    bench.gate.set()
    assert await pump.serve("cpu")
    await bench.until(1)
    await pump.join()


async def test_messages_at_once_miss_nothing(bench: Bench) -> None:
    pump = Pump(bench.driver, 50)
    bench.gate.set()

    async def arrive(number: int) -> None:
        await asyncio.sleep(number / 100)
        await bench.accept(workflow(bench, "free"), 1)
        await pump.serve("io")

    await asyncio.gather(*(arrive(number) for number in range(40)))
    await bench.until(40)
    await pump.join()


async def test_the_end_of_a_limited_run_brings_the_next(bench: Bench) -> None:
    pump = Pump(bench.driver, 5)
    bench.gate.set()
    await bench.accept(workflow(bench, "one"), 6)
    await pump.serve("io")
    await bench.until(6)
    assert bench.most == 1
    await pump.join()


async def test_a_draining_process_passes_its_messages_on(bench: Bench) -> None:
    pump = Pump(bench.driver, 1)
    await bench.accept(workflow(bench, "free"), 2)
    waiting = asyncio.create_task(pump.serve("io"))
    async with asyncio.timeout(10):
        while not bench.inside:
            await asyncio.sleep(0.01)
    bench.driver.drain()
    bench.gate.set()
    assert not await waiting
    assert not await pump.serve("io")
    await pump.join()
    assert bench.done == 1


async def test_a_claim_that_fails_is_told_and_leaves_the_hand_free(bench: Bench) -> None:
    pump = Pump(bench.driver, 1)
    async with bench.pool.connection() as connection:
        await connection.execute("alter function rotina.claim rename to claim_away")
    with pytest.raises(Exception, match=r"rotina\.claim"):
        await pump.serve("io")
    async with bench.pool.connection() as connection:
        await connection.execute("alter function rotina.claim_away rename to claim")
    await bench.accept(workflow(bench, "free"), 1)
    bench.gate.set()
    assert await pump.serve("io")
    await bench.until(1)
    await pump.join()
