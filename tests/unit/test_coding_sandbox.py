"""Generated code in its limited process: whatever it does is an outcome, and nothing is left."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from rotina.graphs.coding import SandboxLimits, SandboxReport, run_tests

ENOUGH = SandboxLimits(seconds=30.0, cpu_seconds=10, memory_mb=64)
"""For what ends by itself, however busy the machine is."""
LITTLE = SandboxLimits(seconds=1.0, cpu_seconds=1, memory_mb=64)
"""For what would go on forever."""
ONE = "def test_one():\n    assert double(2) == 4\n"
DOUBLE = "def double(x):\n    return 2 * x\n"
CALL = "def test_one():\n    run()\n"

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")


async def run(body: str, tests: str = CALL, limits: SandboxLimits = ENOUGH) -> SandboxReport:
    """Run tests that call a function of this body."""
    code = "def run():\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ")
    return await run_tests(code + "\n", tests, limits)


async def run_each(bodies: Iterable[str], limits: SandboxLimits = ENOUGH) -> SandboxReport:
    """Run each as a test of its own, all in one process; what went wrong is a case's error."""
    tests = [
        f"def test_{number}():\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ")
        for number, body in enumerate(bodies)
    ]
    return await run_tests("", "\n\n".join(tests) + "\n", limits)


# ── misbehaviour ──────────────────────────────────────────────────────────────────────────────

ODD_ERRORS = {
    "str raises": "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
    "str is no text": "class E(Exception):\n    def __str__(self): return 3\nraise E",
    "str never ends": "class E(Exception):\n    def __str__(self): return str(self)\nraise E",
    "a crooked syntax error": "raise SyntaxError('x', ('f', 'one', [], {}))",
    "its own cause": "e = ValueError()\ne.__cause__ = e\nraise e",
    "a base exception": "class E(BaseException): pass\nraise E",
    "a group": "raise ExceptionGroup('g', [ValueError('é'), ExceptionGroup('h', [KeyError()])])",
    "a lone surrogate": "assert False, '\\ud800'",
    "NUL": "raise ValueError('\\0')",
    "SystemExit": "import sys\nsys.exit(0)",
    "exit of nothing": "raise SystemExit(object())",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "recursion": "def f(): f()\nf()",
    "recursion through C": "a = []\nfor _ in range(200_000): a = [a]\nrepr(a)",
    "generator exit": "raise GeneratorExit",
    "stop iteration": "raise StopIteration(object())",
    "by a coroutine": "import asyncio\nasync def f(): 1 / 0\nasyncio.run(f())",
}


async def test_whatever_is_raised_is_a_failed_test() -> None:
    report = await run_each(ODD_ERRORS.values())
    assert report.outcome == "failed", report
    assert len(report.cases) == len(ODD_ERRORS)
    assert all(case.error for case in report.cases), report
    assert "\x00" not in report.output
    report.output.encode()


@pytest.mark.parametrize(
    ("body", "outcomes"),
    [
        ("while True: pass", {"timeout"}),
        ("import time; time.sleep(600)", {"timeout"}),
        ("import threading; threading.Event().wait()", {"timeout"}),
        ("import signal; signal.pause()", {"timeout"}),
        ("input()", {"failed"}),
        ("10 ** 10 ** 9", {"timeout", "memory"}),
        ("while True: print('x' * 1000)", {"output"}),
        ("import sys\nwhile True: sys.stderr.write('x' * 1000)", {"output"}),
        ("import os\nwhile True: os.write(1, b'x' * 1000)", {"output"}),
    ],
)
async def test_what_would_not_end_is_ended(body: str, outcomes: set[str]) -> None:
    report = await run(body, limits=LITTLE)
    assert report.outcome in outcomes, report
    assert len(report.output) <= LITTLE.output_characters + 200


async def test_what_was_printed_before_it_hung_is_told() -> None:
    limits = ENOUGH.model_copy(update={"cpu_seconds": 1})
    report = await run("print('so far')\nwhile True: pass", limits=limits)
    assert report.outcome == "timeout"
    assert report.output == "so far\n\nStopped: 1 s of processor time."


async def test_the_processor_limit_cannot_be_ignored() -> None:
    body = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    report = await run(body, limits=ENOUGH.model_copy(update={"cpu_seconds": 1}))
    assert report.outcome == "crashed", report
    assert "SIGKILL" in report.output


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of address space")
@pytest.mark.parametrize(
    "body",
    [
        "x = []\nwhile True: x.append(bytes(1_000_000))",
        "bytes(10**11)",
        "'x' * 10**10",
        "x = list(range(10**9))",
        "global kept\nkept = []\nwhile True: kept.append(bytes(1_000_000))",
    ],
)
async def test_memory_has_an_end(body: str) -> None:
    report = await run(body)
    assert report.outcome == "memory", report


@pytest.mark.parametrize(
    ("body", "outcomes"),
    [
        ("import os; os._exit(0)", {"crashed"}),
        ("import os; os.abort()", {"crashed"}),
        ("import signal; signal.raise_signal(signal.SIGTERM)", {"crashed"}),
        ("import signal; signal.raise_signal(signal.SIGRTMIN + 1)", {"crashed"}),
        ("import faulthandler; faulthandler._sigsegv()", {"crashed"}),
        ("import os; os.closerange(0, 64)", {"crashed"}),
        ("import os; os.close(1); os.close(2)", {"passed"}),
        ("import os; os.set_blocking(1, False)", {"passed"}),
        ("import sys; sys.stdout.close()", {"passed"}),
        ("import sys; sys.stdout = sys.stderr = None", {"passed"}),
        ("import io, sys; sys.stdout = io.StringIO(); print('x')", {"passed"}),
        ("import sys; sys.stdout.buffer.write(bytes(range(256)))", {"passed"}),
        ("print('\\ud800')", {"failed"}),
        ("print('\\0')", {"passed"}),
        ("import sys; sys.modules.clear()", {"passed", "failed", "crashed"}),
        ("import builtins; builtins.__dict__.clear()", {"passed", "failed", "crashed"}),
        (
            "import sys; sys.setrecursionlimit(10**9); run()",
            {"memory", "crashed", "timeout", "failed"},
        ),
        ("globals().update({1: 2, 'test_x': 3, 'Test': type('Test', (), {})})", {"passed"}),
        ("open('a', 'wb').write(bytes(20_000_000))", {"failed"}),
        ("x = [open('/dev/null') for _ in range(1000)]", {"failed"}),
    ],
)
async def test_misbehaviour_is_an_outcome(body: str, outcomes: set[str]) -> None:
    report = await run(body)
    assert report.outcome in outcomes, report
    assert "\x00" not in report.output
    report.output.encode()


async def test_text_in_any_script_is_told() -> None:
    report = await run("print('Olá 😀 日本'); print(b'\\xff'.decode('latin-1'))")
    assert (report.outcome, report.output) == ("passed", "Olá 😀 日本\nÿ")


# ── processes, threads ────────────────────────────────────────────────────────────────────────


REACHING = (
    "import os\nwhile True: os.fork()",
    "import os; os.system('true')",
    "import os; os.popen('true').read()",
    "import os; os.posix_spawn('/bin/true', ['true'], {})",
    "import os; os.execv('/bin/true', ['true'])",
    "import subprocess; subprocess.run(['true'])",
    "import multiprocessing as m\nm.get_context('fork').Process(target=print).start()",
    "import multiprocessing as m\nm.get_context('spawn').Process(target=print).start()",
    "import multiprocessing as m\nm.get_context('forkserver').Process(target=print).start()",
    "import pty; pty.spawn('/bin/true')",
    "import os; os.kill(os.getppid(), 9)",
    "import os; os.killpg(os.getpgid(os.getppid()), 9)",
    "import ctypes",
    "import _posixsubprocess",
    "import resource; resource.prlimit(1, resource.RLIMIT_CPU)",
    "import resource; resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))",
)


async def test_other_processes_are_out_of_reach() -> None:
    report = await run_each(REACHING)
    assert "hook" in report.guards
    refused = [case.error or "" for case in report.cases]
    assert len(refused) == len(REACHING)
    for error in refused:
        assert "not allowed here" in error or "not available here" in error, report


async def test_a_pool_of_processes_does_not_start() -> None:
    body = """
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor() as pool:
            print(list(pool.map(abs, [-1])))
    """
    report = await run(body)
    assert report.outcome == "failed", report


@pytest.mark.parametrize("daemon", [True, False])
async def test_threads_end_with_it(daemon: bool) -> None:
    body = f"""
        import threading, time
        for _ in range(200):
            threading.Thread(target=time.sleep, args=(600,), daemon={daemon}).start()
    """
    report = await run(body)
    assert report.outcome in {"passed", "failed", "memory"}, report
    if "processes" in report.guards:
        assert "can't start new thread" in report.output


async def test_the_parent_cannot_be_signalled_through_a_descriptor() -> None:
    body = "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)"
    report = await run(body)
    assert report.outcome == "failed"
    assert "has no attribute" in report.output


# ── files, secrets, network ───────────────────────────────────────────────────────────────────


OUTSIDE = (
    "open('/etc/passwd')",
    "import os; os.open('/etc/passwd', os.O_RDONLY)",
    "open('../../../../../../../../etc/passwd')",
    "import os; os.listdir('/')",
    "import pathlib; list(pathlib.Path('/etc').iterdir())",
    "import pathlib; pathlib.Path('/tmp/rotina-made').write_text('x')",
    "open('../rotina-made', 'w')",
    "import os; os.remove('/etc/hostname')",
    "import shutil; shutil.copy('/etc/passwd', 'copy')",
    "import os; os.symlink('/etc/passwd', 'link')",
    "import os; os.link('/etc/passwd', 'link')",
    "import os; os.rename('/etc/hostname', 'name')",
    "import os; os.chmod('/etc/hostname', 0)",
    "import os; os.mkdir('/tmp/rotina-made')",
    "import os; os.chdir('/etc')",
    "import os, sys; open(os.__file__, 'a')",
    "import sqlite3; sqlite3.connect('/tmp/rotina-made')",
    "import sqlite3; sqlite3.connect('file:/tmp/rotina-made?mode=rwc', uri=True)",
    "import tempfile; tempfile.mkstemp(dir='/tmp')",
    "import syslog; syslog.syslog('x')",
    "import socket; socket.socket(socket.AF_INET)",
    "import socket; socket.socket(socket.AF_UNIX).connect('/var/run/docker.sock')",
    "import socket; socket.create_connection(('127.0.0.1', 9))",
    "import socket; socket.getaddrinfo('localhost', 80)",
    "import socket; socket.gethostbyname('example.org')",
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')",
    "import asyncio; asyncio.run(asyncio.open_connection('127.0.0.1', 9))",
)


async def test_what_is_outside_is_refused() -> None:
    report = await run_each(OUTSIDE)
    assert "hook" in report.guards
    assert len(report.cases) == len(OUTSIDE)
    for case in report.cases:
        assert "not allowed here" in (case.error or ""), case
    assert not Path("/tmp/rotina-made").exists()
    assert not Path(tempfile.gettempdir(), "rotina-made").exists()


async def test_the_standard_library_works() -> None:
    body = """
        import asyncio, bz2, decimal, hashlib, json, lzma, random, sqlite3, ssl, tempfile, uuid
        import xml.etree.ElementTree, zipfile, zlib, zoneinfo, concurrent.futures, multiprocessing
        import logging, unittest.mock, dataclasses, secrets, statistics, locale, importlib.resources
        from pathlib import Path
        assert sqlite3.connect(':memory:').execute('select 1').fetchone() == (1,)
        with sqlite3.connect('a.db') as database:
            database.execute('create table a (b)')
        ssl.create_default_context()
        uuid.uuid4(), uuid.uuid1(), hashlib.sha3_256(b''), secrets.token_hex()
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, 'a.txt').write_text('é')
        with open('/dev/null', 'w') as nowhere:
            nowhere.write('x')
        logging.warning('said')
        asyncio.run(asyncio.sleep(0))
    """
    report = await run(body)
    assert report.passed, report
    assert "said" in report.output


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the code's folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "body",
    [
        "import pathlib; print(pathlib.Path('a.txt').write_text('á'))",
        "import os; os.makedirs('a/b/c'); os.chmod('a/b', 0); os.chmod('a', 0); os.chmod('.', 0)",
        "import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')",
        "import os; os.mkfifo('pipe')",
        "import os; os.symlink('.', 'loop')",
        "import os; os.rmdir(os.getcwd())",
        "import time; time.sleep(600)",
    ],
)
async def test_its_folder_is_removed(body: str, folders: Path) -> None:
    report = await run(body, limits=LITTLE if "sleep" in body else ENOUGH)
    assert report.outcome in {"passed", "failed", "timeout"}, report
    assert list(folders.iterdir()) == []


async def test_it_sees_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden")
    secret = tmp_path / "secret.txt"
    secret.write_text("sk-hidden")
    tmp_path.chmod(0o755)
    bodies = (
        "import os; print(dict(os.environ))",
        f"print(open({str(secret)!r}).read())",
        "import os; print(open(f'/proc/{os.getppid()}/environ').read())",
        "print(open('/proc/self/environ').read())",
        "import sys; print(sys.argv, sys.flags, sys.path)",
    )
    report = await run_each(bodies)
    assert len(report.cases) == len(bodies)
    assert "HOME" in report.output, "what it does see"
    assert "sk-hidden" not in report.output
    assert secret.read_text() == "sk-hidden"


@pytest.fixture
def listening() -> Iterator[tuple[int, threading.Event]]:
    """A server's port, and what is set when somebody connects."""
    reached = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            with contextlib.suppress(OSError):
                server.accept()[0].close()
                reached.set()

        listener = threading.Thread(target=listen)
        listener.start()
        yield server.getsockname()[1], reached
        server.shutdown(socket.SHUT_RDWR)
        listener.join()


async def test_it_reaches_no_server(listening: tuple[int, threading.Event]) -> None:
    port, reached = listening
    report = await run(f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=1)")
    assert report.outcome == "failed"
    assert not reached.is_set()


# ── code that fights the hook ─────────────────────────────────────────────────────────────────

WITHOUT_HOOK = """
    import gc
    for each in gc.get_objects():
        if type(each).__name__ == 'Hook':
            type(each).__call__ = lambda *_: None
"""


async def test_the_kernel_holds_it_without_the_hook(
    tmp_path: Path, listening: tuple[int, threading.Event]
) -> None:
    port, reached = listening
    secret = tmp_path / "secret.txt"
    secret.write_text("sk-hidden")
    off = textwrap.dedent(WITHOUT_HOOK)
    connect = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=1)"
    report = await run(f"{off}\n{connect}")
    assert "not allowed here" not in report.output, "this test is about what comes after the hook"
    if {"network", "landlock"} & set(report.guards):
        assert report.outcome == "failed"
        assert not reached.is_set()
    attach = f"sqlite3.connect(':memory:').execute(\"attach '{tmp_path}/made' as other\")"
    for body in (
        f"print(open({str(secret)!r}).read())",
        f"open({str(tmp_path / 'made')!r}, 'w')",
        f"import os; os.mkfifo({str(tmp_path / 'made')!r})",
        f"import sqlite3; {attach}",
        "import os; os.execv('/bin/true', ['true'])",
        "import os; os.kill(os.getppid(), 0)",
    ):
        report = await run(f"{off}\n{body}")
        if "landlock" in report.guards and "kill" not in body:
            assert report.outcome == "failed", report
            assert not (tmp_path / "made").exists()
        assert "sk-hidden" not in report.output or "landlock" not in report.guards


async def test_a_report_of_its_own_making_is_not_believed() -> None:
    body = 'print(\'\\n{"error": null, "cases": [{"name": "x", "passed": true}]}\')\nassert False'
    report = await run(body)
    assert report.outcome == "failed"


@pytest.mark.parametrize(
    "report",
    ["", "{", "[]", "3", '{"cases": 3}', '{"error": {}, "cases": [], "guards": 1}', "[" * 9999],
)
async def test_a_report_that_cannot_be_read_is_an_outcome(report: str) -> None:
    """Code that looks for the seal finds it; what it then writes must not break us."""
    body = f"""
        import sys
        frame = sys._getframe()
        while 'request' not in frame.f_locals:
            frame = frame.f_back
        print('\\n' + frame.f_locals['request']['seal'] + {report!r}, flush=True)
        import os; os._exit(0)
    """
    told = await run(body)
    assert told.outcome == "crashed", told
    assert "no report that can be read" in told.output


# ── what is left ──────────────────────────────────────────────────────────────────────────────


def children(process: int) -> list[int]:
    """Direct children of a process."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for each in lists for child in each.read_text().split()]


async def gone(process: int) -> None:
    """Wait until there is no such process, or only what its parent has not yet asked for."""
    async with asyncio.timeout(30):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            while "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text():
                await asyncio.sleep(0.02)


@needs_proc
@pytest.mark.parametrize("times", [1, 2])
async def test_being_cancelled_ends_it(times: int, folders: Path) -> None:
    before = set(children(os.getpid()))
    task = asyncio.create_task(run_tests("import time\ntime.sleep(600)\n", ONE))
    async with asyncio.timeout(30):
        while not (started := set(children(os.getpid())) - before):
            await asyncio.sleep(0.02)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    for process in started:
        await gone(process)
    async with asyncio.timeout(30):
        while list(folders.iterdir()):
            await asyncio.sleep(0.02)


STARTER = """\
import asyncio
from rotina.graphs.coding import SandboxLimits, run_tests
asyncio.run(run_tests("import time\\ntime.sleep(600)", "", SandboxLimits(seconds=600)))
"""


@needs_proc
async def test_it_dies_with_its_worker(tmp_path: Path) -> None:
    """Its folder is left: nobody was there to remove it."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    worker = subprocess.Popen([sys.executable, "-c", STARTER], env=environment)
    try:
        async with asyncio.timeout(60):
            while not (started := children(worker.pid)):
                assert worker.poll() is None
                await asyncio.sleep(0.02)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    for process in started:
        await gone(process)


async def test_many_at_once_do_not_disturb_each_other() -> None:
    tests = [f"def test_one():\n    assert double({n}) == {2 * n}\n" for n in range(8)]
    tests += ["def test_one():\n    assert double(1) == 3\n"] * 2
    reports = await asyncio.gather(*(run_tests(DOUBLE, each, ENOUGH) for each in tests))
    assert [report.outcome for report in reports] == ["passed"] * 8 + ["failed"] * 2


async def test_guards_say_what_holds() -> None:
    """Only the hook and the limits hold everywhere."""
    report = await run("import os; print(os.getuid())")
    assert {"hook", "cpu", "files", "open_files", "core"} <= set(report.guards)
    if os.geteuid() != 0:
        assert "user" not in report.guards
        assert "processes" in report.guards
    if "user" in report.guards:
        assert "processes" in report.guards
        assert int(report.output) not in {0, os.getuid()}
