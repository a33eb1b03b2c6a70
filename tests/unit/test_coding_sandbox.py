"""Generated code in its limited process: whatever it does is an outcome, and nothing is left."""

import asyncio
import os
import socket
import threading
from pathlib import Path

import pytest

from rotina.graphs.coding import SandboxLimits, SandboxReport, run_tests

QUICK = SandboxLimits(seconds=5.0, cpu_seconds=2, memory_mb=64)
UNITTEST = """\
import unittest


class T(unittest.TestCase):
    def test_a(self):
        self.assertEqual(double(1), {})
"""
ONE = "def test_one():\n    assert double(2) == 4\n"
DOUBLE = "def double(x):\n    return 2 * x\n"


async def run(code: str, tests: str = "def test_one():\n    run()\n") -> SandboxReport:
    return await run_tests(code, tests, QUICK)


@pytest.mark.parametrize(
    ("code", "tests", "outcome", "said"),
    [
        (DOUBLE, ONE, "passed", ""),
        (DOUBLE, f"from solution import double\n{ONE}", "passed", ""),
        (DOUBLE, "assert double(3) == 6", "passed", ""),
        (DOUBLE, "async def test_a():\n    assert double(1) == 2", "passed", ""),
        (DOUBLE, UNITTEST.format(2), "passed", ""),
        ("def double(x):\n    return x\n", ONE, "failed", "assert double(2) == 4"),
        (DOUBLE, "assert double(3) == 7", "failed", "AssertionError"),
        (DOUBLE, UNITTEST.format(3), "failed", "2 != 3"),
        ("def double(x:\n", ONE, "error", "SyntaxError"),
        ("import numpy\n", ONE, "error", "No module named 'numpy'"),
        ("raise ValueError('Olá — não')", ONE, "error", "Olá — não"),
        (DOUBLE, "def (", "failed", "SyntaxError"),
        (DOUBLE, "def test_one():\n    triple(1)", "failed", "triple"),
        (DOUBLE, "", "no_tests", ""),
        (DOUBLE, "def helper():\n    assert False", "no_tests", ""),
    ],
)
async def test_tests_decide(code: str, tests: str, outcome: str, said: str) -> None:
    report = await run(code, tests)
    assert report.outcome == outcome, report
    assert said in report.output


@pytest.mark.parametrize(
    ("body", "outcomes"),
    [
        ("while True: pass", {"timeout"}),
        ("import time; time.sleep(600)", {"timeout"}),
        ("import threading; threading.Event().wait()", {"timeout"}),
        ("x = []\n    while True: x.append(bytes(1_000_000))", {"memory"}),
        ("bytes(10**11)", {"memory"}),
        ("while True: print('x' * 1000)", {"output"}),
        ("import sys\n    while True: sys.stderr.write('x' * 1000)", {"output"}),
        ("import sys; sys.exit(0)", {"failed"}),
        ("raise KeyboardInterrupt", {"failed"}),
        ("import os; os._exit(0)", {"crashed"}),
        ("import os; os.abort()", {"crashed"}),
        ("import os; os.close(1); os.close(2)", {"passed"}),
        ("run()", {"failed"}),
        ("assert False, '\\ud800'", {"failed"}),
        ("print('\\ud800'); print('Olá 😀')", {"failed", "passed"}),
        ("import sys; sys.stdout.buffer.write(bytes(range(256)))", {"passed"}),
    ],
)
async def test_misbehaviour_is_an_outcome(body: str, outcomes: set[str]) -> None:
    limits = QUICK.model_copy(update={"seconds": 2.0})
    tests = "def test_one():\n    run()\n"
    report = await run_tests(f"def run():\n    {body}\n", tests, limits)
    assert report.outcome in outcomes, report
    assert len(report.output) < 40_000


@pytest.mark.parametrize(
    "body",
    [
        "import os; os.fork()",
        "import os; os.system('true')",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.execv('/bin/true', ['true'])",
        "import os; os.kill(os.getppid(), 9)",
        "import ctypes",
        "import _posixsubprocess",
        "import socket; socket.socket(socket.AF_INET)",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')",
        "import asyncio; asyncio.run(asyncio.open_connection('127.0.0.1', 9))",
        "open('/etc/passwd')",
        "import os; os.listdir('/')",
        "import pathlib; pathlib.Path('/tmp/rotina-made').write_text('x')",
        "import os; os.remove('/etc/hostname')",
        "import os; os.symlink('/etc/passwd', 'link')",
    ],
)
async def test_what_it_may_not_do_is_refused(body: str) -> None:
    report = await run(f"def run():\n    {body}\n")
    assert report.outcome == "failed", report
    assert "hook" in report.guards
    assert "not allowed here" in report.output or "not available here" in report.output


async def test_threads_and_processes_end_with_it() -> None:
    """More threads than there may be processes, none of them a daemon."""
    body = "import threading, time\n    for _ in range(200):\n"
    body += "        threading.Thread(target=time.sleep, args=(600,)).start()"
    report = await run(f"def run():\n    {body}\n")
    assert report.outcome in {"passed", "failed", "memory"}, report


async def test_it_works_in_a_folder_of_its_own_that_is_gone_afterwards() -> None:
    body = "import pathlib\n    pathlib.Path('a.txt').write_text('á')\n"
    body += "    print(pathlib.Path('a.txt').resolve())"
    report = await run(f"def run():\n    {body}\n")
    assert report.passed, report
    assert not Path(report.output).exists()
    assert not Path(report.output).parent.exists()


async def test_it_sees_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden")
    secret = tmp_path / "secret.txt"
    secret.write_text("sk-hidden")
    for body in (
        "import os; print(dict(os.environ))",
        f"print(open({str(secret)!r}).read())",
        "print(open(f'/proc/{__import__(\"os\").getppid()}/environ').read())",
    ):
        report = await run(f"def run():\n    {body}\n")
        assert report.outcome in {"passed", "failed"}, report
        assert "sk-hidden" not in report.output


async def test_it_reaches_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        reached = threading.Event()

        def listen() -> None:
            try:
                server.accept()[0].close()
                reached.set()
            except OSError:
                pass

        listener = threading.Thread(target=listen)
        listener.start()
        port = server.getsockname()[1]
        body = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=1)"
        report = await run(f"def run():\n    {body}\n")
        server.shutdown(socket.SHUT_RDWR)
        listener.join()
    assert report.outcome == "failed"
    assert not reached.is_set()


async def test_a_report_of_its_own_making_is_not_believed() -> None:
    body = 'print(\'\\n{"error": null, "cases": [{"name": "x", "passed": true}]}\')'
    report = await run(f"def run():\n    {body}\n    assert False\n")
    assert report.outcome == "failed"


async def test_a_file_may_not_grow_without_end() -> None:
    body = "open('a', 'wb').write(bytes(20_000_000))"
    report = await run(f"def run():\n    {body}\n")
    assert report.outcome in {"failed", "crashed"}, report


async def test_being_cancelled_ends_it(tmp_path: Path) -> None:
    """Its process waits in a folder of its own: when that is gone, so is the process."""
    task = asyncio.create_task(run("import time\ntime.sleep(600)\n", ONE))
    children = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children")
    if not children.exists():
        task.cancel()
        pytest.skip("needs /proc")
    async with asyncio.timeout(30):
        while not (started := children.read_text().split()):
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for process in started:
        with pytest.raises(ProcessLookupError):
            os.kill(int(process), 0)


async def test_many_at_once_do_not_disturb_each_other() -> None:
    tests = [f"def test_one():\n    assert double({n}) == {2 * n}\n" for n in range(8)]
    reports = await asyncio.gather(*(run(DOUBLE, each) for each in tests))
    assert [report.outcome for report in reports] == ["passed"] * 8
