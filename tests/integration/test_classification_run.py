"""Classification as a durable run: the graph, its checkpoints, and who asked which model."""

import asyncio
from pathlib import Path

import pytest

from rotina.settings import load_settings
from rotina.worker import Client
from rotina.worker.runtime import Runtime
from tests.scripted_model import Answer, Request, ScriptedModel
from tests.unit.classification_stage import embedded

SORTING = """
from pydantic import BaseModel

from rotina.graphs.classification import (
    Classification, ClassificationResult, Label, build_classification
)
from rotina.runs import Workflow
from tests.unit.classification_stage import TOPICS, examples


class Message(BaseModel):
    text: str


class Sorted(BaseModel):
    classification: ClassificationResult


TICKETS = Classification("t", [Label(name) for name in TOPICS]).with_examples(examples())

SORTING = Workflow(
    name="sorting",
    description="Sort a message.",
    input=Message,
    output=Sorted,
    build=lambda: build_classification(TICKETS),
)
"""


def late(request: Request) -> Answer:
    """Embeddings by words; the chat model answers `late`."""
    if request.path.endswith("/embeddings"):
        return embedded(request.body["input"])
    return {"label": "late"}


async def test_a_run_ends_with_the_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    package = tmp_path / "sorting_workflows"
    package.mkdir()
    (package / "__init__.py").write_text(SORTING)
    monkeypatch.syspath_prepend(str(tmp_path))
    async with ScriptedModel(late) as model:
        for name, value in {
            "DATABASE_URL": database_url,
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "OPENAI_BASE_URL": model.base_url,
            "OPENAI_API_KEY": "key",
            "ROTINA_MODEL": "tiny",
            "ROTINA_EMBEDDING_MODEL": "tiny",
            "ROTINA_WORKFLOWS": '["sorting_workflows"]',
        }.items():
            monkeypatch.setenv(name, value)
        settings = load_settings(tmp_path)
        texts = ("esqueci senha agora", "bananas grow on Mars", "…")
        runtime = Runtime(settings, lambda queue, runs: None)
        async with Client.open(settings) as client:
            ids = [(await client.start("sorting", {"text": text})).id for text in texts]
            try:
                for _ in ids:
                    await asyncio.to_thread(runtime.serve, "io")
            finally:
                await asyncio.to_thread(runtime.close)
            runs = [await client.store.get(run_id) for run_id in ids]
            assert {run.state for run in runs} == {"succeeded"}
            calls = await client.store.model_calls(ids[1])
    found = [run.result["classification"] for run in runs if run.result]
    assert [one["label"] for one in found] == ["login", "late", None]
    assert [one["path"] for one in found] == ["cheap", "model", "cheap"]
    assert [one["none_of_these"] for one in found] == [False, False, True]
    assert [call.node for call in calls] == ["cheap", "model"]
