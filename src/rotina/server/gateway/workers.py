"""The supervisor of `rotina gateway serve --workers N`: it starts, watches and stops workers.

Workers share one listening socket, which the supervisor holds: connections that wait to be accepted
survive the death of a worker. It imports nothing of the gateway, so it stays small.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rotina.errors import SettingsError

log = logging.getLogger(__name__)

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
STOP_SECONDS = 40.0
"""A worker that has not ended by then is killed; its own requests have 30 s."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds until a worker that died is started again: longer while they die at once."""
LIVED = 10.0
"""Seconds after which a death is a new matter."""


async def supervise(listener: socket.socket, workers: int) -> None:
    """Keep so many workers running until SIGINT or SIGTERM.

    Raises `SettingsError` when the first ones cannot start at all; their log says why.
    """
    with _shared_folder() as folder:
        slots = [_Slot(listener, folder) for _ in range(workers)]
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        keeping = [asyncio.create_task(slot.keep()) for slot in slots]
        stop = asyncio.create_task(stopping.wait())
        host, port = listener.getsockname()[:2]
        telling = asyncio.create_task(_tell(slots, f"http://{host}:{port}", workers))
        try:
            done, _ = await asyncio.wait({stop, *keeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stop, telling, *keeping):
                task.cancel()
            await asyncio.gather(stop, telling, *keeping, return_exceptions=True)
            await asyncio.gather(*(slot.stop() for slot in slots))
        for task in done - {stop}:
            task.result()


async def _tell(slots: "list[_Slot]", url: str, workers: int) -> None:
    await asyncio.gather(*(slot.ready.wait() for slot in slots))
    log.info("the gateway serves at %s with %d workers", url, workers)


class _Slot:
    """The place of one worker; those that die are replaced."""

    def __init__(self, listener: socket.socket, folder: Path) -> None:
        self.ready = asyncio.Event()
        self._listener = listener
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def keep(self) -> None:
        """Start a worker, and another one whenever it has died."""
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            status = await self._run()
            if not self.ready.is_set():
                raise SettingsError(
                    f"A gateway worker could not start (status {status}): its last line above "
                    "says why"
                )
            pause = FIRST_PAUSE if time.monotonic() - began > LIVED else pause
            log.warning("a worker ended with status %d; another starts in %.1f s", status, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _run(self) -> int:
        """One worker's life; returns its exit status."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                ends = (self._listener.fileno(), theirs.fileno())
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "rotina.server.gateway.serving", *map(str, ends)),
                    pass_fds=ends,
                    stdin=asyncio.subprocess.DEVNULL,
                    env={**os.environ, SHARED_FOLDER: str(self._folder)},
                    # Ctrl-C is for the supervisor, which tells the workers.
                    start_new_session=True,
                )
            ours.settimeout(0)
            hearing = asyncio.create_task(self._hear(ours))
            try:
                return await self._process.wait()
            finally:
                hearing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await hearing
                if self._process.returncode is not None:
                    self._forget(self._process.pid)

    async def _hear(self, ours: socket.socket) -> None:
        if await asyncio.get_running_loop().sock_recv(ours, 1):
            self.ready.set()

    def _forget(self, pid: int) -> None:
        """Take a dead worker's gauges away; what it counted stays."""
        for path in self._folder.glob(f"gauge_live*_{pid}.db"):
            path.unlink(missing_ok=True)

    async def stop(self) -> None:
        """SIGTERM: the worker finishes what is under way."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            log.warning("worker %d did not end in %g s: killed", process.pid, STOP_SECONDS)
            process.kill()
            await process.wait()


@contextlib.contextmanager
def _shared_folder() -> Iterator[Path]:
    """Where the workers keep their figures for `/metrics`, in memory where that is possible."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of our own in it
    place = memory if os.access(memory, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="rotina-gateway-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
