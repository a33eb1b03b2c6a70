"""What a chat call costs behind a gateway over HTTP: Rotina, the LiteLLM proxy, Portkey.

    python -m benchmarks.gateway_http [--rounds 3] [--seconds 2] [--workers 2] [--quick]

A model server and a load generator in C stand on loopback around each gateway; `direct` is the load
generator at the model server. Rotina is `rotina gateway serve` with one worker, keys, a budget in
money and tokens, limits, and its ledger in PostgreSQL (embedded, started here); the others keep no
account here. Requests a second, latency, CPU of the gateway's processes a request (PostgreSQL's
apart) and memory, at 1, 16 and 64 concurrent, at once and with a model that takes 50 ms; medians of
rounds that take turns. `--workers` measures a second Rotina with so many workers, which no ratio
counts. The last line is one JSON object; `ratio` is requests a second at 64
concurrent, Rotina's over the LiteLLM proxy's.
"""

import argparse
import contextlib
import json
import os
import platform
import secrets
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks import peers
from benchmarks.loopback import database, load, upstream

CONCURRENCY = (1, 16, 64)
GOAL = 20.0
SLOW_MS = 50.0
START_SECONDS = 120
MODEL = "mock"
CONTENT = "What is the total of this invoice? " * 8

Cell = tuple[str, int, bool, bool]
"""Gateway, concurrency, streamed, slow."""
Figures = dict[str, float]


@dataclass
class Target:
    """A server to ask, and the processes that it is made of."""

    name: str
    port: int
    headers: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    path: str = "/v1/chat/completions"
    calls: dict[tuple[int, float, bool], int] = field(default_factory=dict)
    """How many calls take so long, by connections, seconds and streamed."""

    def request(self, *, stream: bool) -> bytes:
        """The bytes of one request."""
        body: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": CONTENT}],
            "max_tokens": 200,
        }
        if stream:
            body |= {"stream": True}
        content = json.dumps(body).encode()
        head = [f"POST {self.path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        head += [f"{name}: {value}" for name, value in self.headers.items()]
        head += ["Content-Type: application/json", f"Content-Length: {len(content)}", "", ""]
        return "\r\n".join(head).encode() + content

    def family(self) -> list[psutil.Process]:
        """Its processes."""
        if self.process is None:
            return []
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def cpu(self) -> float:
        """Seconds that its processes have used."""
        times = [process.cpu_times() for process in self.family()]
        return sum(each.user + each.system for each in times)

    def memory(self) -> float:
        """Megabytes that they hold."""
        return sum(process.memory_info().rss for process in self.family()) / 1e6

    def measure(self, connections: int, seconds: float, *, stream: bool) -> Figures:
        """What calls of about so many seconds cost."""
        request, cell = self.request(stream=stream), (connections, seconds, stream)
        if cell not in self.calls:
            probe = self._asked(request, connections, connections * 2)
            wanted = min(200_000, int(seconds * probe["per_s"]))
            self.calls[cell] = max(connections * 2, wanted)
        calls, cpu = self.calls[cell], self.cpu()
        found = self._asked(request, connections, calls)
        cpu = self.cpu() - cpu
        return {**found, "cpu_ms": cpu / calls * 1000, "mb": self.memory()}

    def _asked(self, request: bytes, connections: int, calls: int) -> Figures:
        found = load(self.port, request, connections, calls)
        if found["errors"]:
            raise RuntimeError(f"{self.name} failed: {found.get('first_error') or found}")
        return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def served(
    name: str, command: list[str], port: int, headers: dict[str, str], folder: Path, **extra: str
) -> Iterator[Target | None]:
    """A gateway that answers, until left; None, said aloud, where it does not."""
    log = folder / f"{name.replace(' ', '-')}-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **extra}, stdout=output, stderr=output, cwd=folder
        )
    target = Target(name, port, headers, process)
    try:
        if _answers(target):
            yield target
        else:
            said = log.read_text(errors="replace")[-400:]
            print(f"missing: {name} does not answer: {said}")
            yield None
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(target: Target) -> bool:
    deadline = time.monotonic() + START_SECONDS
    assert target.process is not None
    while time.monotonic() < deadline and target.process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", target.port), 1).close()
            with contextlib.suppress(RuntimeError):
                if not load(target.port, target.request(stream=False), 1, 3)["errors"]:
                    return True
        time.sleep(0.5)
    return False


@contextlib.contextmanager
def rotina(port: int, database_url: str, folder: Path, workers: int = 1) -> Iterator[Target | None]:
    """`rotina gateway serve`, with a key, a budget, limits and a ledger."""
    name = "rotina" if workers == 1 else f"rotina {workers}"
    home = folder / f"{name}-{port}"
    home.mkdir()
    deployment = (
        f'model = "{MODEL}"\nbase_url = "http://127.0.0.1:{port}/v1"\nconcurrency = 256\n'
        "rpm = 1000000000\ntpm = 1000000000000\nprice = { input = 0.15, output = 0.6 }\n"
    )
    (home / "rotina.toml").write_text(
        f"[deployments.one]\n{deployment}[deployments.two]\n{deployment}"
        f'[routes.{MODEL}]\ndeployments = ["one", "two"]\n'
        '[budgets.all]\nusd = 1000000000\ntokens = 1000000000000000\nperiod = "total"\n'
    )
    environment = {"DATABASE_URL": database_url, "REDIS_URL": ""}
    command = [sys.executable, "-m", "rotina"]
    made = subprocess.run(
        [*command, "keys", "create", f"bench-{secrets.token_hex(4)}"],
        cwd=home, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    token = next(word for word in made.stdout.split() if word.startswith("rtn_"))
    own = free_port()
    serve = [*command, "gateway", "serve", "--port", str(own), "--workers", str(workers)]
    headers = {"Authorization": f"Bearer {token}"}
    with served(name, serve, own, headers, home, **environment) as target:
        yield target


@contextlib.contextmanager
def litellm(port: int, folder: Path) -> Iterator[Target | None]:
    """The LiteLLM proxy, as its documentation starts it."""
    python = peers.python()
    if python is None:
        yield None
        return
    own, key = free_port(), "sk-bench"
    config = folder / f"litellm-{port}.json"
    params = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": "x"}
    config.write_text(
        json.dumps(
            {
                "model_list": [{"model_name": MODEL, "litellm_params": params}],
                "general_settings": {"master_key": key},
            }
        )
    )
    program = str(python.parent / "litellm")
    command = [program, "--config", str(config), "--port", str(own), "--host", "127.0.0.1"]
    headers = {"Authorization": f"Bearer {key}"}
    known = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    with served("litellm", command, own, headers, folder, **known) as target:
        yield target


@contextlib.contextmanager
def portkey(port: int, folder: Path) -> Iterator[Target | None]:
    """Portkey's open gateway."""
    command = peers.portkey()
    if command is None:
        yield None
        return
    own = free_port()
    headers = {
        "Authorization": "Bearer x",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{port}/v1",
    }
    with served(
        "portkey", [*command, f"--port={own}", "--headless"], own, headers, folder
    ) as target:
        yield target


def run(rounds: int, seconds: float, url: str, folder: Path, workers: int) -> dict[Cell, Figures]:
    """The median of each figure of each cell."""
    found: dict[Cell, list[Figures]] = {}
    for slow in (False, True):
        with ExitStack() as stack:
            port = stack.enter_context(upstream(SLOW_MS if slow else 0))
            targets = [
                Target("direct", port, {}),
                stack.enter_context(rotina(port, url, folder)),
                stack.enter_context(litellm(port, folder)),
                stack.enter_context(portkey(port, folder)),
            ]
            if workers > 1 and not slow:
                targets.append(stack.enter_context(rotina(port, url, folder, workers)))
            for _ in range(rounds):
                for concurrency in CONCURRENCY:
                    for stream in (False, True) if not slow else (False,):
                        for target in filter(None, targets):
                            cell = (target.name, concurrency, stream, slow)
                            try:
                                figures = target.measure(concurrency, seconds, stream=stream)
                            except RuntimeError as error:
                                print(f"missing: {cell}: {' '.join(str(error).split())[:120]}")
                                continue
                            found.setdefault(cell, []).append(figures)
    return {
        cell: {key: statistics.median(each[key] for each in rows) for key in rows[0]}
        for cell, rows in found.items()
    }


def ratio(
    found: dict[Cell, Figures], other: str, figure: str, concurrency: int,
    *, stream: bool = False, slow: bool = False,
) -> float | None:  # fmt: skip
    """Rotina's figure over another's; None where one of them is missing."""
    ours = found.get(("rotina", concurrency, stream, slow))
    theirs = found.get((other, concurrency, stream, slow))
    if ours is None or theirs is None or not theirs[figure]:
        return None
    return round(ours[figure] / theirs[figure], 3)


def report(found: dict[Cell, Figures]) -> None:
    """A table for people and the JSON line for machines."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for (name, concurrency, stream, slow), figures in found.items():
        how = f"{'streamed' if stream else 'whole':<9}{'50 ms' if slow else 'at once'}"
        print(
            f"  {name:<10}{concurrency:>3} {how:<17}{figures['per_s']:9.0f}/s  "
            f"p50 {figures['p50_ms']:8.2f}  p99 {figures['p99_ms']:8.2f} ms  "
            f"{figures['cpu_ms']:7.3f} ms CPU{figures['mb']:6.0f} MB"
        )
    details: dict[str, Any] = {
        f"{figure}_to_{other}": {n: ratio(found, other, figure, n) for n in CONCURRENCY}
        for other in ("litellm", "portkey")
        for figure in ("per_s", "cpu_ms", "mb")
    }
    details |= {
        f"{figure}_to_{other}_streamed": {
            n: ratio(found, other, figure, n, stream=True) for n in CONCURRENCY
        }
        for other in ("litellm", "portkey")
        for figure in ("per_s", "cpu_ms")
    }
    details["p50_to_direct_at_50_ms"] = ratio(found, "direct", "p50_ms", 64, slow=True)
    details["p99_to_direct_at_50_ms"] = ratio(found, "direct", "p99_ms", 64, slow=True)
    line = {
        "name": "gateway_http",
        "ratio": details["per_s_to_litellm"][64],
        "goal": GOAL,
        "peer": "LiteLLM proxy, requests a second at 64 concurrent",
        "details": details,
    }
    print(json.dumps(line))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--workers", type=int, default=1, help="above 1: this too, apart")
    parser.add_argument("--quick", action="store_true", help="one round of half-second cells")
    chosen = parser.parse_args()
    rounds, seconds = (1, 0.5) if chosen.quick else (chosen.rounds, chosen.seconds)
    with database() as (url, folder):
        report(run(rounds, seconds, url, folder, chosen.workers))


if __name__ == "__main__":
    main()
