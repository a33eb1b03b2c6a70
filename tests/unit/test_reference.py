"""Reference pages name everything public, and their examples run."""

import importlib
import re
from pathlib import Path

import click
import pytest

from rotina.cli import COMMANDS

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("module", "page"),
    [
        ("rotina.runs", "reference/runs.md"),
        ("rotina.graphs.extraction", "reference/extraction.md"),
        ("rotina.graphs.answering", "reference/answers.md"),
        ("rotina.graphs.support", "reference/support.md"),
        ("rotina.graphs.classification", "reference/classification.md"),
        ("rotina.graphs.summary", "reference/text-jobs.md"),
        ("rotina.graphs.translation", "reference/text-jobs.md"),
        ("rotina.graphs.drafting", "reference/text-jobs.md"),
        ("rotina.graphs.coding", "reference/text-jobs.md"),
        ("rotina.graphs.ingestion", "reference/knowledge.md"),
        ("rotina.knowledge", "reference/knowledge.md"),
        ("rotina.triggers", "reference/triggers.md"),
        ("rotina.gateway.prompts", "reference/prompts.md"),
    ],
)
def test_every_public_name_is_on_its_page(module: str, page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    names = importlib.import_module(module).__all__
    assert [name for name in names if name not in text] == []


@pytest.mark.parametrize(
    "page",
    [
        "reference/runs.md",
        "reference/extraction.md",
        "reference/answers.md",
        "reference/support.md",
        "reference/classification.md",
        "reference/text-jobs.md",
        "reference/knowledge.md",
        "reference/python.md",
        "reference/prompts.md",
        "reference/guards.md",
    ],
)
def test_examples_run(page: str) -> None:
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    assert blocks
    names: dict[str, object] = {"__name__": "example"}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_every_command_and_option_is_on_its_page() -> None:
    pages = ("reference/command-line.md", "reference/embedded.md")
    text = "".join((DOCS / page).read_text(encoding="utf-8") for page in pages)
    for name, (module, _) in COMMANDS.items():
        assert f"`rotina {name}" in text, name
        command = getattr(importlib.import_module(module), name)
        if name in {"run", "runs", "show", "up", "down", "doctor"}:
            options = [p for p in command.params if isinstance(p, click.Option)]
            assert [o.opts[-1] for o in options if o.opts[-1] not in text] == []
