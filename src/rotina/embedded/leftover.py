"""Servers that a killed supervisor left behind; two servers on one folder would destroy it."""

import signal
import time
from pathlib import Path

from rotina.embedded.wheels import missing_extra
from rotina.errors import AlreadyRunningError

_PATIENCE = 10.0  # seconds; the kernel or the guard has usually told it to stop already


def stop_leftover(pid_file: Path, folder: Path, ask: signal.Signals) -> None:
    """Wait for, then end, the server that `pid_file` names, if its working directory is `folder`.

    Only a process without a parent is ended: one that somebody still supervises raises
    `AlreadyRunningError`.
    """
    try:
        import psutil  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise missing_extra("psutil") from None

    try:
        process = psutil.Process(int(pid_file.read_text(encoding="ascii").split()[0]))
        if Path(process.cwd()) != folder.resolve():
            return  # the number was given to another process since
        if _ended(process, _PATIENCE):
            return
        if process.ppid() != 1:
            raise AlreadyRunningError(
                f"Process {process.pid} serves {folder}: stop it (`rotina down`) first"
            )
        process.send_signal(ask)
        if not _ended(process, _PATIENCE):
            process.kill()
            process.wait(_PATIENCE)
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        return  # no such server: the number is stale, or a process that is not ours


def _ended(process: object, patience: float) -> bool:
    import psutil  # noqa: PLC0415 - an optional dependency

    assert isinstance(process, psutil.Process)
    deadline = time.monotonic() + patience
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
