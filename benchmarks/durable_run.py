"""What durability costs a run: five nodes that do nothing, on one PostgreSQL.

    python -m benchmarks.durable_run [--rounds 7] [--runs 40]

Starts a PostgreSQL of its own with its durable settings (`fsync`, `synchronous_commit`). The same
five nodes run one after the other in one process, in rounds that take turns:

- `none`: LangGraph without a checkpointer, the floor;
- `postgres_saver`: LangGraph with `AsyncPostgresSaver`, `durability="sync"`, a connection pool;
- `dbos`: a DBOS workflow of five steps;
- `rotina`: the run is accepted in PostgreSQL, claimed under a lease, driven with every write behind
  the fencing token, and ended with its result and its timeline. The peers do less: no acceptance
  that can be asked for (LangGraph), no fence.

Wall is the median over the rounds of the mean of a round, CPU is this process's own. Commits, rows
inserted and WAL are PostgreSQL's own counts for one round. The last line is one JSON object;
`ratio` is Rotina's wall over the saver's, the median of the rounds' ratios.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

from rotina.database import migrate, open_pool
from rotina.embedded import postgres
from rotina.runs import Driver, Registry, RunStore, WorkerLease, Workflow

GOAL = 0.45
NODES = 5

OneRun = Callable[[], Awaitable[object]]


class State(TypedDict, total=False):
    """What the nodes hand on."""

    number: int


class Number(BaseModel):
    """Input and output of the run."""

    number: int


@dataclass(frozen=True)
class Cost:
    """What one run cost in a round."""

    wall_ms: float
    cpu_ms: float
    commits: float
    rows: float
    wal_kb: float


def build() -> StateGraph[State, Any]:
    """Five nodes in a row."""
    graph: StateGraph[State, Any] = StateGraph(State)
    names = [f"node_{index}" for index in range(NODES)]
    for name in names:
        graph.add_node(name, lambda state: {"number": state["number"] + 1})
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    return graph


@asynccontextmanager
async def without(_: str) -> AsyncIterator[OneRun]:
    """LangGraph alone."""
    graph = build().compile()
    yield lambda: graph.ainvoke({"number": 0})


@asynccontextmanager
async def postgres_saver(url: str) -> AsyncIterator[OneRun]:
    """LangGraph with its own saver for PostgreSQL."""
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool

    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(url, kwargs=options, min_size=1, max_size=5) as pool:
        saver = AsyncPostgresSaver(pool)  # type: ignore[arg-type]
        await saver.setup()
        graph = build().compile(checkpointer=saver)

        async def one() -> None:
            config: Any = {"configurable": {"thread_id": str(uuid4())}}
            await graph.ainvoke({"number": 0}, config, durability="sync")

        yield one


@asynccontextmanager
async def dbos(url: str) -> AsyncIterator[OneRun]:
    """A DBOS workflow of five steps."""
    from dbos import DBOS

    DBOS(config={"name": "bench", "system_database_url": url})

    @DBOS.step()
    async def step(number: int) -> int:
        return number + 1

    @DBOS.workflow()
    async def workflow(number: int) -> int:
        for _ in range(NODES):
            number = await step(number)
        return number

    DBOS.launch()
    try:
        yield lambda: workflow(0)
    finally:
        DBOS.destroy()


@asynccontextmanager
async def rotina(url: str) -> AsyncIterator[OneRun]:
    """A run of Rotina: accepted, claimed, driven and ended."""
    workflow = Workflow("bench", Number, Number, build)
    async with open_pool(url, size=5) as pool, WorkerLease(pool, 8).held() as lease:
        store = RunStore(pool, tenant="default")
        driver = Driver(pool, Registry([workflow]), lease, lambda _: None)

        async def one() -> None:
            accepted = await store.accept(workflow, {"number": 0})
            assert await driver.drive(accepted.id) == "succeeded"

        yield one


WAYS = {"none": without, "postgres_saver": postgres_saver, "dbos": dbos, "rotina": rotina}


async def measure(url: str, runs: int, one: OneRun) -> Cost:
    """One round."""
    before = counts(url)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(runs):
        await one()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    # A session reports what it did when it next has something to do, or after a second.
    await asyncio.sleep(1.2)
    await one()
    await asyncio.sleep(0.2)
    after = counts(url)
    commits, rows, wal = (
        (late - early) / (runs + 1) for early, late in zip(before, after, strict=True)
    )
    return Cost(wall / runs * 1000, cpu / runs * 1000, commits, rows, wal / 1024)


def counts(url: str) -> tuple[float, float, float]:
    """Commits, rows inserted and bytes of WAL so far."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            """
            select xact_commit, tup_inserted, pg_current_wal_insert_lsn() - '0/0'
            from pg_stat_database where datname = current_database()
            """
        ).fetchone()
    assert row is not None
    return float(row[0]), float(row[1]), float(row[2])


async def bench(base: str, rounds: int, runs: int) -> dict[str, Any]:
    """All ways, each in a database of its own, in rounds that take turns."""
    found: dict[str, list[Cost]] = {name: [] for name in WAYS}
    async with contextlib.AsyncExitStack() as stack:
        ways: dict[str, tuple[str, OneRun]] = {}
        for name, way in WAYS.items():
            url = own_database(base, name)
            if name == "rotina":
                await migrate(url, [])
            ways[name] = url, await stack.enter_async_context(way(url))
        for url, one in ways.values():
            await measure(url, 5, one)  # imports, plans, connections
        for _ in range(rounds):
            for name, (url, one) in ways.items():
                found[name].append(await measure(url, runs, one))
    ratios = [
        ours.wall_ms / peer.wall_ms
        for ours, peer in zip(found["rotina"], found["postgres_saver"], strict=True)
    ]
    details: dict[str, Any] = {name: summary(costs) for name, costs in found.items()}
    ours, peer, other = details["rotina"], details["postgres_saver"], details["dbos"]
    details["wall_to_dbos"] = round(ours["wall_ms"] / other["wall_ms"], 3)
    details["cpu_to_postgres_saver"] = round(ours["cpu_ms"] / peer["cpu_ms"], 3)
    details["machine"] = f"{platform.machine()}, Python {platform.python_version()}"
    return {
        "name": "durable_run",
        "ratio": round(statistics.median(ratios), 3),
        "goal": GOAL,
        "peer": "LangGraph + AsyncPostgresSaver, durability=sync",
        "details": details,
    }


def summary(costs: list[Cost]) -> dict[str, float]:
    """The median of each figure."""
    names = ("wall_ms", "cpu_ms", "commits", "rows", "wal_kb")
    return {
        name: round(statistics.median(getattr(each, name) for each in costs), 2) for name in names
    }


def own_database(base: str, name: str) -> str:
    """A new database on the server."""
    with psycopg.connect(base, autocommit=True) as connection:
        connection.execute(f"create database {name}_bench".encode())
    return urlunsplit(urlsplit(base)._replace(path=f"/{name}_bench"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=40)
    chosen = parser.parse_args()
    os.environ.setdefault("DBOS__LOGLEVEL", "ERROR")
    with tempfile.TemporaryDirectory(prefix="rotina-bench-") as folder:
        service = postgres.start(Path(folder) / "postgres")
        try:
            found = asyncio.run(bench(service.url, chosen.rounds, chosen.runs))
        finally:
            service.stop()
    for name in WAYS:
        print(f"{name:16}{found['details'][name]}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
