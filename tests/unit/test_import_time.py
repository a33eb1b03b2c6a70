"""Importing Rotina, or asking it for help, loads nothing heavy and touches nothing.

How long it takes is measured by benchmarks/import_time.py.
"""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

HEAVY = {
    "aiohttp",
    "asyncpg",
    "celery",
    "kombu",
    "langchain",
    "langchain_core",
    "langgraph",
    "numpy",
    "onnxruntime",
    "openpyxl",
    "psycopg",
    "pydantic_settings",
    "pypdfium2",
    "redis",
    "rich",
    "xllamacpp",
}

# Reports the modules that are loaded afterwards, and what was opened, started or connected on the
# way by anything but the import machinery itself.
PROBE = textwrap.dedent(
    """
    import json, os, sys

    WATCHED = ("open", "os.mkdir", "os.listdir", "os.rename", "os.remove", "subprocess.Popen")
    touched = []

    def watch(event, arguments):
        if event in WATCHED or event.startswith(("socket.", "os.system", "os.fork", "urllib.")):
            if sys._getframe(1).f_code.co_filename != "<frozen importlib._bootstrap_external>":
                writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
                touched.append(["write" if writes else event, repr(arguments)])

    sys.addaudithook(watch)
    {statement}
    result = {{"modules": sorted(sys.modules), "touched": touched[:]}}
    print(json.dumps(result), file=sys.stderr)
    """
)


def _probe(statement: str, cwd: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(statement=statement)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = json.loads(done.stderr.splitlines()[-1])
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.parametrize("module", ["rotina", "rotina.cli", "rotina.errors"])
def test_importing_is_light_and_touches_nothing(module: str, tmp_path: Path) -> None:
    result = _probe(f"import {module}", tmp_path)
    assert module in result["modules"]
    assert HEAVY.isdisjoint(result["modules"])
    assert result["touched"] == []


@pytest.mark.parametrize(
    "module",
    [
        "rotina.settings",
        "rotina.database",
        "rotina.gateway",
        "rotina.runs",
        "rotina.grounding",
        "rotina.knowledge",
        "rotina.scaffold",
    ],
)
def test_importing_a_part_reaches_no_server_and_writes_nothing(module: str, tmp_path: Path) -> None:
    touched = [event for event, _ in _probe(f"import {module}", tmp_path)["touched"]]
    # Installed libraries read about themselves, and urllib3 binds to ::1 to see if there is IPv6.
    assert set(touched) <= {"open", "os.listdir", "socket.__new__", "socket.bind"}
    assert list(tmp_path.iterdir()) == []


def test_help_is_light_and_touches_nothing(tmp_path: Path) -> None:
    statement = "from rotina.cli import cli; cli.main(['--help'], standalone_mode=False)"
    result = _probe(statement, tmp_path)
    assert HEAVY.isdisjoint(result["modules"])
    assert "pydantic" not in result["modules"]
    assert result["touched"] == []


def test_the_probe_sees_what_it_looks_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    statement = "import socket; open('file'); open('new', 'w'); socket.socket().close()"
    result = _probe(statement, tmp_path)
    assert [event for event, _ in result["touched"]] == ["open", "write", "socket.__new__"]
