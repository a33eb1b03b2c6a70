"""Workflows of the chaos tests: slow steps in two versions, and runs that ruin their worker."""

import asyncio
import os
import resource
import signal
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from pydantic import BaseModel

from rotina.graphs import Context
from rotina.runs import Workflow, http_request
from tests.scripted_model import Request

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


class Payment(BaseModel):
    """Input."""

    number: int
    url: str


class Paid(BaseModel):
    """Output."""

    number: int
    said: str
    paid: int


class PaymentState(TypedDict, total=False):
    """State of a payment."""

    number: int
    url: str
    said: str
    paid: int


async def ask(state: PaymentState, runtime: Runtime[Context]) -> PaymentState:
    gateway = runtime.context.at("ask")
    answer = await gateway.chat([{"role": "user", "content": f"payment {state['number']}"}])
    return {"said": answer.text}


async def pay(state: PaymentState, runtime: Runtime[Context]) -> PaymentState:
    act = http_request("POST", state["url"], json={"number": state["number"]})
    receipt = await runtime.context.effects.call("pay", act, repeatable=True)
    return {"paid": receipt["status"]}


async def book(state: PaymentState, runtime: Runtime[Context]) -> PaymentState:
    async def insert(connection: AsyncConnection[DictRow]) -> dict[str, Any]:
        await connection.execute("insert into payment values (%s)", [state["number"]])
        return {}

    await runtime.context.effects.transact("book", insert)
    return {}


def build_paying() -> StateGraph[PaymentState, Context]:
    graph = StateGraph(PaymentState, context_schema=Context)
    nodes: dict[str, Any] = {"ask": ask, "pay": pay, "book": book}
    for name, node in nodes.items():
        graph.add_node(name, node)
    for first, second in zip([START, *nodes], [*nodes, END], strict=True):
        graph.add_edge(first, second)
    return graph


PAYING = Workflow("paying", Payment, Paid, build_paying)


def model(request: Request) -> str:
    """What the scripted model says."""
    return f"I heard {request.last_message}"
