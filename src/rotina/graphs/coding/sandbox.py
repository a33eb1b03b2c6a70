"""Runs generated code and its tests in a limited child process, and tells what became of them."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Outcome = Literal["passed", "failed", "error", "no_tests", "timeout", "memory", "output", "crashed"]
"""`passed`: every test did, and there was one. `failed`: a test failed. `error`: the code could
not be loaded. `no_tests`: nothing was tested. `timeout`: too long, by the clock or the processor.
`memory`: more than allowed. `output`: too much was printed. `crashed`: the process ended early."""

_CHILD = Path(__file__).with_name("child.py")
_REPORT_BYTES = 1_000_000
_BYTES_A_CHARACTER = 4
_GRACE = 5.0
"""Seconds for a killed process to be gone."""


class SandboxLimits(BaseModel):
    """What the code and its tests may use together."""

    model_config = ConfigDict(frozen=True)

    seconds: float = Field(default=10.0, gt=0)
    """By the clock."""
    cpu_seconds: int = Field(default=5, ge=1)
    memory_mb: int = Field(default=256, ge=16)
    """Address space beyond that of the empty interpreter; macOS does not enforce it."""
    file_mb: int = Field(default=8, ge=0)
    """The size of each file it writes."""
    open_files: int = Field(default=64, ge=16)
    output_characters: int = Field(default=20_000, ge=0)


class Case(BaseModel):
    """One test."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    error: str | None = None
    """The end of the traceback."""


class SandboxReport(BaseModel):
    """What became of the code."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    cases: list[Case] = Field(default_factory=list)
    output: str = ""
    """What the code printed, then what went wrong."""
    guards: list[str] = Field(default_factory=list)
    """What held the code back: network, user, cpu, memory, files, open_files, core, processes,
    hook. Empty when the process ended before it could tell."""

    @property
    def passed(self) -> bool:
        """Whether there were tests, and all of them passed."""
        return self.outcome == "passed"


async def run_tests(code: str, tests: str, limits: SandboxLimits | None = None) -> SandboxReport:
    """Run `code` as the module `solution` and `tests` (both Python source) against it.

    Tests are functions `test_*` without parameters, `unittest.TestCase` classes and assertions of
    the module; the names of `solution` are visible to them without an import. Whatever the code
    does is an outcome, never an exception. Its process, and all of that process's group, is gone
    when this returns or is cancelled.
    """
    limits = limits or SandboxLimits()
    seal = secrets.token_hex(16)
    request = {"code": code, "tests": tests, "seal": seal, "limits": limits.model_dump()}
    with (
        tempfile.TemporaryDirectory(prefix="rotina-code-", ignore_cleanup_errors=True) as box,
        tempfile.TemporaryFile() as stdin,
    ):
        stdin.write(json.dumps(request).encode())
        stdin.seek(0)
        printed, ended = await _run(box, stdin, seal.encode(), limits)
    return _read(printed, ended, seal, limits)


async def _run(
    box: str, stdin: IO[bytes], seal: bytes, limits: SandboxLimits
) -> tuple[bytes, int | str]:
    """What was printed, and the exit status, or "sealed", "timeout" or "output"."""
    async with _pipe() as (reader, inlet):
        try:
            process = await _start(box, stdin, inlet)
        finally:
            os.close(inlet)
        printed = bytearray()
        try:
            async with asyncio.timeout(limits.seconds):
                ended: int | str = await _collect(reader, printed, seal, limits)
                if ended == "closed":
                    ended = await process.wait()
        except TimeoutError:
            ended = "timeout"
        finally:
            _kill(process)
            # Shielded: a second cancellation must not leave a zombie.
            await asyncio.shield(asyncio.wait_for(process.wait(), _GRACE))
    return bytes(printed), ended


async def _start(box: str, stdin: IO[bytes], inlet: int) -> asyncio.subprocess.Process:
    environment = {"HOME": box, "TMPDIR": box, "LANG": "C.UTF-8", "PATH": os.defpath}
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):  # a Python with a shared library
        if name in os.environ:
            environment[name] = os.environ[name]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", "-B", "-X", "utf8", str(_CHILD), str(os.getpid())),
        stdin=stdin,
        stdout=inlet,
        stderr=inlet,
        cwd=box,
        env=environment,
        start_new_session=True,
    )


@contextlib.asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """A pipe of our own: what outlives its group could hold one of asyncio's open forever."""
    outlet, inlet = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(outlet, "rb", buffering=0)
    )
    try:
        yield reader, inlet
    finally:
        transport.close()


async def _collect(
    reader: asyncio.StreamReader, printed: bytearray, seal: bytes, limits: SandboxLimits
) -> str:
    """Read into `printed` until the report, the end ("closed") or the limit ("output")."""
    searched = 0
    while block := await reader.read(65536):
        printed += block
        at = printed.find(b"\n" + seal, searched)
        if at >= 0 and printed.find(b"\n", at + 1) >= 0:
            return "sealed"
        searched = at if at >= 0 else max(0, len(printed) - len(seal) - 1)
        allowed = limits.output_characters * _BYTES_A_CHARACTER if at < 0 else at + _REPORT_BYTES
        if len(printed) > allowed + len(seal) + 1:
            return "output"
    return "closed"


def _kill(process: asyncio.subprocess.Process) -> None:
    """The child leads a group of its own; after its report it waits for this."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: all are zombies
        os.killpg(process.pid, signal.SIGKILL)


def _read(printed: bytes, ended: int | str, seal: str, limits: SandboxLimits) -> SandboxReport:
    text = printed.decode("utf-8", "replace")
    shown, _, report = text.rpartition(f"\n{seal}") if ended == "sealed" else (text, "", "")
    output, most = shown.strip(), limits.output_characters
    if len(output) > most:
        ended = "output"
    if ended == "sealed":
        return _sealed(json.loads(report), output)
    if ended == "output":
        return _ended("output", output[:most], f"Stopped: it printed more than {most} characters.")
    if ended == "timeout":
        return _ended("timeout", output, f"Stopped: it took more than {limits.seconds:g} s.")
    if ended == -signal.SIGXCPU:
        return _ended("timeout", output, f"Stopped: {limits.cpu_seconds} s of processor time.")
    if "MemoryError" in output[-2000:]:
        return _ended("memory", output, f"Stopped: it needs more than {limits.memory_mb} MB.")
    return _ended("crashed", output, f"The process ended before its tests did ({_how(ended)}).")


def _sealed(report: dict[str, Any], output: str) -> SandboxReport:
    cases = [Case.model_validate(case) for case in report["cases"]]
    errors = [report["error"]] if report["error"] else [c.error for c in cases if c.error]
    text = "\n\n".join(part for part in (output, *errors) if part)
    outcome = _outcome(report["error"], cases, errors)
    return SandboxReport(outcome=outcome, cases=cases, output=text, guards=report["guards"])


def _outcome(broken: str | None, cases: list[Case], errors: list[str]) -> Outcome:
    if any(error.rpartition("\n")[2].startswith("MemoryError") for error in errors):
        return "memory"
    if broken:
        return "error"
    if not cases:
        return "no_tests"
    return "passed" if all(case.passed for case in cases) else "failed"


def _ended(outcome: Outcome, output: str, why: str) -> SandboxReport:
    return SandboxReport(outcome=outcome, output=f"{output}\n\n{why}".strip())


def _how(ended: int | str) -> str:
    if isinstance(ended, int) and ended < 0:
        return signal.Signals(-ended).name
    return f"exit status {ended}"
