"""The examples of the HTTP page, run as they stand."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.door import Door
from tests.acceptance.scripts import document
from tests.acceptance.stack import PROJECT, Stack

PAGE = PROJECT / "docs" / "reference" / "http.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples use curl")
def test_the_examples_run(scripted: Stack, tmp_path: Path) -> None:
    door = Door(scripted)
    scripted.worker()
    found = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    # The first block starts a server that stays; the door above is that server.
    assert "rotina serve" in found[0][1]
    shell = [text for language, text in found[1:] if language == "sh"]
    [python] = [text for language, text in found if language == "python"]
    environment = {"URL": door.url, "KEY": door.key(), "PATH": "/usr/bin:/bin"}
    (tmp_path / "invoice.txt").write_text(document(3))
    started = subprocess.run(
        ["sh", "-ec", shell[0]], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    environment["RUN"] = json.loads(started.stdout)["id"]
    followed = subprocess.run(
        ["sh", "-ec", shell[1]], env=environment, capture_output=True, text=True, check=True
    )
    assert "event: succeeded" in followed.stdout
    environment["HOME"] = str(tmp_path)
    asked = python.replace("Bom dia! Tudo bem?", document(1).replace("\n", "\\n"))
    said = subprocess.run(
        [sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(said.stdout)["number"] == "INV-0001"
