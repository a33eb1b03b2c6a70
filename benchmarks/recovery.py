"""Seconds from a worker's death until another one drives its runs.

    python -m benchmarks.recovery [--kills 20] [--runs 20]

Two `rotina worker io` processes on a PostgreSQL and a Valkey of their own, with the default lease.
Runs wait on something slow, and the worker that drives most of them is killed with -9. A run has
recovered when its next attempt starts. Celery has no figure of its own to set beside it: with Redis
and late acknowledgement it gives a dead worker's task to another one after `visibility_timeout`, an
hour unless somebody changed it. So `ratio` is the 99th percentile over the ten seconds that are the
goal. The last line is one JSON object.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Mapping
from typing import Any

import psycopg

from benchmarks.run_throughput import FLOWS, Stage, accept, count, own_stage, wait_until

GOAL_SECONDS = 10.0
WORK_SECONDS = 4.0

RUNNING = "select count(*) from rotina.run where state = 'running'"
UNFINISHED = "select count(*) from rotina.run where finished_at is null"
RECOVERED = """
select extract(epoch from next.at - %(killed)s::timestamptz) as seconds
from rotina.run_event lost, lateral (
    select at from rotina.run_event later
    where later.run_id = lost.run_id and later.id > lost.id and later.kind = 'started'
    order by id limit 1
) as next
where lost.kind = 'worker_lost' and lost.at > %(killed)s::timestamptz
"""
DRIVEN = """
select worker.name from rotina.run join rotina.worker on worker.id = run.worker_id
where run.state = 'running' group by worker.name order by count(*) desc
"""


def driver(stage: Stage) -> int:
    """The process that drives most runs."""
    with psycopg.connect(stage.database_url) as connection:
        row = connection.execute(DRIVEN).fetchone()
    assert row is not None, "nobody drives anything"
    return int(row[0].rpartition(":")[2])


def kill_one(stage: Stage, runs: int, moments: random.Random) -> list[float]:
    """Seconds that each run of a killed worker took to go on."""
    command = "rotina", "worker", "io"
    with stage.worker(*command) as one, stage.worker(*command) as other:
        asyncio.run(accept(stage, "waiting", runs))
        wait_until(lambda: count(stage.database_url, RUNNING) == runs, 30)
        time.sleep(moments.uniform(0.0, WORK_SECONDS / 2))
        doomed = next(each for each in (one, other) if each.pid == driver(stage))
        with psycopg.connect(stage.database_url) as connection:
            row = connection.execute("select clock_timestamp()").fetchone()
        doomed.kill()
        wait_until(lambda: count(stage.database_url, UNFINISHED) == 0, 60)
    assert row is not None
    with psycopg.connect(stage.database_url) as connection:
        found = connection.execute(RECOVERED, {"killed": row[0]}).fetchall()
    return [float(seconds) for (seconds,) in found]


def measure(stage: Stage, kills: int, runs: int) -> Mapping[str, Any]:
    """All kills."""
    moments = random.Random(7)
    seconds = [each for _ in range(kills) for each in kill_one(stage, runs, moments)]
    cuts = statistics.quantiles(seconds, n=100)
    details = {
        "kills": kills,
        "recovered": len(seconds),
        "p50_s": round(cuts[49], 2),
        "p99_s": round(cuts[98], 2),
        "max_s": round(max(seconds), 2),
    }
    return {
        "name": "recovery",
        "ratio": round(cuts[98] / GOAL_SECONDS, 2),
        "goal": 1.0,
        "peer": "the goal of ten seconds",
        "details": details,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--runs", type=int, default=20)
    chosen = parser.parse_args()
    with own_stage({"flows.py": FLOWS % {"wait": WORK_SECONDS}}) as stage:
        found = measure(stage, chosen.kills, chosen.runs)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
