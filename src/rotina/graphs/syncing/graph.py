"""The syncing state machine: list → work (a batch after another) → finish."""

from typing import Any

from langgraph.graph import END, START, StateGraph

from rotina.graphs.context import Context
from rotina.graphs.syncing.nodes import Nodes
from rotina.graphs.syncing.state import SyncingState


def build_syncing(batch: int = 200) -> StateGraph[SyncingState, Context, Any, Any]:
    """The graph that brings a collection up to its source, `batch` documents a step."""
    nodes = Nodes(batch)
    graph = StateGraph(SyncingState, context_schema=Context)
    graph.add_node("list", nodes.list)
    graph.add_node("work", nodes.work, destinations=("work", "finish"))
    graph.add_node("finish", nodes.finish)
    graph.add_edge(START, "list")
    graph.add_edge("list", "work")
    graph.add_edge("finish", END)
    return graph
