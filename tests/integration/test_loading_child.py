"""Reading in a child process: the same result, and an end whatever the document does."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from rotina.errors import (
    CorruptDocumentError,
    DocumentTooLargeError,
    EmptyDocumentError,
    NoTextLayerError,
    UnsupportedDocumentError,
)
from rotina.knowledge.loading import Limits, load, load_in_child
from rotina.knowledge.loading.isolation import _explain

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "documents"
INVOICE = SAMPLES / "invoice-harbor-lights.pdf"
PRINTABLE = st.characters(exclude_categories=["Cc", "Cs"])


def _children() -> list[psutil.Process]:
    """The loading children of this process; other tests keep servers running."""
    ours = psutil.Process().children(recursive=True)
    return [one for one in ours if "rotina.knowledge.loading.child" in _command(one)]


async def _child() -> psutil.Process:
    """The child, once it has started."""
    while not (found := _children()):
        await asyncio.sleep(0.01)
    return found[0]


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def _slow_workbook() -> bytes:
    """Small for its size, and many seconds of work."""
    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet()
    for index in range(60_000):
        sheet.append([index, index * 7, f"text {index * 31}", index / 3])
    stream = io.BytesIO()
    workbook.save(stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def slow_workbook() -> bytes:
    return _slow_workbook()


@pytest.mark.parametrize("path", sorted(SAMPLES.iterdir()), ids=lambda path: path.name)
async def test_the_child_gives_what_load_gives(path: Path) -> None:
    content = path.read_bytes()
    assert await load_in_child(content, name=path.name) == load(content, name=path.name)
    assert _children() == []


# A start of Python for each example: few of them, and the odd characters named.
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(PRINTABLE), st.text(max_size=20))
async def test_any_text_survives_the_pipe(text: str, name: str) -> None:
    text = f"👩\u200d👩\u200d👧 🏳️\u200d🌈 שלום العربية e\u0301 {text}"
    name = f"recibo-é-\ud800-{name}"
    content = text.encode("utf-8", "replace")
    document = await load_in_child(content, name=name, media_type="text/plain")
    assert document == load(content, name=name, media_type="text/plain")
    assert "👩\u200d👩\u200d👧 🏳️\u200d🌈 שלום العربية e\u0301" in document.text


@pytest.mark.parametrize(
    ("content", "name", "error"),
    [
        (b"", "a.txt", EmptyDocumentError),
        (b" \n ", "a.txt", EmptyDocumentError),
        (b"\x89PNG\r\n\x1a\n\0\0", "a.pdf", UnsupportedDocumentError),
        (b"%PDF-1.7\n", "a.pdf", CorruptDocumentError),
    ],
)
async def test_errors_come_back_as_their_class(
    content: bytes, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name) as raised:
        await load_in_child(content, name=name)
    with pytest.raises(error) as here:
        load(content, name=name)
    assert str(raised.value) == str(here.value)


async def test_a_scan(tmp_path: Path) -> None:
    from reportlab.pdfgen.canvas import Canvas

    path = tmp_path / "scan.pdf"
    canvas = Canvas(str(path))
    canvas.rect(10, 10, 100, 100, fill=1)
    canvas.save()
    with pytest.raises(NoTextLayerError):
        await load_in_child(path.read_bytes(), name="scan.pdf")


async def test_time_is_bounded_and_the_child_is_reaped(slow_workbook: bytes) -> None:
    with pytest.raises(DocumentTooLargeError, match=r"0\.5 s.*parse_seconds"):
        await load_in_child(slow_workbook, name="slow.xlsx", limits=Limits(seconds=0.5))
    assert _children() == []


async def test_a_cancelled_task_leaves_no_child(slow_workbook: bytes) -> None:
    task = asyncio.create_task(load_in_child(slow_workbook, name="slow.xlsx"))
    await _child()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _children() == []


async def test_a_task_cancelled_twice_leaves_no_child(slow_workbook: bytes) -> None:
    task = asyncio.create_task(load_in_child(slow_workbook, name="slow.xlsx"))
    child = await _child()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(psutil.wait_procs, [child], 10)
    assert not child.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="macOS refuses to limit address space")
async def test_memory_is_bounded(slow_workbook: bytes) -> None:
    with pytest.raises(DocumentTooLargeError, match="parse_memory_mb"):
        await load_in_child(slow_workbook, name="big.xlsx", limits=Limits(memory_mb=16))


async def test_a_child_that_crashes(slow_workbook: bytes) -> None:
    task = asyncio.create_task(load_in_child(slow_workbook, name="crash.xlsx"))
    (await _child()).send_signal(signal.SIGSEGV)
    with pytest.raises(CorruptDocumentError, match=r"crashed over 'crash\.xlsx' \(SIGSEGV"):
        await task


async def test_a_child_that_the_system_kills_for_want_of_memory(slow_workbook: bytes) -> None:
    task = asyncio.create_task(load_in_child(slow_workbook, name="big.xlsx"))
    (await _child()).kill()
    with pytest.raises(DocumentTooLargeError, match="memory"):
        await task


def test_an_exit_status_is_explained_by_the_last_line() -> None:
    error = _explain(1, b"Traceback\nValueError: odd\n", name="a.pdf")
    assert isinstance(error, CorruptDocumentError)
    assert "exit status 1: ValueError: odd" in str(error)


def test_a_loop_in_another_thread() -> None:
    content = INVOICE.read_bytes()
    results = []

    def run() -> None:
        results.append(asyncio.run(load_in_child(content, name="a.pdf")))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert [document.text for document in results] == [load(content, name="a.pdf").text]


async def test_several_at_once() -> None:
    content = INVOICE.read_bytes()
    texts = await asyncio.gather(*(load_in_child(content, name="a.pdf") for _ in range(4)))
    assert len({document.text for document in texts}) == 1


async def test_no_secret_reaches_the_child(
    monkeypatch: pytest.MonkeyPatch, slow_workbook: bytes
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-parsers")
    task = asyncio.create_task(load_in_child(slow_workbook, name="slow.xlsx"))
    child = await _child()
    environment = child.environ()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "PATH" in environment
    assert "OPENAI_API_KEY" not in environment


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_the_child_dies_with_its_parent(slow_workbook: bytes, tmp_path: Path) -> None:
    (tmp_path / "slow.xlsx").write_bytes(slow_workbook)
    script = (
        "import asyncio, pathlib\n"
        "from rotina.knowledge.loading import load_in_child\n"
        f"content = pathlib.Path({str(tmp_path / 'slow.xlsx')!r}).read_bytes()\n"
        "asyncio.run(load_in_child(content, name='slow.xlsx'))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        child = _started(parent.pid)
        time.sleep(0.5)  # past its first lines, where it asks to die with us
        assert child.is_running()
        os.kill(parent.pid, signal.SIGKILL)
    gone, _ = psutil.wait_procs([child], timeout=10)
    assert gone == [child]


def _started(pid: int) -> psutil.Process:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = [
            one for one in psutil.Process(pid).children() if "child" in " ".join(_command(one))
        ]
        if found:
            return found[0]
        time.sleep(0.01)
    raise AssertionError("no child was started")
