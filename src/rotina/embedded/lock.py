"""One supervisor for a data directory, and how others find it."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rotina.errors import AlreadyRunningError, EmbeddedError

_FILE = "supervisor.lock"


@dataclass(frozen=True)
class Holder:
    """The supervisor that runs on a data directory."""

    pid: int
    ready: bool
    """Whether everything it manages is up."""


class Lock:
    """Held for as long as the supervisor runs; the kernel releases it when we die."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def announce(self, *, ready: bool) -> None:
        """Say who we are to `holder()`."""
        text = json.dumps({"pid": os.getpid(), "ready": ready}).encode("ascii")
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)


@contextmanager
def hold(data: Path) -> Iterator[Lock]:
    """Lock the data directory.

    Raises `AlreadyRunningError` naming the process that holds it.
    """
    descriptor = os.open(data / _FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = holder(data)
            who = f"process {other.pid}" if other else "another process"
            raise AlreadyRunningError(
                f"`rotina up` runs already on {data} ({who}): use it, or stop it with `rotina down`"
            ) from None
        lock = Lock(descriptor)
        lock.announce(ready=False)
        yield lock
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(data: Path) -> Holder | None:
    """The supervisor that holds the lock now; None when nobody does."""
    try:
        descriptor = os.open(data / _FILE, os.O_RDWR)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise EmbeddedError(
            f"{data} belongs to another account: run as that account, or set ROTINA_DATA_DIR"
        ) from None
    try:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> Holder | None:
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:  # between locking and announcing the file may be empty
        with suppress(ValueError, KeyError, TypeError):
            known = json.loads(os.pread(descriptor, 1000, 0))
            return Holder(int(known["pid"]), bool(known["ready"]))
        time.sleep(0.02)
    return None


def stop_holder(data: Path, timeout: float) -> Holder | None:
    """Ask the supervisor to stop and wait until it has; returns it, or None if none ran.

    Raises `EmbeddedError` if it has not stopped after `timeout` seconds.
    """
    found = holder(data)
    if found is None:
        return None
    with suppress(ProcessLookupError):
        os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while (now := holder(data)) is not None and now.pid == found.pid:
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"Process {found.pid} has not stopped after {timeout:.0f} s: runs may still be "
                f"draining; wait and try again, or `kill -9 {found.pid}` (no accepted run is lost)"
            )
        time.sleep(0.1)
    return found
