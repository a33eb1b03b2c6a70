"""The tutorial, followed to the letter, with a scripted model in place of the embedded one."""

import json
import os
import re
import subprocess
import sys
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


@pytest.mark.parametrize(
    ("page", "shop", "question"),
    [("tutorial.md", "Corner Books", "Reimburse it?"),
     ("tutorial.pt.md", "Livraria da Esquina", "Reembolsar?")],
)  # fmt: skip
def test_the_tutorial(
    processes: Stack, tmp_path: Path, page: str, shop: str, question: str
) -> None:
    agent, workflow, program, asking = _blocks(page, "python")
    printed = [
        line.removeprefix("$ ")
        for block in _blocks(page, "console")
        for line in block.splitlines()
        if "printf" in line
    ]
    model = processes.model("tests.acceptance.test_tutorial:receipt")
    processes.environment = {
        **processes.environment, "OPENAI_BASE_URL": model, "ROTINA_MODEL": "scripted",
    }  # fmt: skip
    processes.cwd = tmp_path
    made = processes.run("new", "shop")
    assert made.returncode == 0, made.stderr
    project = tmp_path / "shop"
    (project / "shop" / "agents" / "receipts.py").write_text(agent, encoding="utf-8")
    (project / "shop" / "workflows" / "receipt_intake.py").write_text(workflow, encoding="utf-8")
    (project / "program.py").write_text(program, encoding="utf-8")
    for command in printed:
        subprocess.run(command, shell=True, check=True, cwd=project)

    processes.cwd = project
    processes.worker()
    done = processes.run("run", "receipt_intake", "receipt.txt", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    extraction = json.loads(done.stdout)["result"]["extraction"]
    assert extraction["data"] == {"shop": shop, "day": "2025-05-12", "total": 31.9}
    assert all(field["proven"] for field in extraction["fields"])

    for _ in range(2):
        assert "succeeded {'day': '2025-05-12'" in _run_program(processes)
    assert len(processes.run("runs", "--json").stdout.splitlines()) == 2, "one key, one run"

    (project / "shop" / "workflows" / "receipt_intake.py").write_text(asking, encoding="utf-8")
    processes.terminate("worker-io")
    processes.worker()
    waiting = json.loads(processes.run("run", "receipt_intake", "large.txt", "--json").stdout)
    assert waiting["state"] == "waiting"
    (asked,) = processes.run("reviews", "--json").stdout.splitlines()
    review = json.loads(asked)
    assert review["question"] == question
    assert processes.run("answer", review["id"], '{"approve": true}').returncode == 0
    processes.wait_for(
        "the run to end",
        lambda: (
            json.loads(processes.run("show", waiting["id"], "--json").stdout)["state"]
            == "succeeded"
        ),
    )


def _run_program(processes: Stack) -> str:
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=processes.cwd,
        env={**os.environ, **processes.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def _blocks(page: str, kind: str) -> list[str]:
    text = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    return [block for found, block in BLOCK.findall(text) if found == kind]
