"""A model server and a load generator in C, on loopback: neither is the bottleneck."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rotina.embedded import postgres

_SOURCES = Path(__file__).parent


def build(name: str) -> Path:
    """The compiled program. Raises `SystemExit` where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("This benchmark needs a C compiler: install gcc or clang")
    binary = (
        Path(tempfile.gettempdir()) / f"rotina-{name}-{(_SOURCES / f'{name}.c').stat().st_mtime_ns}"
    )
    if not binary.exists():
        command = [compiler, "-O2", "-o", f"{binary}.new", str(_SOURCES / f"{name}.c")]
        subprocess.run(command, check=True)
        Path(f"{binary}.new").rename(binary)
    return binary


@contextlib.contextmanager
def upstream(delay_ms: float = 0) -> Iterator[int]:
    """A running model server that answers after so long; its port."""
    command = [str(build("upstream")), str(delay_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


@contextlib.contextmanager
def database() -> Iterator[tuple[str, Path]]:
    """A running PostgreSQL with Rotina's tables, and a folder for whatever else is needed."""
    with tempfile.TemporaryDirectory(prefix="rotina-bench-") as folder:
        service = postgres.start(Path(folder) / "postgres")
        try:
            subprocess.run(
                [sys.executable, "-m", "rotina", "migrate"],
                env={**os.environ, "DATABASE_URL": service.url, "REDIS_URL": ""},
                check=True,
                stdout=subprocess.DEVNULL,
            )
            yield service.url, Path(folder)
        finally:
            service.stop()


def load(port: int, request: bytes, connections: int, requests: int) -> dict[str, Any]:
    """Ask a server so often, with so many requests under way; requests a second, percentiles in
    milliseconds, and errors."""
    command = [str(build("load")), str(port), str(connections), str(requests)]
    done = subprocess.run(command, input=request, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace")[:500])
    found: dict[str, Any] = json.loads(done.stdout)
    if done.stderr:
        found["first_error"] = done.stderr.decode(errors="replace")[:300]
    return found
