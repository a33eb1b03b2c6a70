"""A run that does everything a run can do, and a process that dies at a chosen boundary of it.

A boundary is a side of a statement, of a commit or of an act outside: every place between two
writes. The process takes the run from acceptance to its end, itself its client, worker, sweeper
and reviewer, and prints the boundaries it comes to; at the one it is told, it kills itself.

    python -m tests.chaos.journey DATABASE RECEIVER MODEL KEY [BOUNDARY]
"""

import asyncio
import functools
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypedDict
from uuid import UUID

import psycopg
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from pydantic import BaseModel

from rotina.database import Pool, load_queries, open_pool
from rotina.gateway import Gateway, PostgresLedger
from rotina.graphs.context import Context, make_context
from rotina.knowledge.loading import Limits
from rotina.runs import (
    Control,
    Driver,
    Registry,
    ReviewStore,
    RunStore,
    WorkerLease,
    Workflow,
    http_request,
    review,
    sleep,
    step,
    sweep,
    wait_event,
)
from rotina.settings import Settings

TENANT = "acme"
LEASE_SECONDS = 60.0


class Trip(BaseModel):
    """Input."""

    key: str
    receiver: str


class Told(BaseModel):
    """Output."""

    told: list[str]


class Leg(BaseModel):
    """Input and output of a child."""

    number: int


class Yes(BaseModel):
    """What the person answers."""

    yes: bool


class State(TypedDict, total=False):
    """State of the journey."""

    key: str
    receiver: str
    told: list[str]


class LegState(TypedDict, total=False):
    """State of a child."""

    number: int


_OUTSIDE: ContextVar[Callable[[str], None]] = ContextVar("_OUTSIDE", default=lambda _: None)


@step
async def draw(key: str) -> str:
    return f"drawn for {key}"


async def ask(state: State, runtime: Runtime[Context]) -> State:
    gateway = runtime.context.at("ask")
    answer = await gateway.chat([{"role": "user", "content": f"Where to, {state['key']}?"}])
    return {"told": [answer.text, await draw(state["key"])]}


async def pay(state: State, runtime: Runtime[Context]) -> State:
    effects = runtime.context.effects
    url = state["receiver"]

    async def act(path: str, key: UUID) -> dict[str, Any]:
        _OUTSIDE.get()(f"before {path}")
        receipt = await http_request("POST", f"{url}/{path}", json={"trip": state["key"]})(key)
        _OUTSIDE.get()(f"after {path}")
        return receipt

    await effects.call("pay", functools.partial(act, "pay"), repeatable=True)
    letter = await effects.call("letter", functools.partial(act, "letter"))
    return {"told": [*state["told"], f"letter {letter['status']}"]}


async def book(state: State, runtime: Runtime[Context]) -> State:
    async def insert(connection: AsyncConnection[DictRow]) -> dict[str, Any]:
        await connection.execute("insert into seat (trip) values (%s)", [state["key"]])
        return {"seat": 1}

    receipt = await runtime.context.effects.transact("book", insert)
    return {"told": [*state["told"], f"seat {receipt['seat']}"]}


async def send(state: State, runtime: Runtime[Context]) -> State:
    children = runtime.context.children
    legs = await children.map("legs", "leg", [{"number": n} for n in (1, 2, 3)], limit=2)
    numbers = [leg.result["number"] for leg in legs if leg.result]
    await children.start("away", "leg", {"number": 9})
    return {"told": [*state["told"], f"legs {numbers}"]}


async def rest(state: State, runtime: Runtime[Context]) -> State:
    sleep(timedelta(0))
    event = wait_event("arrived", state["key"])
    decided = review(f"Go on, {state['key']}?", Yes)
    return {"told": [*state["told"], f"arrived {event['at']}", f"yes {decided.yes}"]}


async def double(state: LegState, runtime: Runtime[Context]) -> LegState:
    return {"number": 2 * state["number"]}


def build() -> StateGraph[State, Context]:
    graph = StateGraph(State, context_schema=Context)
    nodes: dict[str, Any] = {"ask": ask, "pay": pay, "book": book, "send": send, "rest": rest}
    for name, node in nodes.items():
        graph.add_node(name, node)
    for first, second in zip([START, *nodes], [*nodes, END], strict=True):
        graph.add_edge(first, second)
    return graph


def build_leg() -> StateGraph[LegState, Context]:
    graph = StateGraph(LegState, context_schema=Context)
    graph.add_node("double", double)
    graph.add_edge(START, "double")
    graph.add_edge("double", END)
    return graph


JOURNEY = Workflow("journey", Trip, Told, build)
LEG = Workflow("leg", Leg, Leg, build_leg)


def expected(key: str) -> list[str]:
    """What the run has to end with."""
    return [
        f"You said: Where to, {key}?", f"drawn for {key}", "letter 200", "seat 1",
        "legs [2, 4, 6]", "arrived gate 7", "yes True",
    ]  # fmt: skip


class Traveller:
    """Client, worker, sweeper and reviewer of one journey, in one process."""

    def __init__(self, pool: Pool, driver: Driver, receiver: str, key: str) -> None:
        self._pool, self._driver = pool, driver
        self._receiver, self._key = receiver, key
        self._store = RunStore(pool, tenant=TENANT, max_attempts=20)

    async def accept(self) -> UUID:
        """Start the run, and tell of the event it will wait for; once, however often."""
        value = {"key": self._key, "receiver": self._receiver}
        accepted = await self._store.accept(JOURNEY, value, key=self._key)
        async with self._pool.connection() as connection:
            cursor = await connection.execute("select from rotina.signal")
            known = await cursor.fetchone()
        if known is None:
            event = {"at": "gate 7"}
            await Control(self._pool, tenant=TENANT).signal("arrived", self._key, event)
        return accepted.id

    async def travel(self, letters: Callable[[], int]) -> None:
        """Until all runs have ended; a person who is asked looks up whether the letter came."""
        while True:
            await sweep(self._pool)
            await self._answer(letters)
            await self._driver.drive("io")
            open_runs = [run for run in await self._store.list_runs() if not run.ended]
            if not open_runs:
                return

    async def _answer(self, letters: Callable[[], int]) -> None:
        reviews = ReviewStore(self._pool, tenant=TENANT)
        for asked in await reviews.list_open():
            value: dict[str, Any] = {"yes": True}
            if "effect" in asked.data:
                came = letters() > 0
                value = {"outcome": "done" if came else "not_done", "receipt": {"status": 200}}
            await reviews.answer(asked.id, value, by="ana")


def make_driver(pool: Pool, lease: WorkerLease, gateway: Gateway, settings: Settings) -> Driver:
    """A worker for journeys."""
    context = functools.partial(make_context, pool, gateway, Limits.from_settings(settings))
    return Driver(pool, Registry([JOURNEY, LEG]), lease, context)


def make_settings(model: str) -> Settings:
    """One model."""
    return Settings(
        deployments={"one": {"model": "scripted", "base_url": model}},
        routes={"smart": {"deployments": ["one"]}},
    )


class Boundaries:
    """Counts the boundaries that this process comes to, and kills it at one of them."""

    def __init__(self, fatal: str | None) -> None:
        self._fatal = fatal
        self._seen: Counter[str] = Counter()
        self._names = {
            query: name
            for package in ("rotina.runs", "rotina.database", "rotina.gateway")
            for name, query in load_queries(package).items()
        }

    def meet(self, name: str) -> None:
        """One more boundary."""
        self._seen[name] += 1
        boundary = f"{name} {self._seen[name]}"
        print(boundary, flush=True)
        if boundary == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """From now on each statement and each commit of this process has two sides."""
        execute, leave = psycopg.AsyncConnection.execute, psycopg.AsyncTransaction.__aexit__
        boundaries = self

        async def executed(connection: Any, query: Any, *given: Any, **named: Any) -> Any:
            name = boundaries._names.get(query, str(query).partition(" ")[0])
            # An empty statement is the pool's, which looks whether a connection is alive.
            if not name or not _IN_TRAVEL.get():
                return await execute(connection, query, *given, **named)
            boundaries.meet(f"before {name}")
            done = await execute(connection, query, *given, **named)
            boundaries.meet(f"after {name}")
            return done

        async def left(transaction: Any, kind: Any, error: Any, trace: Any) -> Any:
            if kind is not None or not _IN_TRAVEL.get():
                return await leave(transaction, kind, error, trace)
            boundaries.meet("before commit")
            done = await leave(transaction, kind, error, trace)
            boundaries.meet("after commit")
            return done

        psycopg.AsyncConnection.execute = executed  # type: ignore[method-assign,assignment]
        psycopg.AsyncTransaction.__aexit__ = left  # type: ignore[method-assign,assignment]
        _OUTSIDE.set(self.meet)


_IN_TRAVEL: ContextVar[bool] = ContextVar("_IN_TRAVEL", default=False)


async def main(database: str, receiver: str, model: str, key: str, fatal: str | None) -> None:
    """The whole journey, or as much of it as there is before the fatal boundary."""
    settings = make_settings(model)
    async with (
        open_pool(database) as pool,
        Gateway(settings, PostgresLedger(pool)) as gateway,
        WorkerLease(pool, LEASE_SECONDS).held() as lease,
    ):
        traveller = Traveller(pool, make_driver(pool, lease, gateway, settings), receiver, key)
        Boundaries(fatal).watch()
        _IN_TRAVEL.set(True)
        await traveller.accept()
        await traveller.travel(lambda: 0)


if __name__ == "__main__":
    _database, _receiver, _model, _key, *_fatal = sys.argv[1:]
    asyncio.run(main(_database, _receiver, _model, _key, next(iter(_fatal), None)))
