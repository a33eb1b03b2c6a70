"""The gateway's pages: their examples work, and the reference names all that is public."""

import asyncio
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import rotina.gateway
from rotina.gateway import Gateway
from rotina.settings import Settings, load_settings
from tests.scripted_model import ScriptedModel

DOCS = Path(__file__).resolve().parents[2] / "docs"
REFERENCE = (DOCS / "reference" / "gateway.md").read_text(encoding="utf-8")
HOW_TO = (DOCS / "how-to" / "point-at-a-model.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", rotina.gateway.__all__)
def test_the_reference_names_what_is_public(name: str) -> None:
    assert re.search(rf"`{name}\b", REFERENCE)


async def output_of(example: str, answer: dict[str, Any], folder: Path) -> list[str]:
    """The lines that an example prints, with a model that says `answer`."""
    async with ScriptedModel(answer) as model:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            example,
            cwd=folder,
            env={**os.environ, "OPENAI_BASE_URL": model.base_url, "ROTINA_MODEL": "tiny"},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
    return output.decode().splitlines()


async def test_the_example_runs(tmp_path: Path) -> None:
    (example, _, _) = blocks(REFERENCE, "python")
    assert await output_of(example, {"total": 7.5}, tmp_path) == ["7.5 9 None"]


async def test_the_example_of_structured_output_runs(tmp_path: Path) -> None:
    (_, _, example) = blocks(REFERENCE, "python")
    offer = {"item": "pen", "price": "2.50"}
    first, *grown = await output_of(example, offer, tmp_path)
    assert first == f"{offer} 2.50"
    assert (grown[0], grown[-1]) == ("{}", str(offer))


async def test_the_example_of_reranking_runs() -> None:
    """With the deployment that stands beside it, at another address."""
    (_, example, _) = blocks(REFERENCE, "python")
    declared = next(block for block in blocks(REFERENCE, "toml") if "rerank" in block)
    settings = tomllib.loads(declared)
    names: dict[str, Any] = {}
    exec(example, names)
    texts = ["Opening hours.", "A fee is due.", "A late fee is due.", "Late opening."]
    async with ScriptedModel() as model:
        settings["deployments"]["reranker"]["base_url"] = model.base_url
        async with Gateway(Settings(**settings)) as gateway:
            best = await names["best_three"](gateway, "late fee", texts)
    assert best == ["A late fee is due.", "A fee is due.", "Late opening."]


@pytest.mark.parametrize("block", blocks(HOW_TO, "sh"))
def test_three_variables_are_enough(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = dict(re.findall(r"^export (\w+)=(\S+)$", block, re.MULTILINE))
    assert len(given) == 3
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(tmp_path)
    for route in ("smart", "fast"):
        (name,) = settings.routes[route].deployments
        deployment = settings.deployments[name]
        assert deployment.model == given["ROTINA_MODEL"]
        assert deployment.secret() == given["OPENAI_API_KEY"]


@pytest.mark.parametrize("block", blocks(HOW_TO, "toml"))
def test_the_tables_are_settings(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    settings = Settings(**tomllib.loads(block))
    assert {"smart", "fast"} <= set(settings.routes)
