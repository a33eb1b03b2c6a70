"""Runs a second of one worker process: Rotina against Celery and LangGraph glued by hand.

    python -m benchmarks.run_throughput [--runs 300] [--waiting 1000]

Starts a PostgreSQL with its durable settings and a Valkey of its own. The same five nodes that do
nothing run as Celery tasks, each way on a worker of its own, one after the other:

- `rotina`: one `rotina worker io` process;
- `threads`: Celery's threads pool, a task that invokes the graph with `PostgresSaver`,
  `durability="sync"`, late acknowledgement;
- `prefork`: the same task on two processes.

Throughput counts from the first message to the last run that has ended. CPU is that of the whole:
enqueueing, worker, Valkey and PostgreSQL. Then 1,000 runs that wait two seconds each, as on a
model, on one Rotina worker: how many are in flight at once, and for how long all take. The last
line is one JSON object; `ratio` is Rotina's runs a second over the better peer's.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis

from rotina import Rotina
from rotina.database import migrate
from rotina.embedded import postgres, valkey
from rotina.settings import Settings

GOAL = 2.5
IN_FLIGHT = 500
WAIT_SECONDS = 2.0

PROJECT = '[tool.rotina]\nworkflows = ["flows"]\napp = "rotina_app"\n'
FLOWS = """
import asyncio
from typing import TypedDict
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel
from rotina.runs import Workflow

class State(TypedDict, total=False):
    number: int

class Number(BaseModel):
    number: int

def build():
    graph = StateGraph(State)
    names = [f"node_{index}" for index in range(5)]
    for name in names:
        graph.add_node(name, lambda state: {"number": state["number"] + 1})
    for before, after in zip([START, *names], [*names, END]):
        graph.add_edge(before, after)
    return graph

async def wait(state):
    await asyncio.sleep(%(wait)s)
    return state

def build_waiting():
    graph = StateGraph(State)
    graph.add_node("wait", wait)
    graph.add_edge(START, "wait")
    graph.add_edge("wait", END)
    return graph

FIVE = Workflow("five", Number, Number, build)
WAITING = Workflow("waiting", Number, Number, build_waiting)
"""
ROTINA_APP = """
from rotina.settings import load_settings
from rotina.worker import create_app
app = create_app(load_settings())
"""
PLAIN_APP = """
import os, uuid
import redis
from celery import Celery
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool
from flows import build

app = Celery("plain", broker=os.environ["REDIS_URL"])
app.conf.update(task_ignore_result=True, task_acks_late=True, task_reject_on_worker_lost=True,
                worker_prefetch_multiplier=1, worker_hijack_root_logger=False)
_made = None

def made():
    global _made
    if _made is None:
        pool = ConnectionPool(os.environ["DATABASE_URL"], min_size=1, max_size=20, open=True,
                              kwargs={"autocommit": True, "prepare_threshold": 0,
                                      "row_factory": dict_row})
        counter = redis.Redis.from_url(os.environ["REDIS_URL"])
        _made = build().compile(checkpointer=PostgresSaver(pool)), counter
    return _made

@app.task(name="five")
def five(number):
    graph, counter = made()
    graph.invoke({"number": number}, {"configurable": {"thread_id": str(uuid.uuid4())}},
                 durability="sync")
    counter.incr("done")
"""


@dataclass(frozen=True)
class Stage:
    """The servers, a project, and the environment of its processes."""

    folder: Path
    database_url: str
    redis_url: str
    servers: tuple[int, ...]
    """Process ids."""

    @property
    def environment(self) -> dict[str, str]:
        """What a worker is started with."""
        return {
            **os.environ,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "ROTINA_IO_CONCURRENCY": str(IN_FLIGHT),
            "ROTINA_DATA_DIR": str(self.folder / "data"),
            "PYTHONPATH": str(self.folder),
        }

    @contextlib.contextmanager
    def worker(self, *command: str) -> Iterator[psutil.Process]:
        """A worker, once it consumes."""
        log = self.folder / "worker.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.folder,
                env=self.environment,
                stdout=out,
                stderr=out,
            )
        try:
            wait_until(lambda: b" ready." in log.read_bytes(), 60)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)

    def cpu(self, worker: psutil.Process) -> float:
        """Seconds of processor time that everything has used so far."""
        trees = [worker, *(psutil.Process(pid) for pid in self.servers)]
        used = time.process_time()
        for tree in trees:
            for process in [tree, *tree.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    used += times.user + times.system
                    used += times.children_user + times.children_system
        return used


@contextlib.contextmanager
def own_stage(files: Mapping[str, str]) -> Iterator[Stage]:
    """Servers and a project of these files, for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="rotina-bench-") as name:
        folder = Path(name)
        for file, text in {"pyproject.toml": PROJECT, "rotina_app.py": ROTINA_APP, **files}.items():
            (folder / file).write_text(text)
        database, broker = postgres.start(folder / "postgres"), valkey.start(folder / "valkey")
        try:
            asyncio.run(migrate(database.url, []))
            pids = database.process.pid, broker.process.pid
            yield Stage(folder, database.url, broker.url, pids)
        finally:
            broker.stop()
            database.stop()


def wait_until(condition: Callable[[], bool], seconds: float, pause: float = 0.05) -> None:
    """Poll; raises `TimeoutError`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s")
        time.sleep(pause)


def count(url: str, query: str) -> int:
    """The one number that a query returns."""
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


async def accept(stage: Stage, workflow: str, runs: int) -> None:
    """Accept that many runs, eight at a time."""
    settings = Settings(
        database_url=stage.database_url,
        redis_url=stage.redis_url,
        workflows=["flows"],
        project_dir=stage.folder,
    )
    async with Rotina(settings=settings) as rotina:
        gate = asyncio.Semaphore(8)

        async def one() -> None:
            async with gate:
                await rotina.start(workflow, {"number": 0})

        await asyncio.gather(*(one() for _ in range(runs)))


def measure_rotina(stage: Stage, runs: int) -> dict[str, float]:
    """Five nodes on one worker process."""
    ended = "select count(*) from rotina.run where state = 'succeeded'"
    with stage.worker("rotina", "worker", "io") as worker:
        asyncio.run(accept(stage, "five", 5))
        wait_until(lambda: count(stage.database_url, ended) == 5, 60)
        cpu, wall = stage.cpu(worker), time.perf_counter()
        asyncio.run(accept(stage, "five", runs))
        wait_until(lambda: count(stage.database_url, ended) == runs + 5, 600)
        return costs(time.perf_counter() - wall, stage.cpu(worker) - cpu, runs)


def measure_plain(stage: Stage, runs: int, pool: str, concurrency: int) -> dict[str, float]:
    """The same graph as a plain Celery task."""
    from celery import Celery
    from langgraph.checkpoint.postgres import PostgresSaver

    with PostgresSaver.from_conn_string(stage.database_url) as saver:
        saver.setup()
    app = Celery("plain", broker=stage.redis_url, set_as_current=False)
    counter = redis.Redis.from_url(stage.redis_url)
    counter.flushall()

    def done() -> int:
        return int(counter.get("done") or 0)

    command = ("celery", "-A", "plain_app", "worker", "-P", pool, "-c", str(concurrency))
    with stage.worker(*command, "-l", "INFO") as worker:
        for _ in range(5):
            app.send_task("five", args=[0])
        wait_until(lambda: done() == 5, 60)
        cpu, wall = stage.cpu(worker), time.perf_counter()
        for _ in range(runs):
            app.send_task("five", args=[0])
        wait_until(lambda: done() == runs + 5, 600)
        found = costs(time.perf_counter() - wall, stage.cpu(worker) - cpu, runs)
    app.close()
    counter.close()
    return found


def costs(wall: float, cpu: float, runs: int) -> dict[str, float]:
    """Runs a second, and milliseconds of processor time a run."""
    return {"runs_per_s": round(runs / wall, 1), "cpu_ms": round(cpu / runs * 1000, 2)}


def measure_waiting(stage: Stage, runs: int) -> dict[str, float]:
    """Runs that wait as on a model."""
    states = "select count(*) from rotina.run where workflow = 'waiting' and state = '{}'"
    running, ended = states.format("running"), states.format("succeeded")
    most, memory = 0, 0
    with stage.worker("rotina", "worker", "io") as worker:
        start = time.perf_counter()
        asyncio.run(accept(stage, "waiting", runs))
        accepted = time.perf_counter() - start
        while count(stage.database_url, ended) < runs:
            most = max(most, count(stage.database_url, running))
            memory = max(memory, worker.memory_info().rss)
            time.sleep(0.1)
        wall = time.perf_counter() - start
    ideal = WAIT_SECONDS * runs / IN_FLIGHT
    return {
        "runs": runs,
        "most_in_flight": most,
        "accept_s": round(accepted, 2),
        "wall_s": round(wall, 2),
        "wall_to_ideal": round(wall / ideal, 2),
        "memory_mb": round(memory / 1e6),
    }


def bench(stage: Stage, runs: int, waiting: int) -> Mapping[str, Any]:
    """All ways, one after the other."""
    details: dict[str, Any] = {
        "rotina": measure_rotina(stage, runs),
        "threads": measure_plain(stage, runs, "threads", 10),
        "prefork": measure_plain(stage, runs, "prefork", 2),
        "waiting": measure_waiting(stage, waiting),
    }
    peers = ("threads", "prefork")
    best = max(peers, key=lambda name: details[name]["runs_per_s"])
    least = min(details[name]["cpu_ms"] for name in peers)
    details["cpu_ratio"] = round(details["rotina"]["cpu_ms"] / least, 2)
    details["machine"] = f"{platform.machine()}, Python {platform.python_version()}"
    return {
        "name": "run_throughput",
        "ratio": round(details["rotina"]["runs_per_s"] / details[best]["runs_per_s"], 2),
        "goal": GOAL,
        "peer": f"Celery + LangGraph + PostgresSaver, {best}",
        "details": details,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--waiting", type=int, default=1000)
    chosen = parser.parse_args()
    files = {"flows.py": FLOWS % {"wait": WAIT_SECONDS}, "plain_app.py": PLAIN_APP}
    with own_stage(files) as stage:
        found = bench(stage, chosen.runs, chosen.waiting)
    for way, figures in found["details"].items():
        print(f"{way:10}{figures}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
