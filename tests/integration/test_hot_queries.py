"""What happens to each run costs the same with a long history: no table is read from end to end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypedDict
from uuid import UUID

import psycopg
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel

from rotina.database import Pool, open_pool
from rotina.runs import (
    Attempt,
    Children,
    Control,
    Driver,
    FlowControl,
    Registry,
    ReviewStore,
    RunStore,
    WorkerLease,
    Workflow,
    load_record,
    purge,
    review,
    sweep,
    wait_event,
)
from tests.history import TABLES, write_history

HISTORY = 8000


class Number(BaseModel):
    """Input, output and answer."""

    number: int


class State(TypedDict, total=False):
    """State of the test's graphs."""

    number: int


@dataclass(frozen=True)
class Desk:
    """What the nodes get."""

    children: Children


async def add(state: State, runtime: Runtime[Desk]) -> State:
    return {"number": state["number"] + 1}


async def ask(state: State, runtime: Runtime[Desk]) -> State:
    legs = await runtime.context.children.map("legs", "adding", [{"number": 1}], limit=1)
    told = wait_event("paid", "key")
    return {"number": review("?", Number).number + told["number"] + len(legs)}


def build(node: Any) -> StateGraph[State, Desk]:
    graph = StateGraph(State, context_schema=Desk)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.add_edge("node", END)
    return graph


ADDING = Workflow("adding", Number, Number, lambda: build(add))
LIMITED = Workflow("limited", Number, Number, lambda: build(add), flow=FlowControl(running=1))
ASKING = Workflow("asking", Number, Number, lambda: build(ask))
REGISTRY = Registry([ADDING, LIMITED, ASKING])


def context(attempt: Attempt) -> Desk:
    return Desk(attempt.children)


async def _drive(pool: Pool, workflow: Workflow) -> None:
    store = RunStore(pool, tenant="acme")
    control, reviews = Control(pool, tenant="acme"), ReviewStore(pool, tenant="acme")
    async with WorkerLease(pool, 60).held() as lease:
        driver = Driver(pool, REGISTRY, lease, context, ceilings={"acme": 50})
        accepted = await store.accept(workflow, {"number": 1}, key="once")
        await store.accept(workflow, {"number": 1}, key="once")
        await control.signal("paid", "key", {"number": 1})
        async with asyncio.timeout(30):
            while not (await store.get(accepted.id)).ended:
                await driver.drive("io")
                await sweep(pool)
                for asked in await reviews.list_open():
                    await reviews.answer(asked.id, {"number": 1}, by="ana")


async def _read(pool: Pool) -> None:
    store = RunStore(pool, tenant="acme")
    for run in await store.list_runs(limit=3):
        await store.get(run.id)
        await store.events(run.id)
        await store.model_calls(run.id)
        await load_record(pool, tenant="acme", run_id=run.id)
    await store.list_runs(workflow="old", limit=3)
    await ReviewStore(pool, tenant="acme").list_open()


async def _change(pool: Pool) -> None:
    store, control = RunStore(pool, tenant="acme"), Control(pool, tenant="acme")
    run_id: UUID = (await store.accept(ADDING, {"number": 1})).id
    await control.pause(run_id, by="ana")
    await control.resume(run_id, by="ana")
    await control.cancel(run_id, by="ana")
    await control.retry(run_id, by="ana")
    await control.cancel(run_id, by="ana")


async def _sweep(pool: Pool) -> None:
    await sweep(pool, patience=0)
    await purge(pool, record_days=30)


async def _watch(pool: Pool) -> None:
    async with WorkerLease(pool, 1.2).held() as lease:
        watching = asyncio.create_task(Driver(pool, REGISTRY, lease, context).watch())
        await asyncio.sleep(1.5)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


HOT: dict[str, Callable[[Pool], Awaitable[None]]] = {
    "a run from acceptance to its end": lambda pool: _drive(pool, ADDING),
    "one with limits": lambda pool: _drive(pool, LIMITED),
    "one with children, an event and a person": lambda pool: _drive(pool, ASKING),
    "reading": _read,
    "changing": _change,
    "sweeping": _sweep,
    "beating and watching": _watch,
}


@pytest.mark.parametrize("name", HOT)
async def test_no_table_is_read_from_end_to_end(database_url: str, name: str) -> None:
    write_history(database_url, HISTORY)
    before = scans(database_url)
    # Its sessions report what they have read when they end.
    async with open_pool(database_url, size=4) as pool:
        await HOT[name](pool)
    async with asyncio.timeout(10):
        while True:
            read = {table: count - before[table] for table, count in scans(database_url).items()}
            if others(database_url) == 0:
                break
            await asyncio.sleep(0.05)
    assert {table: count for table, count in read.items() if count} == {}


def scans(url: str) -> dict[str, int]:
    """How often each large table was read from end to end."""
    query = "select relname, seq_scan from pg_stat_user_tables where schemaname = 'rotina'"
    with psycopg.connect(url, autocommit=True) as connection:
        found: dict[str, int] = dict(connection.execute(query).fetchall())
    return {table: found[table] for table in TABLES}


def others(url: str) -> int:
    """Other sessions on this database."""
    query = (
        "select count(*) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])
