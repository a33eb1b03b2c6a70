"""The children of a supervisor: started, watched, restarted, stopped in order."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rotina.embedded import guard
from rotina.embedded.process import Program, log_tail, rotate_log, spawn, stop, wait_until
from rotina.errors import EmbeddedError

QUICK = 20.0
"""Seconds: a child that lived shorter died quickly."""
MOST_QUICK_DEATHS = 5


@dataclass
class Child:
    """One program that has to run."""

    program: Program
    ready: Callable[[], bool] | None = None
    """None: running is enough."""
    stop_seconds: float = 30.0
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    quick_deaths: int = 0
    restart_at: float | None = None
    asked: bool = False
    """Whether it was told to stop."""


@dataclass
class Children:
    """All of them, in the order in which they were started; they stop in the opposite one."""

    report: Callable[[str], None]
    claims: Sequence[Path] = ()
    """Files that say we run; the guard removes them if we are killed."""
    members: list[Child] = field(default_factory=list)
    _guard: subprocess.Popen[bytes] | None = None

    def start(self, batch: Sequence[Child], timeout: float) -> None:
        """Start `batch` side by side and wait until each is ready.

        Raises `EmbeddedError` with the end of the log of the one that is not.
        """
        for child in batch:
            self.members.append(child)
            self._spawn(child)
        for child in batch:
            if child.ready is not None and child.process is not None:
                wait_until(child.ready, child.process, child.program, timeout)

    def watch(self) -> None:
        """Look once: restart what has died, keep the logs small.

        Raises `EmbeddedError` when a child has died quickly five times in a row.
        """
        if self._guard is not None and self._guard.poll() is not None:
            self._guard_all()
        for child in self.members:
            rotate_log(child.program.log)
            if child.restart_at is not None:
                if time.monotonic() >= child.restart_at:
                    self._spawn(child)
            elif child.process is not None and child.process.poll() is not None:
                self._bury(child, child.process)

    def stop(self) -> None:
        """Stop all: workers before what they need. Harmless when some have ended."""
        for child in self.members[::-1]:
            if child.process is not None:
                # Asking twice would make Celery drop what it drains.
                ask = None if child.asked else child.program.stop_signal
                stop(child.process, ask, child.stop_seconds)
                self._tell(f"- {child.process.pid}")
                child.process = None
        self.members.clear()
        if self._guard is not None and self._guard.stdin is not None:
            with suppress(BrokenPipeError):
                self._guard.stdin.close()
            self._guard.wait()

    def ask_to_stop(self, children: Sequence[Child]) -> None:
        """Let several drain at the same time, before `stop()` waits for each."""
        for child in children:
            if child.process is not None and child.process.poll() is None:
                child.process.send_signal(child.program.stop_signal)
                child.asked = True

    def _spawn(self, child: Child) -> None:
        if self._guard is None:
            self._guard_all()
        child.process = spawn(child.program)
        child.started, child.restart_at = time.monotonic(), None
        self._tell(f"+ {child.process.pid} {int(child.program.orphan_signal)}")

    def _bury(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        stop(process, signal.SIGKILL)  # also what is left of its process group
        self._tell(f"- {process.pid}")
        lived = time.monotonic() - child.started
        child.quick_deaths = child.quick_deaths + 1 if lived < QUICK else 1
        name, status = child.program.name, process.returncode
        if child.quick_deaths >= MOST_QUICK_DEATHS:
            raise EmbeddedError(
                f"{name} died {MOST_QUICK_DEATHS} times in a row (status {status}). "
                f"The end of {child.program.log}:\n{log_tail(child.program.log)}"
            )
        delay = 0.25 * 2**child.quick_deaths
        child.restart_at = time.monotonic() + delay
        self.report(f"{name} ended with status {status}; restarting it in {delay:.1f} s")

    def _guard_all(self) -> None:
        """Start the guard, and tell it whom it has to end should we be killed."""
        self._guard = subprocess.Popen(
            [sys.executable, "-I", guard.__file__, *map(str, self.claims)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        for child in self.members:
            if child.process is not None and child.process.poll() is None:
                self._tell(f"+ {child.process.pid} {int(child.program.orphan_signal)}")

    def _tell(self, line: str) -> None:
        if self._guard is None or self._guard.stdin is None:
            return
        with suppress(BrokenPipeError):  # watch() notices that it is gone, and starts another
            self._guard.stdin.write(f"{line}\n".encode("ascii"))
            self._guard.stdin.flush()
