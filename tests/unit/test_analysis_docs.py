"""The page of the analyses names all that is public, and its examples run."""

import contextlib
import io
import re
from pathlib import Path

import click
import pytest

import rotina.knowledge.analysis
from rotina.cli.analysis import embeddings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "analysis.md").read_text(
    encoding="utf-8"
)


@pytest.mark.parametrize("name", rotina.knowledge.analysis.__all__)
def test_the_page_names_what_is_public(name: str) -> None:
    assert re.search(rf"`{name}\b", PAGE)


def test_the_examples_run() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in blocks:
            exec(compile(block, "analysis.md", "exec"), {"__name__": "example"})
    lines = printed.getvalue().splitlines()
    assert lines[:2] == ["['pedido', 'invoice']", "order 1.0 [1, 0, 2]"]
    assert lines[2] == "[2, 1]"
    assert lines[4].startswith("first=")


@pytest.mark.parametrize("verb", list(embeddings.commands))
def test_the_page_names_every_option(verb: str) -> None:
    options = [p for p in embeddings.commands[verb].params if isinstance(p, click.Option)]
    assert [o.opts[-1] for o in options if f"`{o.opts[-1]}" not in PAGE] == []
    assert f"rotina embeddings {verb} " in PAGE
