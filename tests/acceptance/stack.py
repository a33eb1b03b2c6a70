"""Real processes for acceptance tests: workers, beat and a scripted model server."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


@dataclass
class Stack:
    """The processes of one test, all with the same environment; stopped by `stop`."""

    environment: Mapping[str, str]
    logs: Path
    cwd: Path = PROJECT
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start `python COMMAND…` in a process group of its own; its output goes to a log."""
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.cwd,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running[name] = process
        return process

    def rotina(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a `rotina` command that stays."""
        return self.start(name, "-m", "rotina", *arguments)

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a `rotina` command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "rotina", *arguments],
            cwd=self.cwd,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """A process that was started and not ended by the test."""
        return self._running[name]

    def kill(self, name: str) -> None:
        """kill -9, as the kernel's out-of-memory killer would."""
        process = self._running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def terminate(self, name: str, timeout: float = 60) -> int:
        """SIGTERM, and the exit status."""
        process = self._running.pop(name)
        process.terminate()
        return process.wait(timeout)

    def log(self, name: str) -> str:
        """What a process has written so far."""
        path = self.logs / f"{name}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def wait_for(self, what: str, condition: Callable[[], bool], timeout: float = 60) -> None:
        """Poll until the condition holds; on time-out show the logs."""
        deadline = time.monotonic() + timeout
        while not condition():
            for name, process in self._running.items():
                assert process.poll() is None, f"{name} ended:\n{self.log(name)[-3000:]}"
            if time.monotonic() > deadline:
                tails = "\n".join(f"--- {n}\n{self.log(n)[-1500:]}" for n in self._running)
                raise TimeoutError(f"waited {timeout} s for {what}\n{tails}")
            time.sleep(0.05)

    def worker(self, name: str = "worker-io", kind: str = "io") -> None:
        """Start a worker and wait until it consumes."""
        seen = self.log(name).count(" ready.")
        self.rotina(name, "worker", kind)
        self.wait_for(f"{name} to be ready", lambda: self.log(name).count(" ready.") > seen)

    def model(self, script: str, delay: float = 0.0, log: Path | None = None) -> str:
        """Start a scripted model server; returns its base URL. Its requests go to `log`."""
        name = "model"
        self.start(
            name,
            *("-m", "tests.scripted_model", "--port", "0"),
            *("--script", script, "--delay", str(delay)),
            *(() if log is None else ("--log", str(log))),
        )
        self.wait_for("the model server", lambda: "http://" in self.log(name))
        return next(line for line in self.log(name).splitlines() if line.startswith("http://"))

    def stop(self) -> None:
        """Kill whatever still runs."""
        for name in list(self._running):
            self.kill(name)


@contextlib.contextmanager
def stack(database_url: str, redis_url: str, logs: Path) -> Iterator[Stack]:
    """A stack on this test's own database, with short leases."""
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "ROTINA_LEASE_SECONDS": "2",
        "ROTINA_DATA_DIR": str(logs / "data"),
        "PYTHONUNBUFFERED": "1",
    }
    running = Stack(environment, logs)
    try:
        yield running
    finally:
        running.stop()
