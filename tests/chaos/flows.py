"""Workflows of the chaos tests: slow steps in two versions, and runs that ruin their worker."""

import asyncio
import os
import resource
import signal
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel

from rotina.graphs import Context
from rotina.runs import Workflow

STEPS = 6
VERSION = int(os.environ.get("CHAOS_VERSION", "1"))
"""Of the code that this process has."""
HOG_BYTES = 1 << 34


class Steps(BaseModel):
    """Input: what the run does to its worker."""

    number: int
    poison: str = ""


class Walked(BaseModel):
    """Output: the code that took each step."""

    number: int
    path: list[int]


class State(TypedDict, total=False):
    """State of both."""

    number: int
    poison: str
    path: list[int]


async def walk(state: State, runtime: Runtime[Context]) -> State:
    await asyncio.sleep(0.3)
    poison = state.get("poison")
    if poison == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if poison == "hog":
        # What a machine without memory does: the allocation fails.
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (HOG_BYTES // 2, hard))
        try:
            bytearray(HOG_BYTES)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return {"path": [*state.get("path", []), VERSION]}


def build() -> StateGraph[State, Context]:
    graph = StateGraph(State, context_schema=Context)
    names = [f"step_{number}" for number in range(STEPS)]
    for name in names:
        graph.add_node(name, _walk())
    for first, second in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(first, second)
    return graph


def _walk() -> Any:
    return walk


STEPPING = Workflow(
    "stepping",
    Steps,
    Walked,
    build,
    version=VERSION,
    resumes=frozenset(range(1, VERSION)),
)
