"""Servers of one test's own, which it may end as badly as it likes and start again."""

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from rotina.embedded import postgres, valkey
from rotina.embedded.process import Program, free_port, spawn, stop, wait_until

DISK_BYTES = 400_000_000


@dataclass
class Server:
    """A server that always comes back on the same port with the same files."""

    program: Program
    url: str
    answers: Callable[[str], bool]
    process: subprocess.Popen[bytes]
    files: Path | None = None
    """Where a PostgreSQL keeps its tables and its log."""

    def crash(self, how: signal.Signals) -> None:
        """End it at once; nothing is tidied up."""
        self.process.send_signal(how)
        self.process.wait(60)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = spawn(self.program)
        wait_until(lambda: self.answers(self.url), self.process, self.program, 60)


@contextmanager
def own_valkey(folder: Path) -> Iterator[Server]:
    """A Valkey with an append-only file, as Rotina starts it."""
    prepared = valkey.prepare(folder, port=free_port())
    with _running(prepared.program, prepared.url, valkey.answers) as server:
        yield server


@contextmanager
def own_postgres(folder: Path, *, small: bool = False) -> Iterator[Server]:
    """A PostgreSQL that writes its log before it says yes; `small`: on a disk that is soon full.

    Only the flush to the disk is left out: it matters when the machine dies, not the server.
    """
    prepared = postgres.prepare(folder, port=free_port(), options=("fsync=off",), sync=False)
    try:
        with contextlib.ExitStack() as stack:
            if small:
                stack.enter_context(_small_disk(prepared.folder))
            running = _running(prepared.program, prepared.url, postgres.answers)
            server = stack.enter_context(running)
            server.files = prepared.folder
            yield server
    finally:
        shutil.rmtree(prepared.folder)
        if prepared.folder.parent != folder.absolute():
            shutil.rmtree(prepared.folder.parent)


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """Put a folder's files on a file system of their own. Skips who may not mount one."""
    held = folder.with_name(folder.name + "-held")
    subprocess.run(["cp", "-a", folder, held], check=True)
    size = f"size={DISK_BYTES}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True, check=False
    )
    try:
        if mounted.returncode != 0:
            pytest.skip(f"a small disk needs root: {mounted.stderr.decode().strip()}")
        subprocess.run(["cp", "-a", f"{held}/.", folder], check=True)
        yield
        subprocess.run(["umount", "--lazy", folder], check=True)
    finally:
        shutil.rmtree(held)


@contextmanager
def _running(program: Program, url: str, answers: Callable[[str], bool]) -> Iterator[Server]:
    server = Server(program, url, answers, spawn(program))
    try:
        wait_until(lambda: answers(url), server.process, program, 60)
        yield server
    finally:
        stop(server.process, program.stop_signal)
