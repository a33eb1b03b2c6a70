"""What a long history costs: accepting, claiming, ending, listing with up to a million old runs.

    python -m benchmarks.growth [--history 1000000] [--rounds 200]

Starts a PostgreSQL of its own with its durable settings and a database for each size, filled with
runs that have succeeded, three lines of timeline each. Then, in rounds that take turns between the
databases: a run is accepted, claimed and ended, and the last 20 runs are listed. Figures are the
medians of the rounds. The last line is one JSON object; `ratio` is the worst of the three figures
with the largest history over the same with 10 old runs, which is the peer.
"""

import argparse
import asyncio
import contextlib
import json
import platform
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.durable_run import own_database
from rotina.database import migrate, open_pool
from rotina.embedded import postgres
from rotina.runs import Journal, RunStore, WorkerLease, Workflow
from tests.history import write_history

GOAL = 1.3
FEW, SOME = 10, 10_000
LISTED = 20

Measured = dict[str, float]


class Number(BaseModel):
    """Input and output of the run."""

    number: int


def never() -> Any:
    """The graph, which nobody drives here."""
    raise AssertionError("this benchmark drives no graph")


NEW = Workflow("new", Number, Number, never)


async def timed(doing: Awaitable[Any]) -> tuple[float, Any]:
    """Milliseconds, and what came of it."""
    begun = time.perf_counter()
    done = await doing
    return (time.perf_counter() - begun) * 1000, done


@asynccontextmanager
async def one_round(url: str) -> AsyncIterator[Callable[[], Awaitable[Measured]]]:
    """A function that accepts, claims, ends and lists, and says how long each took."""
    async with open_pool(url, size=3) as pool, WorkerLease(pool, 60).held() as lease:
        store = RunStore(pool, tenant="acme")

        async def once() -> Measured:
            accept, _ = await timed(store.accept(NEW, {"number": 1}))
            claimed = lease.claimed("io", {"new": [1]})
            claim, found = await timed(claimed.__aenter__())
            assert found is not None
            end, _ = await timed(
                Journal(found.fence).finish("succeeded", result={"number": 2}, error=None)
            )
            await claimed.__aexit__(None, None, None)
            listing, runs = await timed(store.list_runs(limit=LISTED))
            assert runs[0].id == found.run.id
            return {"accept": accept, "claim": claim, "end": end, "list": listing}

        yield once


async def bench(base: str, history: int, rounds: int) -> dict[str, Any]:
    """All sizes, in rounds that take turns."""
    found: dict[int, list[Measured]] = {FEW: [], SOME: [], history: []}
    async with contextlib.AsyncExitStack() as stack:
        ways = {}
        for size in found:
            url = own_database(base, f"growth_{size}")
            await migrate(url, [])
            write_history(url, size, details=False)
            ways[size] = await stack.enter_async_context(one_round(url))
            for _ in range(20):
                await ways[size]()
        for _ in range(rounds):
            for size, once in ways.items():
                found[size].append(await once())
    medians = {
        size: {
            name: round(statistics.median(each[name] for each in measured), 3)
            for name in measured[0]
        }
        for size, measured in found.items()
    }
    ratios = {name: round(medians[history][name] / medians[FEW][name], 2) for name in medians[FEW]}
    return {
        "name": "growth",
        "ratio": max(ratios.values()),
        "goal": GOAL,
        "peer": f"the same with {FEW} old runs",
        "details": {
            "milliseconds": {str(size): each for size, each in medians.items()},
            "ratios": ratios,
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--history", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rotina-bench-") as folder:
        service = postgres.start(Path(folder) / "postgres")
        try:
            result = asyncio.run(bench(service.url, chosen.history, chosen.rounds))
        finally:
            service.stop()
    for size, measured in result["details"]["milliseconds"].items():
        print(f"{int(size):>10,} old runs  {measured}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
