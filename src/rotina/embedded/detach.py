"""`rotina up --detach`: the supervisor in the background, and waiting until it is ready."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from rotina.embedded.lock import holder
from rotina.embedded.process import log_tail, open_log, rotate_log
from rotina.errors import AlreadyRunningError, EmbeddedError
from rotina.settings import Settings


def start_detached(settings: Settings, arguments: Sequence[str], say: Callable[[str], None]) -> int:
    """Run `rotina up` with `arguments` in a session of its own; returns its pid once it is ready.

    What it prints goes to `logs/supervisor.log` and, while we wait, to `say`. Raises
    `AlreadyRunningError`, or `EmbeddedError` with the end of that log when it ends instead.
    """
    data = settings.data_path
    running = holder(data)
    if running is not None:
        raise AlreadyRunningError(
            f"`rotina up` runs already on {data} (process {running.pid}): use it, or stop it "
            "with `rotina down`"
        )
    path = data / "logs" / "supervisor.log"
    rotate_log(path)
    with open_log(path) as log, path.open("rb") as reader:
        reader.seek(0, 2)
        process = subprocess.Popen(
            [sys.executable, "-m", "rotina", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=settings.project_dir,
            start_new_session=True,
        )
        _follow(process, data, reader, say)
    process.returncode = 0  # it lives on without us: Popen must not complain about that
    return process.pid


def _follow(
    process: subprocess.Popen[bytes], data: Path, reader: BinaryIO, say: Callable[[str], None]
) -> None:
    while True:
        ended = process.poll() is not None
        found = holder(data)
        for line in reader.read().decode("utf-8", "replace").splitlines():
            say(line)
        if ended:
            log = data / "logs" / "supervisor.log"
            raise EmbeddedError(f"`rotina up` ended while starting:\n{log_tail(log)}")
        if found is not None and found.ready and found.pid == process.pid:
            return
        time.sleep(0.1)
