"""The answering state machine: retrieve → answer."""

from typing import Any

from langgraph.graph import END, START, StateGraph

from rotina.graphs.answering.answering import Answering
from rotina.graphs.answering.nodes import Nodes
from rotina.graphs.answering.state import AnsweringState
from rotina.graphs.context import Context


def build_answering(
    answering: Answering | None = None,
) -> StateGraph[AnsweringState, Context, Any, Any]:
    """The graph for questions over a knowledge base; as a node it needs `question` in the state."""
    nodes = Nodes(answering or Answering())
    graph = StateGraph(AnsweringState, context_schema=Context)
    graph.add_node("retrieve", nodes.retrieve)
    graph.add_node("answer_question", nodes.answer_question)
    graph.add_edge(START, "retrieve")
    graph.add_edge("retrieve", "answer_question")
    graph.add_edge("answer_question", END)
    return graph
