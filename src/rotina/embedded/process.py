"""Child processes that never outlive us: what to start, how to stop it, where it logs."""

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rotina.embedded.account import Account
from rotina.errors import EmbeddedError

_PR_SET_PDEATHSIG = 1
_LOG_BYTES = 10_000_000
_KEEP_LOGS = 3


@dataclass(frozen=True)
class Program:
    """What to start."""

    name: str
    command: Sequence[str | Path]
    log: Path
    cwd: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Added to ours; may hold secrets, hence not in the repr."""
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    """Asks for an orderly end."""
    orphan_signal: signal.Signals = signal.SIGKILL
    """Sent by the kernel (Linux) when our process dies without stopping it."""


def spawn(program: Program) -> subprocess.Popen[bytes]:
    """Start `program` in its own session, its output appended to its log.

    Must be called from the main thread: Linux ties the signal that ends an orphan to the *thread*
    that forked. Raises `EmbeddedError` if the program cannot be executed.
    """
    if threading.current_thread() is not threading.main_thread():
        raise EmbeddedError(f"{program.name} must be started from the main thread")
    rotate_log(program.log)
    demote: dict[str, Any] = {}
    if program.account is not None:
        demote = {"user": program.account.uid, "group": program.account.gid, "extra_groups": []}
    with open_log(program.log) as log:
        try:
            return subprocess.Popen(
                [str(part) for part in program.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=program.cwd,
                env={**os.environ, **program.environment},
                start_new_session=True,
                preexec_fn=die_with_parent(program.orphan_signal),  # noqa: PLW1509 - system calls only
                **demote,
            )
        except OSError as error:
            raise EmbeddedError(
                f"{program.name} cannot be started ({error.strerror}: {program.command[0]}): "
                "reinstall with `pip install 'rotina[embedded]'`"
            ) from error


def die_with_parent(death: signal.Signals) -> Callable[[], None] | None:
    """For `preexec_fn`: the kernel sends `death` to the child when we die (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None  # there the guard process (guard.py) is the only net
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: no import in the child
    parent = os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, int(death), 0, 0, 0)
        if os.getppid() != parent:  # the parent died between fork and prctl
            os._exit(1)

    return arrange


def open_log(path: Path) -> Any:
    """Open a log for appending, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")


def rotate_log(path: Path, limit: int = _LOG_BYTES) -> None:
    """Copy a log of more than `limit` bytes to `.1` (`.1` to `.2`, …) and empty it.

    The writer keeps its open file, which it appends to, so this works while it runs.
    """
    if not path.exists() or path.stat().st_size <= limit:
        return
    for number in range(_KEEP_LOGS, 1, -1):
        newer = path.with_name(f"{path.name}.{number - 1}")
        if newer.exists():
            newer.replace(path.with_name(f"{path.name}.{number}"))
    shutil.copy2(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)


def log_tail(path: Path, size: int = 2000) -> str:
    """The last `size` bytes of a log as text; empty when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - size))
            return log.read().decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return ""


def free_port(preferred: int | None = None) -> int:
    """`preferred` if nothing on 127.0.0.1 listens there, otherwise a port that is free now."""
    for port in (preferred, 0):
        if port is None:
            continue
        with socket.socket() as probe:
            # As the servers do: a port in TIME_WAIT from our own last run counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise EmbeddedError("No free port on 127.0.0.1: stop what uses them, then try again")


def stop(
    process: subprocess.Popen[bytes], ask: signal.Signals | None, timeout: float = 30.0
) -> None:
    """Ask `process` to end (None: it was asked before); kill its group after `timeout` seconds."""
    if process.poll() is None:
        if ask is not None:
            process.send_signal(ask)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], program: Program, timeout: float
) -> None:
    """Poll `ready` until it is true.

    Raises `EmbeddedError` with the end of the log when the process ends first, or is not ready
    after `timeout` seconds; the process is stopped then.
    """
    deadline = time.monotonic() + timeout
    while not ready():
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            what = "ended while starting" if ended else f"is not ready after {timeout:.0f} s"
            stop(process, program.stop_signal, 5.0)
            raise EmbeddedError(
                f"{program.name} {what}. The end of {program.log}:\n{log_tail(program.log)}"
            )
        time.sleep(0.02)


def secret_file(path: Path) -> str:
    """The random secret kept in `path` (mode 0600), made on first use; 43 URL-safe characters."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        secret = secrets.token_urlsafe(32)
        write_private(path, secret + "\n")
        return secret


def write_private(path: Path, text: str) -> None:
    """Write `text` atomically to a file only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@dataclass
class Service:
    """A running server; also a context manager that stops it."""

    program: Program
    process: subprocess.Popen[bytes] = field(repr=False)
    url: str = field(repr=False)
    """With its password."""
    port: int
    on_stop: Callable[[], None] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self.process.pid

    def stop(self, timeout: float = 30.0) -> None:
        """Stop the server and wait for its end; harmless when it has ended."""
        stop(self.process, self.program.stop_signal, timeout)
        if self.on_stop is not None:
            self.on_stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
