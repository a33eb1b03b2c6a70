"""Runs generated code and its tests in a limited child process, and tells what became of them."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rotina.database.text import storable

Outcome = Literal["passed", "failed", "error", "no_tests", "timeout", "memory", "output", "crashed"]
"""`passed`: every test did, and there was one. `failed`: a test failed. `error`: the code could
not be loaded. `no_tests`: nothing was tested. `timeout`: too long, by the clock or the processor.
`memory`: more than allowed. `output`: too much was printed. `crashed`: the process ended early, or
without a report that can be read."""

_CHILD = Path(__file__).with_name("child.py")
_REPORT_BYTES = 4_000_000
_BYTES_A_CHARACTER = 4
_ERROR_CHARACTERS = 20_000
"""Of all errors together."""
_GRACE = 30.0
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
    """What held the code back: network, user, landlock, cpu, memory, files, open_files, core,
    processes, hook. Empty when the process ended before it could tell."""

    @property
    def passed(self) -> bool:
        """Whether there were tests, and all of them passed."""
        return self.outcome == "passed"


async def run_tests(code: str, tests: str, limits: SandboxLimits | None = None) -> SandboxReport:
    """Run `code` as the module `solution` and `tests` (both Python source) against it.

    Tests are functions `test_*` without parameters, such methods of classes `Test*`,
    `unittest.TestCase` classes and assertions of the module; the names of `solution` are visible to
    them without an import. Whatever the code does is an outcome, never an exception. Its process,
    all of that process's group, and its folder are gone when this returns or is cancelled.

    This holds back careless code, not an attacker: code that inspects its own interpreter can
    report tests as passed and get around the hook, and then only the kernel's `guards` hold it.
    """
    limits = limits or SandboxLimits()
    seal = secrets.token_hex(16)
    request = {"code": code, "tests": tests, "seal": seal, "limits": limits.model_dump()}
    with tempfile.TemporaryFile() as stdin:
        stdin.write(json.dumps(request).encode())
        stdin.seek(0)
        async with _folder() as box:
            printed, ended = await _run(box, stdin, seal.encode(), limits)
    return _read(printed, ended, seal, limits)


@contextlib.asynccontextmanager
async def _folder() -> AsyncIterator[str]:
    """A new folder, removed in a thread, since the code may have filled it."""
    box = tempfile.mkdtemp(prefix="rotina-code-")
    try:
        yield box
    finally:
        await asyncio.shield(asyncio.to_thread(_remove, box))


def _remove(box: str) -> None:
    """Remove a folder that the code may have locked, or parts of it."""
    with contextlib.suppress(OSError, RecursionError):
        Path(box).chmod(0o700)
        for folder, names, _ in os.walk(box):
            for path in (Path(folder, name) for name in names):
                if not path.is_symlink():
                    path.chmod(0o700)
        shutil.rmtree(box, ignore_errors=True)


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
        *("-I", "-S", "-B", "-u", "-X", "utf8", str(_CHILD), str(os.getpid())),
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
    text = storable(printed.decode("utf-8", "replace"))
    shown, _, report = text.rpartition(f"\n{seal}") if ended == "sealed" else (text, "", "")
    output, most = shown.strip(), limits.output_characters
    if len(output) > most:
        ended = "output"
    if ended == "sealed":
        return _sealed(report, output)
    if ended == "output":
        return _ended("output", output[:most], f"Stopped: it printed more than {most} characters.")
    if ended == "timeout":
        return _ended("timeout", output, f"Stopped: it took more than {limits.seconds:g} s.")
    if ended == -signal.SIGXCPU:
        return _ended("timeout", output, f"Stopped: {limits.cpu_seconds} s of processor time.")
    if "MemoryError" in output[-2000:]:
        return _ended("memory", output, f"Stopped: it needs more than {limits.memory_mb} MB.")
    return _ended("crashed", output, f"The process ended before its tests did ({_how(ended)}).")


def _sealed(line: str, output: str) -> SandboxReport:
    """What the report says; the code may have written one of its own, or into ours."""
    try:
        report = json.loads(line)
        cases = [Case.model_validate(_clean(case)) for case in report["cases"]]
        broken, guards = _clean(report["error"]), _clean(report["guards"])
        errors = [broken] if broken else [case.error for case in cases if case.error]
        shown = "\n\n".join(errors)[:_ERROR_CHARACTERS]
        return SandboxReport(
            outcome=_outcome(broken, cases, errors),
            cases=cases,
            output="\n\n".join(part for part in (output, shown) if part),
            guards=guards,
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return _ended("crashed", output, "The process left no report that can be read.")


def _clean(value: Any) -> Any:
    """JSON with strings that can be stored."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_clean(each) for each in value]
    if isinstance(value, dict):
        return {key: _clean(each) for key, each in value.items()}
    return value


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
        with contextlib.suppress(ValueError):  # not all signals have names
            return signal.Signals(-ended).name
        return f"signal {-ended}"
    return f"exit status {ended}"
