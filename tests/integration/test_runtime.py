"""The runtime of a worker process, without Celery's pool, and the client that hints it."""

from pathlib import Path

import pytest

from rotina.runs import Queue
from rotina.settings import Settings, load_settings
from rotina.worker import Client
from rotina.worker.runtime import Runtime

LEAVING = """
import sys
from typing import TypedDict

from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

from rotina.runs import Workflow


class Number(BaseModel):
    number: int


class State(TypedDict):
    number: int


async def leave(state: State) -> State:
    if state["number"] == 0:
        sys.exit(3)
    return state


def build() -> StateGraph[State]:
    graph = StateGraph(State)
    graph.add_node("leave", leave)
    graph.add_edge(START, "leave")
    graph.add_edge("leave", END)
    return graph


LEAVING = Workflow(name="leaving", input=Number, output=Number, build=build)
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str) -> Settings:
    """A project of one workflow, and a broker that is not there."""
    package = tmp_path / "leaving_workflows"
    package.mkdir()
    (package / "__init__.py").write_text(LEAVING)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("ROTINA_WORKFLOWS", '["leaving_workflows"]')
    monkeypatch.syspath_prepend(str(tmp_path))
    return load_settings(tmp_path)


async def test_accepting_needs_no_broker(settings: Settings) -> None:
    async with Client.open(settings) as client:
        accepted = await client.start("leaving", {"number": 1})
        assert (await client.store.get(accepted.id)).state == "queued"


async def test_a_node_that_leaves_fails_its_run_and_nobody_elses(settings: Settings) -> None:
    told: list[tuple[Queue, int]] = []
    async with Client.open(settings) as client:
        ids = [(await client.start("leaving", {"number": n})).id for n in (0, 7)]
        runtime = Runtime(settings, lambda *each: told.append(each))
        try:
            runtime.serve("io")
            runtime.serve("io")
            runtime.sweep()
        finally:
            runtime.close()
        states = [(await client.store.get(run_id)).state for run_id in ids]
        assert states == ["failed", "succeeded"]
        error = (await client.store.get(ids[0])).error
    assert error is not None
    assert error["type"] == "SystemExit"
    assert told == [("io", 1), ("io", 1)], "of what may follow each run; the sweep finds nothing"
