"""Reading a document in a process of its own.

Parsers are where hostile bytes meet native code. In a child, a crash costs one document, memory and
time have an end, and the secrets in our environment are not there to be read.
"""

import asyncio
import json
import os
import signal
import sys
from typing import Any

from rotina import errors
from rotina.errors import CorruptDocumentError, DocumentError, DocumentTooLargeError
from rotina.knowledge.document import Document
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.loader import check_size

_CHILD = "rotina.knowledge.loading.child"
_ENVIRONMENT = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "PYTHONHOME", "PYTHONPATH",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
)  # fmt: skip
"""What Python needs to start; everything else, secrets first of all, stays with us."""
_SPARING = {"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"}
"""Threads that a child has no use for take address space, which is what is limited."""
_OUT_OF_RESOURCES = (signal.SIGKILL, signal.SIGXCPU, signal.SIGALRM)
"""Signals that the system sends for want of memory or time."""


async def load_in_child(
    content: bytes, *, name: str, media_type: str | None = None, limits: Limits | None = None
) -> Document:
    """`load` in a child process, under the limits on memory and wall time.

    The child is killed and reaped when time is up and when the awaiting task is cancelled; on Linux
    it dies with us as well. Works in any thread's event loop.

    Raises what `load` raises; `DocumentTooLargeError` also for memory and time, and
    `CorruptDocumentError` for a parser that crashed.
    """
    limits = limits or Limits()
    check_size(content, name=name, limits=limits)
    request = {"name": name, "media_type": media_type, "limits": limits.model_dump()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # the working directory's modules are not ours
        "-m",
        _CHILD,
        str(os.getpid()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_SPARING | {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ},
    )
    try:
        async with asyncio.timeout(limits.seconds):
            output, log = await process.communicate(json.dumps(request).encode() + b"\n" + content)
    except TimeoutError as error:
        raise DocumentTooLargeError(
            f"{name!r} took more than {limits.seconds:g} s to read: split it, or raise the "
            "setting parse_seconds"
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            # Shielded: a second cancellation must not leave a zombie.
            await asyncio.shield(_reap(process))
    if process.returncode != 0:
        raise _explain(process.returncode or 0, log, name=name)
    return _result(json.loads(output))


async def _reap(process: asyncio.subprocess.Process) -> None:
    """Wait for the end, and drain the pipes, or their transports stay open."""
    await process.communicate()


def _result(answer: dict[str, Any]) -> Document:
    if "document" in answer:
        return Document.model_validate(answer["document"])
    error: type[DocumentError] = getattr(errors, answer["error"])
    raise error(answer["message"])


def _explain(returncode: int, log: bytes, *, name: str) -> DocumentError:
    """The error for a child that gave no answer."""
    if -returncode in _OUT_OF_RESOURCES or b"MemoryError" in log:
        return DocumentTooLargeError(
            f"{name!r} needs more memory than allowed: split it, or raise the setting "
            "parse_memory_mb"
        )
    how = signal.Signals(-returncode).name if returncode < 0 else f"exit status {returncode}"
    last = log.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
    return CorruptDocumentError(
        f"The parser crashed over {name!r} ({how}{': ' if last else ''}{last}): save the document "
        "anew, or raise the setting parse_memory_mb if it is large"
    )
