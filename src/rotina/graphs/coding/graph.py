"""The coding state machine: prepare → (write_tests →) write_code ⇄ test → finish."""

from typing import Any

from langgraph.graph import END, START, StateGraph

from rotina.graphs.coding.coding import Coding
from rotina.graphs.coding.nodes import Nodes
from rotina.graphs.coding.state import CodingState
from rotina.graphs.context import Context


def build_coding(coding: Coding | None = None) -> StateGraph[CodingState, Context, Any, Any]:
    """The graph that writes code; as a node of a larger graph it needs its state keys there."""
    nodes = Nodes(coding or Coding())
    graph = StateGraph(CodingState, context_schema=Context)
    graph.add_node("prepare", nodes.prepare)
    graph.add_node("write_tests", nodes.write_tests)
    graph.add_node("write_code", nodes.write_code)
    graph.add_node("test", nodes.test)
    graph.add_node("finish", nodes.finish)
    graph.add_edge(START, "prepare")
    graph.add_conditional_edges("prepare", nodes.after_prepare)
    graph.add_edge("write_tests", "write_code")
    graph.add_edge("write_code", "test")
    graph.add_conditional_edges("test", nodes.after_test)
    graph.add_edge("finish", END)
    return graph
