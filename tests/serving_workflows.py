"""Workflows that the server's tests start: small, and without a model."""

from typing import Any, TypedDict
from uuid import UUID

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel

from rotina.graphs import Context
from rotina.runs import FileReference, MessageInput, Workflow, review


class GreetInput(BaseModel):
    name: str
    times: int = 1


class GreetOutput(BaseModel):
    greeting: str


class CountInput(BaseModel):
    document: FileReference


class CountOutput(BaseModel):
    size: int


class SpendInput(BaseModel):
    amount: int


class SpendOutput(BaseModel):
    approved: bool


class Approval(BaseModel):
    approve: bool


class State(TypedDict, total=False):
    name: str
    times: int
    greeting: str
    document: FileReference
    size: int
    amount: int
    approved: bool
    thread: UUID
    text: str


def greet(state: State) -> State:
    return {"greeting": "; ".join([f"Olá, {state['name']}"] * state["times"])}


def fail(state: State) -> State:
    raise ValueError(f"{state['name']} is nobody")


async def count(state: State, runtime: Runtime[Context]) -> State:
    reference = FileReference.model_validate(state["document"])
    return {"size": len(await runtime.context.read_file(reference))}


def ask(state: State) -> State:
    given = review("Pay it?", Approval, data={"amount": state["amount"]}, assignee="finance")
    return {"approved": given.approve}


async def parrot(state: State, runtime: Runtime[Context]) -> State:
    conversation = await runtime.context.conversation(UUID(str(state["thread"])))
    said = f"{len(conversation.history)}: {state['text']}"
    await conversation.reply(said, {})
    return {"greeting": said}


def _one(name: str, node: Any) -> Any:
    def build() -> StateGraph[State, Context, Any, Any]:
        graph = StateGraph(State, context_schema=Context)
        graph.add_node(name, node)
        graph.add_edge(START, name)
        graph.add_edge(name, END)
        return graph

    return build


GREET = Workflow("greet", GreetInput, GreetOutput, _one("greet", greet), description="Say hello.")
FAIL = Workflow("fail", GreetInput, GreetOutput, _one("fail", fail))
COUNT = Workflow("count", CountInput, CountOutput, _one("count", count))
SPEND = Workflow("spend", SpendInput, SpendOutput, _one("ask", ask))
PARROT = Workflow("parrot", MessageInput, GreetOutput, _one("parrot", parrot))
