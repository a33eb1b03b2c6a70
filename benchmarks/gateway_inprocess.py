"""What a chat call costs the process that makes it: Rotina's gateway and its neighbours.

    python -m benchmarks.gateway_inprocess [--rounds 3] [--calls 400] [--quick]

A model server in C answers on loopback, at once or after 50 ms. Each client is a process of its own
and makes the same calls at 1, 16 and 64 concurrent, whole and streamed, in rounds that take turns;
each figure is the median of the rounds. Rotina has a route over two deployments, limits, a budget
in money and tokens, and its ledger in PostgreSQL (embedded, started here). CPU is that of the
client's process. The last line is one JSON object; `ratio` is the CPU of a whole call at 16
concurrent, Rotina's over the LiteLLM SDK's.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.loopback import database, upstream

CONCURRENCY = (1, 16, 64)
OWN = ("rotina", "rotina langchain")
OTHERS = ("aiohttp", "openai", "litellm", "litellm router", "ChatOpenAI")
GOAL = 0.20
SLOW_MS = 50.0

Cell = tuple[str, int, bool, bool]
"""Client, concurrency, streamed, slow."""
Figures = dict[str, float]


class Client:
    """A client in its own process."""

    def __init__(self, name: str, python: Path, port: int, database_url: str) -> None:
        program = Path(__file__).parent / "peers" / "client.py"
        base_url = f"http://127.0.0.1:{port}/v1"
        self._process = subprocess.Popen(
            [str(python), str(program), name, base_url, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        while "ready" not in (line := self._process.stdout.readline()):
            if not line:
                self.close()
                raise RuntimeError(f"{name} did not start")

    def measure(self, concurrency: int, calls: int, *, stream: bool) -> Figures:
        """What so many calls cost."""
        wanted = {"concurrency": concurrency, "calls": calls, "stream": stream}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        while not (line := self._process.stdout.readline()).startswith("{"):
            if not line:
                raise RuntimeError("a client died")
        found: Figures = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


def start(names: tuple[str, ...], python: Path, port: int, url: str, stack: ExitStack) -> Any:
    """Those of the clients that start, by name."""
    found = {}
    for name in names:
        try:
            client = Client(name, python, port, url)
        except RuntimeError as error:
            print(f"missing: {error}")
            continue
        stack.callback(client.close)
        found[name] = client
    return found


def run(rounds: int, calls: int, url: str) -> dict[Cell, Figures]:
    """The median of each figure of each cell."""
    found: dict[Cell, list[Figures]] = {}
    own, other = Path(sys.executable), peers.python()
    for slow in (False, True):
        with ExitStack() as stack:
            port = stack.enter_context(upstream(SLOW_MS if slow else 0))
            wanted = OTHERS if not slow else ("aiohttp", "litellm")
            clients = start(OWN if not slow else ("rotina",), own, port, url, stack)
            if other is not None:
                clients |= start(wanted, other, port, url, stack)
            for _ in range(rounds):
                for concurrency in CONCURRENCY:
                    for stream in (False, True):
                        for name, client in clients.items():
                            number = max(40, calls // 8) if slow and concurrency == 1 else calls
                            figures = client.measure(concurrency, number, stream=stream)
                            found.setdefault((name, concurrency, stream, slow), []).append(figures)
    return {
        cell: {key: statistics.median(each[key] for each in rows) for key in rows[0]}
        for cell, rows in found.items()
    }


def ratio(
    found: dict[Cell, Figures], one: str, other: str, figure: str, concurrency: int,
    *, stream: bool = False, slow: bool = False,
) -> float | None:  # fmt: skip
    """One client's figure over another's; None where one of them is missing."""
    ours = found.get((one, concurrency, stream, slow))
    theirs = found.get((other, concurrency, stream, slow))
    return None if ours is None or theirs is None else round(ours[figure] / theirs[figure], 3)


def report(found: dict[Cell, Figures]) -> None:
    """A table for people and the JSON line for machines."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for (name, concurrency, stream, slow), figures in found.items():
        how = f"{'streamed' if stream else 'whole':<9}{'50 ms' if slow else 'at once'}"
        print(
            f"  {name:<17}{concurrency:>3} {how:<17}{figures['cpu_ms']:7.3f} ms CPU"
            f"{figures['per_s']:8.0f}/s  p50 {figures['p50_ms']:7.2f}  p99 {figures['p99_ms']:7.2f}"
            f" ms{figures['mb']:6.0f} MB"
        )
    details: dict[str, Any] = {
        "cpu_to_litellm": {n: ratio(found, "rotina", "litellm", "cpu_ms", n) for n in CONCURRENCY},
        "cpu_to_litellm_streamed": {
            n: ratio(found, "rotina", "litellm", "cpu_ms", n, stream=True) for n in CONCURRENCY
        },
        "per_s_to_litellm_router": {
            n: ratio(found, "rotina", "litellm router", "per_s", n) for n in CONCURRENCY
        },
        "p50_to_aiohttp_at_50_ms": {
            n: ratio(found, "rotina", "aiohttp", "p50_ms", n, slow=True) for n in CONCURRENCY
        },
        "langchain_cpu_to_chat_openai": {
            n: ratio(found, "rotina langchain", "ChatOpenAI", "cpu_ms", n) for n in CONCURRENCY
        },
        "cpu_ms": {
            f"{name}, {n}, {'streamed' if stream else 'whole'}": round(figures["cpu_ms"], 3)
            for (name, n, stream, slow), figures in found.items()
            if not slow
        },
    }
    line = {
        "name": "gateway_inprocess",
        "ratio": details["cpu_to_litellm"][16],
        "goal": GOAL,
        "peer": "LiteLLM SDK, CPU a whole call at 16 concurrent",
        "details": details,
    }
    print(json.dumps(line))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="one round of 64 calls")
    chosen = parser.parse_args()
    rounds, calls = (1, 64) if chosen.quick else (chosen.rounds, chosen.calls)
    with database() as (url, _):
        report(run(rounds, calls, url))


if __name__ == "__main__":
    main()
