"""The process that runs generated code: `python -I -S -B -X utf8 child.py PARENT_PID`.

It stands alone: it is started by its path, so that nothing of ours can be imported. In on stdin: a
JSON object (`code`, `tests`, `seal`, `limits`). Out on stdout: whatever the code prints, then a
line that begins with the seal and holds the report as JSON. Then it waits to be killed, together
with everything it may have started.

What holds the code back, in this order: an empty network namespace, another user, no new
privileges, limits of the kernel, and an audit hook of the interpreter. Each is applied where the
system allows it; the report names those that were.
"""

import ast
import asyncio
import contextlib
import ctypes
import inspect
import json
import linecache
import os
import resource
import signal
import subprocess
import sys
import sysconfig
import traceback
import types
import unittest
from collections.abc import Callable, Iterator
from typing import Any

_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CAPABILITY_VERSION = 0x20080522
_MEBIBYTE = 1024 * 1024
_SPARE_USERS = 2_000_000
"""User ids from here on belong to nobody; one a process, so that none shares a limit."""
_MOST_CASES = 200
_MOST_CHARACTERS = 1500
_AF_UNIX = 1

Case = dict[str, Any]


def main() -> None:
    """Confine this process, run the tests, report, wait for the end."""
    request = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    reply = os.dup(1)
    guards = confine(int(sys.argv[1]), request["limits"])
    report = run(request["code"], request["tests"]) | {"guards": guards}
    with contextlib.suppress(OSError, ValueError):  # the code may have closed it
        sys.stdout.flush()
    os.write(reply, f"\n{request['seal']}{json.dumps(report)}\n".encode())
    while True:
        signal.pause()


# ── confinement ───────────────────────────────────────────────────────────────────────────────


def confine(parent: int, limits: dict[str, int]) -> list[str]:
    """Give up what the code shall not have; the names of what could be given up."""
    linux = sys.platform.startswith("linux")
    guards = ["network"] if linux and _leave_network() else []
    guards += ["user"] if _leave_user() else []
    if linux:
        libc = ctypes.CDLL(None)
        if os.geteuid() == 0:
            _drop_capabilities(libc)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # Changing the user clears it, hence not earlier.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we could ask
        os._exit(1)
    guards += bound(limits)
    # What is loaded already would be had without the event of an import.
    for name in [name for name in sys.modules if name.partition(".")[0] in _NATIVE]:
        del sys.modules[name]
    for name in ("_fork_exec", "_posixsubprocess"):
        vars(subprocess).pop(name, None)
    sys.addaudithook(Hook("."))
    return [*guards, "hook"]


def _leave_network() -> bool:
    """Enter a network namespace without interfaces."""
    libc = ctypes.CDLL(None)
    if os.geteuid() == 0 and libc.unshare(_CLONE_NEWNET) == 0:
        return True
    return bool(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)


def _leave_user() -> bool:
    """From root to a user that owns nothing but the working folder."""
    if os.geteuid() != 0:
        return False
    spare = _SPARE_USERS + os.getpid()
    try:
        os.setgroups([])
        os.seteuid(spare)
        with open(os.__file__, "rb"):  # noqa: PTH123 - may they read the standard library?
            pass
        os.seteuid(0)
        os.chown(".", spare, spare)
        os.setgid(spare)
        os.setuid(spare)
    except OSError:
        with contextlib.suppress(OSError):
            os.seteuid(0)
        return False
    return True


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Root that has to stay root can then at least not raise its own limits."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)())


def bound(limits: dict[str, int]) -> list[str]:
    """Set the kernel's limits; the names of those it took."""
    wanted = {
        "cpu": (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        "memory": (resource.RLIMIT_AS, _mapped() + limits["memory_mb"] * _MEBIBYTE),
        "files": (resource.RLIMIT_FSIZE, limits["file_mb"] * _MEBIBYTE),
        "open_files": (resource.RLIMIT_NOFILE, limits["open_files"]),
        "core": (resource.RLIMIT_CORE, 0),
        "processes": (resource.RLIMIT_NPROC, 0),
    }
    taken = []
    for name, (kind, value) in wanted.items():
        _, hard = resource.getrlimit(kind)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # One second between SIGXCPU and SIGKILL: the first one can be ignored.
        top = most + 1 if name == "cpu" and most != hard else most
        try:
            resource.setrlimit(kind, (most, top))
        except (ValueError, OSError):  # macOS refuses RLIMIT_AS
            continue
        if name != "processes" or os.geteuid() != 0:  # the kernel exempts root
            taken.append(name)
    return taken


def _mapped() -> int:
    """Bytes of address space in use; 0 where /proc does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


_NATIVE = frozenset({"ctypes", "_ctypes", "_posixsubprocess"})
"""Modules that reach the system below the events of the audit hook."""
_FORBIDDEN = (
    "ctypes.", "os.exec", "os.fork", "os.forkpty", "os.kill", "os.killpg", "os.posix_spawn",
    "os.putenv", "os.spawn", "os.startfile", "os.system", "pty.spawn", "signal.pthread_kill",
    "socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostby",
    "socket.getnameinfo", "socket.sendmsg", "socket.sendto", "subprocess.Popen",
)  # fmt: skip
_CHANGES = {
    "os.chmod": 1, "os.chown": 1, "os.link": 2, "os.mkdir": 1, "os.remove": 1,
    "os.removexattr": 1, "os.rename": 2, "os.rmdir": 1, "os.setxattr": 1, "os.symlink": 2,
    "os.truncate": 1, "os.utime": 1, "sqlite3.connect": 1,
}  # fmt: skip
"""Events that change files, and how many of their arguments are paths."""
_LOOKS = ("os.listdir", "os.scandir", "os.chdir")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Hook:
    """An audit hook (PEP 578) that keeps the code in its folder, alone and off the network."""

    def __init__(self, box: str) -> None:
        # Kept here, so that replacing a function of a module does not replace ours.
        self._real, self._decode = os.path.realpath, os.fsdecode
        self._box = self._real(box)
        library = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
        library.append(os.path.join(sys.base_prefix, "lib"))  # noqa: PTH118
        devices = ("/dev/null", "/dev/urandom", "/dev/random")
        self._readable = (self._box, *map(self._real, library), "/usr/share/zoneinfo", *devices)
        self._writable = (self._box, "/dev/null")

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Raises `PermissionError` for what is not allowed; `ImportError` for a module."""
        if event == "import" and arguments[0] in _NATIVE:
            raise ImportError(f"{arguments[0]} is not available here")
        if event == "open":
            self._open(arguments[0], arguments[2])
        elif event in _CHANGES:
            self._inside(event, arguments[: _CHANGES[event]], self._writable)
        elif event in _LOOKS:
            self._inside(event, arguments[:1], self._readable)
        elif event == "socket.__new__":
            # asyncio wakes itself through a pair of AF_UNIX sockets.
            if arguments[1] not in (_AF_UNIX, -1):
                self._refuse("a network socket", arguments[1])
        elif event.startswith(_FORBIDDEN):
            self._refuse(event, arguments[:1])

    def _open(self, path: Any, flags: Any) -> None:
        changing = isinstance(flags, int) and flags & _WRITES
        self._inside("open", (path,), self._writable if changing else self._readable)

    def _inside(self, event: str, paths: tuple[Any, ...], roots: tuple[str, ...]) -> None:
        for path in paths:
            if path is None or path == ":memory:" or isinstance(path, int):
                continue
            full = self._real(self._decode(path))
            if not any(full == root or full.startswith(root + "/") for root in roots):
                self._refuse(event, path)

    @staticmethod
    def _refuse(event: str, what: Any) -> None:
        raise PermissionError(f"{event} is not allowed here: {str(what)[:200]}")


# ── running ───────────────────────────────────────────────────────────────────────────────────


def run(code: str, tests: str) -> dict[str, Any]:
    """Run `code` as the module `solution`, then the tests that can see all its names."""
    solution, error = _load("solution", code, {})
    if error:
        return {"error": error, "cases": []}
    visible = {name: value for name, value in vars(solution).items() if not name.startswith("__")}
    module, error = _load("tests", tests, visible)
    cases: list[Case] = [] if error is None else [_case("tests", error)]
    if error is None and _asserts(tests):
        cases.append(_case("assertions of the module", None))
    for name, function in _functions(module):
        cases.append(_case(name, _error_of(function)))
    for suite in _suites(module):
        cases += _run_suite(suite)
    return {"error": None, "cases": cases[:_MOST_CASES]}


def _load(name: str, code: str, names: dict[str, Any]) -> tuple[types.ModuleType, str | None]:
    """A module made from source, and what went wrong when it ran."""
    module = types.ModuleType(name)
    vars(module).update(names)
    sys.modules[name] = module
    file = f"{name}.py"
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    error = _error_of(lambda: exec(compile(code, file, "exec"), vars(module)))  # noqa: S102
    return module, error


def _error_of(action: Callable[[], Any]) -> str | None:
    """Call it, whatever it raises: the end of the traceback. Awaits a coroutine."""
    try:
        result = action()
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are failures
        return _shown(error)
    return None


def _shown(error: BaseException) -> str:
    """Kind and traceback, without the frames of this file."""
    kept = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    lines = traceback.format_list(kept) + traceback.format_exception_only(error)
    if isinstance(error, SystemExit):
        lines.append("The code ended the program (sys.exit).\n")
    return "".join(lines)[-_MOST_CHARACTERS:].strip()


def _functions(module: types.ModuleType) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, value in list(vars(module).items()):
        if name.startswith("test_") and inspect.isfunction(value):
            yield name, value


def _asserts(tests: str) -> bool:
    """Whether the module asserts something while it is loaded."""
    waiting: list[ast.AST] = [ast.parse(tests)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Assert):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
    return False


def _suites(module: types.ModuleType) -> Iterator[unittest.TestSuite]:
    for value in list(vars(module).values()):
        if isinstance(value, type) and issubclass(value, unittest.TestCase):
            yield unittest.defaultTestLoader.loadTestsFromTestCase(value)


def _run_suite(suite: unittest.TestSuite) -> list[Case]:
    """A case a test; one more for what goes wrong in `setUpClass`."""
    names = [test.id() for test in suite if isinstance(test, unittest.TestCase)]
    result = unittest.TestResult()
    problem = _error_of(lambda: suite.run(result))
    failed = {test.id(): text for test, text in [*result.errors, *result.failures]}
    if problem:
        failed["unittest"] = problem
    skipped = {test.id() for test, _ in result.skipped}
    aborted = result.testsRun < len(names) - len(skipped)
    passed = [] if aborted else [name for name in names if name not in {*failed, *skipped}]
    return [_case(name, None) for name in passed] + [
        _case(name, text[-_MOST_CHARACTERS:].strip()) for name, text in failed.items()
    ]


def _case(name: str, error: str | None) -> Case:
    return {"name": name[:200], "passed": error is None, "error": error}


if __name__ == "__main__":
    main()
