"""How many processors and how much memory this process may use, containers included."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def processors() -> int:
    """Whole processors we may use: affinity and the container's quota, at least one."""
    known = hasattr(os, "sched_getaffinity")  # absent on macOS
    count = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        count = min(count, int(quota) // int(period))
    return max(1, count)


def available_memory() -> int:
    """Bytes that can be allocated without swapping or being killed for it."""
    import psutil  # noqa: PLC0415 - an optional dependency

    available = int(psutil.virtual_memory().available)
    limit, used = _read(_CGROUP / "memory.max"), _read(_CGROUP / "memory.current")
    if limit.isdigit() and used.isdigit():
        available = min(available, int(limit) - int(used))
    return available


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
