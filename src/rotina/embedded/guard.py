"""Ends what the supervisor started, should the supervisor be killed.

Runs as a process of its own, by its path and on the standard library alone, and reads from a pipe
that only the supervisor holds open. Lines are `+ PID SIGNAL` and `- PID`. The pipe's end means that
the supervisor is gone: each process still named is sent its signal, and whatever remains of its
process group ten seconds later is killed. The files named as arguments are removed first, so that
nobody looks for servers that are gone. On Linux the kernel signals the children as well
(PR_SET_PDEATHSIG), but neither their children nor anything on macOS.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

_PATIENCE = 10.0  # seconds


def read(lines: Iterable[str]) -> dict[int, int]:
    """Follow the pipe to its end; returns the signal of each process that is left."""
    left: dict[int, int] = {}
    for line in lines:
        action, pid, *rest = line.split()
        if action == "+":
            left[int(pid)] = int(rest[0])
        else:
            left.pop(int(pid), None)
    return left


def end(left: dict[int, int]) -> None:
    """Ask, wait, kill."""
    for pid, ask in left.items():
        _signal(os.kill, pid, ask)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and any(_signal(os.killpg, pid, 0) for pid in left):
        time.sleep(0.1)
    for pid in left:
        _signal(os.killpg, pid, signal.SIGKILL)


def _signal(send: Callable[[int, int], None], target: int, number: int) -> bool:
    """Whether there was somebody to send it to."""
    with suppress(ProcessLookupError, PermissionError):
        send(target, number)
        return True
    return False


def main() -> None:
    """Ctrl-C and the like are for the supervisor: it tells us when all is done."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    left = read(sys.stdin)
    for path in sys.argv[1:]:
        with suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - pathlib would triple what this process weighs
    end(left)


if __name__ == "__main__":
    main()
