"""The process that reads one document: `python -m rotina.knowledge.loading.child PARENT_PID`.

In on stdin: a line of JSON (`name`, `media_type`, `limits`), then the file's bytes. Out on stdout:
`{"document": …}` or `{"error": class name, "message": …}`, as ASCII JSON.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from rotina.errors import DocumentError
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.loader import load
from rotina.knowledge.loading.ocr import MODELS_MB, may_read

_PR_SET_PDEATHSIG = 1
_MEBIBYTE = 1024 * 1024
_GRACE = 5.0
"""Seconds after which the child ends by itself, should nobody be there to end it."""


def main() -> None:
    """Read, parse, answer."""
    end_with_parent(int(sys.argv[1]))
    request = json.loads(sys.stdin.buffer.readline())
    limits = Limits.model_validate(request["limits"])
    signal.setitimer(signal.ITIMER_REAL, limits.seconds + _GRACE)  # SIGALRM's default is to end us
    content = sys.stdin.buffer.read()
    bound_memory(limits.memory_mb + (MODELS_MB if may_read(content) else 0))
    json.dump(answer(content, request, limits), sys.stdout)


def answer(content: bytes, request: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """What `load` returned or raised, ready for JSON."""
    try:
        document = load(
            content, name=request["name"], media_type=request["media_type"], limits=limits
        )
    except DocumentError as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"document": document.model_dump()}


def end_with_parent(parent: int) -> None:
    """Have the kernel kill us when the parent dies (Linux; elsewhere the timer must do)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we could ask
        os._exit(1)


def bound_memory(mebibytes: int) -> None:
    """Allow that much address space beyond what is mapped now."""
    limit = _mapped() + mebibytes * _MEBIBYTE
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    with suppress(ValueError, OSError):  # macOS has the limit and refuses to set it
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _mapped() -> int:
    """Bytes of address space in use; 0 where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
