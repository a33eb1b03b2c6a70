"""The tutorial, followed to the letter, with a scripted model in place of the embedded one."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.stack import PROJECT, Stack
from tests.scripted_model import Request

BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def receipt(request: Request) -> dict[str, Any]:
    """Reads the tutorial's receipt."""
    first, *rest = request.last_message.splitlines()
    return {"shop": first, "day": rest[0], "total": rest[-1].split()[-1]}


@pytest.fixture
def blocks() -> dict[str, list[str]]:
    text = (PROJECT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {"python": [], "console": []}
    for kind, block in BLOCK.findall(text):
        found[kind].append(block)
    return found


def test_the_tutorial(processes: Stack, tmp_path: Path, blocks: dict[str, list[str]]) -> None:
    model = processes.model("tests.acceptance.test_tutorial:receipt")
    processes.environment = {
        **processes.environment, "OPENAI_BASE_URL": model, "ROTINA_MODEL": "scripted",
    }  # fmt: skip
    processes.cwd = tmp_path
    made = processes.run("new", "shop")
    assert made.returncode == 0, made.stderr
    project = tmp_path / "shop"
    agent, workflow, program = blocks["python"]
    (project / "shop" / "agents" / "receipts.py").write_text(agent)
    (project / "shop" / "workflows" / "receipt_intake.py").write_text(workflow)
    (project / "program.py").write_text(program)
    printed = next(line for line in blocks["console"][-1].splitlines() if "printf" in line)
    subprocess.run(printed.removeprefix("$ "), shell=True, check=True, cwd=project)

    processes.cwd = project
    processes.worker()
    done = processes.run("run", "receipt_intake", "receipt.txt", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    extraction = json.loads(done.stdout)["result"]["extraction"]
    assert extraction["data"] == {"shop": "Corner Books", "day": "2025-05-12", "total": 31.9}
    assert all(field["proven"] for field in extraction["fields"])

    processes.start("program", "program.py").wait(60)
    assert "succeeded {'day': '2025-05-12'" in processes.log("program"), processes.log("program")
