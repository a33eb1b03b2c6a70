"""The process that runs generated code: `python -I -S -B -u -X utf8 child.py PARENT_PID`.

It stands alone: it is started by its path, so that nothing of ours can be imported. In on stdin: a
JSON object (`code`, `tests`, `seal`, `limits`). Out on stdout: whatever the code prints, then a
line that begins with the seal and holds the report as JSON. Then it waits to be killed, together
with everything it may have started.

What holds the code back, in this order: an empty network namespace, another user, no privileges,
a Landlock ruleset, limits of the kernel, and an audit hook of the interpreter. Each is applied
where the system allows it; the report names those that were.

All this is against careless code. The hook, the seal and the report live in the interpreter that
the code runs in, and code that looks for them finds them; only what the kernel holds is held then.
"""

import ast
import asyncio
import contextlib
import ctypes
import functools
import hashlib
import inspect
import json
import linecache
import os
import resource
import signal
import struct
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
_SPARE_USERS = 1_900_000_000
"""User ids from here on belong to nobody (systemd.io/UIDS-GIDS); one a process, so that none
shares a limit."""
_PATH_CHARACTERS = 800
"""Longest path that is changed: who removes deeply nested folders may recurse."""
_MOST_CASES = 200
_MOST_CHARACTERS = 1500
_AF_UNIX = 1

Case = dict[str, Any]


def main() -> None:
    """Confine this process, run the tests, report, wait for the end."""
    request = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    reply = os.fdopen(os.dup(1), "wb")
    guards = confine(int(sys.argv[1]), request["limits"])
    # `import __main__` shall not find this file's names.
    sys.modules["__main__"] = types.ModuleType("__main__")
    report = run(request["code"], request["tests"]) | {"guards": guards}
    with contextlib.suppress(AttributeError, OSError, ValueError):  # replaced or closed by the code
        sys.stdout.flush()
    reply.write(f"\n{request['seal']}{json.dumps(report)}\n".encode())
    reply.flush()
    while True:
        signal.pause()


# ── confinement ───────────────────────────────────────────────────────────────────────────────


def confine(parent: int, limits: dict[str, int]) -> list[str]:
    """Give up what the code shall not have; the names of what could be given up."""
    guards = _leave()
    root = os.geteuid() == 0
    if sys.platform.startswith("linux"):
        guards += _confine_by_kernel(ctypes.CDLL(None))
    if os.getppid() != parent:  # it died before we could ask
        os._exit(1)
    # The kernel exempts root from the limit of processes.
    guards += [name for name in bound(limits) if not (root and name == "processes")]
    _forget_native()
    sys.addaudithook(Hook("."))
    return [*guards, "hook"]


def _leave() -> list[str]:
    """Leave the network, which needs root, and root itself."""
    linux = sys.platform.startswith("linux")
    libc = ctypes.CDLL(None)
    network = linux and os.geteuid() == 0 and libc.unshare(_CLONE_NEWNET) == 0
    user = _leave_user()
    if linux and not network and os.geteuid() != 0:
        network = libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0
    return ["network"] * network + ["user"] * user


def _confine_by_kernel(libc: ctypes.CDLL) -> list[str]:
    """No capabilities, no new privileges, no life after the parent, and Landlock."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)())
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Changing the user clears it, hence not earlier.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # OpenSSL reads its configuration at the first use, and fails where it may not.
    hashlib.sha256(b"")
    return ["landlock"] if _enter_landlock(libc) else []


def _forget_native() -> None:
    """Take away what is loaded already, and would be had without the event of an import."""
    for name in [name for name in sys.modules if name.partition(".")[0] in _NATIVE]:
        del sys.modules[name]
    for module in (subprocess, os, signal, sys.modules["posix"], sys.modules["_signal"]):
        for name in ("_fork_exec", "_posixsubprocess", "pidfd_open", "pidfd_send_signal"):
            vars(module).pop(name, None)


def _leave_user() -> bool:
    """From root to a user that owns nothing but the working folder."""
    if os.geteuid() != 0:
        return False
    spare = _SPARE_USERS + os.getpid()
    try:
        os.setgroups([])
        os.seteuid(spare)
        # May they read the standard library, and reach the folder by its path?
        with open(os.__file__, "rb"):  # noqa: PTH123
            os.stat(os.getcwd())  # noqa: PTH109, PTH116
        os.seteuid(0)
        os.chown(".", spare, spare)
        os.setgid(spare)
        os.setuid(spare)
    except OSError:
        with contextlib.suppress(OSError):
            os.seteuid(0)
        return False
    return True


# landlock(7): numbers of the system calls are the same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _DEVICE_CONTROL = 1 << 14, 1 << 15
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights to files each version knows."""
_BIND_AND_CONNECT_TCP, _ABSTRACT_SOCKETS_AND_SIGNALS = 0b11, 0b11
_LIBRARIES = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", "/gnu/store",
    "/usr/share/zoneinfo", "/etc/localtime", "/etc/ld.so.cache", "/dev/urandom", "/dev/random",
)  # fmt: skip
"""What shared libraries read. The hook allows less, but does not see what they do."""


def _enter_landlock(libc: ctypes.CDLL) -> bool:
    """Have the kernel refuse files elsewhere, programs, TCP, and signals to other processes."""

    def call(number: int, *arguments: Any) -> int:
        whole = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
        return int(libc.syscall(ctypes.c_long(number), *whole))

    version = call(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    if version < 1:
        return False
    rights = (1 << _RIGHTS[min(version, 5)]) - 1
    network = _BIND_AND_CONNECT_TCP if version >= 4 else 0  # noqa: PLR2004
    scope = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0  # noqa: PLR2004
    ruleset = call(_CREATE_RULESET, (ctypes.c_uint64 * 3)(rights, network, scope), 24, 0)
    if ruleset < 0:
        return False
    everything = rights & ~_EXECUTE & ~_DEVICE_CONTROL
    allowed = dict.fromkeys([*_library(), *_LIBRARIES], _READ_FILE | _READ_DIR)
    allowed |= {".": everything, os.devnull: _READ_FILE | _WRITE_FILE | _TRUNCATE}
    for path, wanted in allowed.items():
        with contextlib.suppress(OSError):  # it does not exist
            opened = os.open(path, os.O_PATH)
            at = wanted if os.path.isdir(path) else wanted & ~_READ_DIR  # noqa: PTH112
            rule = struct.pack("=Qi", at & rights, opened)
            call(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
            os.close(opened)
    entered = call(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return entered


def _library() -> list[str]:
    """Where Python's own files are."""
    folders = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    return [*folders, os.path.join(sys.base_prefix, "lib")]  # noqa: PTH118


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
        taken.append(name)
    return taken


def _mapped() -> int:
    """Bytes of address space in use; 0 where /proc does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


_NATIVE = frozenset(
    {"ctypes", "_ctypes", "_posixsubprocess", "_posixshmem", "_interpreters", "_xxsubinterpreters"}
)
"""Modules that reach the system, or an interpreter without hooks, below the hook's events."""
_FORBIDDEN = (
    "ctypes.", "os.exec", "os.fork", "os.forkpty", "os.kill", "os.killpg", "os.posix_spawn",
    "os.putenv", "os.spawn", "os.startfile", "os.system", "pty.spawn", "signal.pthread_kill",
    "socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostby",
    "socket.getnameinfo", "socket.sendmsg", "socket.sendto", "subprocess.Popen",
    "resource.prlimit", "resource.setrlimit", "sqlite3.enable_load_extension",
    "sqlite3.load_extension", "syslog.",
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
        devices = ("/dev/null", "/dev/urandom", "/dev/random")
        folders = (*map(self._real, _library()), "/usr/share/zoneinfo")
        self._readable = (self._box, *folders, *devices)
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
            name = self._decode(path)
            full = self._real(name)
            inside = any(full == root or full.startswith(root + "/") for root in roots)
            if roots is self._writable:
                inside = inside and len(full) <= _PATH_CHARACTERS
                inside = inside and not (event == "sqlite3.connect" and name.startswith("file:"))
            if not inside:
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
    # What the code itself calls a test proves nothing.
    own = [each for name, each in vars(module).items() if each is not visible.get(name)]
    for name, test in _functions(own):
        cases.append(_case(name, _error_of(test)))
    for suite in _suites(own):
        cases += _run_suite(suite)
    # Cut at the end, where none is that failed.
    cases.sort(key=lambda case: bool(case["passed"]))
    return {"error": None, "cases": cases[:_MOST_CASES]}


def _load(name: str, code: str, names: dict[str, Any]) -> tuple[types.ModuleType, str | None]:
    """A module made from source, and what went wrong when it ran."""
    module = types.ModuleType(name)
    file = f"{name}.py"
    vars(module).update(names, __file__=file)
    sys.modules[name] = module
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    error = _error_of(lambda: exec(compile(code, file, "exec"), vars(module)))  # noqa: S102
    return module, error


def _error_of(action: Callable[[], Any]) -> str | None:
    """Call it, whatever it raises: the end of the traceback. Awaits a coroutine."""
    try:
        _finish(action())
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are failures
        return _shown(error)
    return None


def _finish(result: Any) -> None:
    """Await a coroutine; refuse a generator, of which nothing has run."""
    if inspect.iscoroutine(result):
        asyncio.run(result)
    elif inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError("a test that yields does not run")


def _shown(error: BaseException) -> str:
    """Kind and traceback, without the frames of this file."""
    try:
        kept = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
        lines = traceback.format_list(kept) + traceback.format_exception_only(error)
    except Exception:  # noqa: BLE001 - an exception of the code's own making may not let us
        lines = [f"{type(error).__name__} (what it says cannot be shown)"]
    if isinstance(error, SystemExit):
        lines.append("The code ended the program (sys.exit).\n")
    return "".join(lines)[-_MOST_CHARACTERS:].strip()


def _functions(own: list[Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Functions `test_*`, and methods of that name in classes `Test*`."""
    for value in own:
        name = str(getattr(value, "__name__", ""))
        if inspect.isfunction(value) and name.startswith("test_"):
            yield name, value
        elif isinstance(value, type) and name.startswith("Test") and not _is_suite(value):
            for method in dir(value):
                if method.startswith("test_"):
                    yield f"{name}.{method}", functools.partial(_call_method, value, method)


def _call_method(kind: type, method: str) -> None:
    """Call a method of a new instance, between pytest's `setup_method` and `teardown_method`."""
    instance = kind()
    getattr(instance, "setup_method", _nothing)()
    try:
        _finish(getattr(instance, method)())
    finally:
        getattr(instance, "teardown_method", _nothing)()


def _nothing() -> None:
    pass


def _asserts(tests: str) -> bool:
    """Whether the module asserts something while it is loaded."""
    waiting: list[ast.AST] = [ast.parse(tests)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Assert):
            return True
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        # if __name__ == "__main__":
        never = isinstance(node, ast.If) and "__name__" in ast.dump(node.test)
        if not later and not never:
            waiting += ast.iter_child_nodes(node)
    return False


def _is_suite(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, unittest.TestCase)


def _suites(own: list[Any]) -> Iterator[unittest.TestSuite]:
    for value in own:
        if _is_suite(value) and value.__module__.partition(".")[0] != "unittest":
            yield unittest.defaultTestLoader.loadTestsFromTestCase(value)


def _run_suite(suite: unittest.TestSuite) -> list[Case]:
    """A case a test; one more for what goes wrong in `setUpClass`."""
    names = [test.id() for test in suite if isinstance(test, unittest.TestCase)]
    result = unittest.TestResult()
    problem = _error_of(lambda: suite.run(result))
    failed = {test.id(): text for test, text in [*result.errors, *result.failures]}
    failed |= {test.id(): "It was expected to fail." for test in result.unexpectedSuccesses}
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
