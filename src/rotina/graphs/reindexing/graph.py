"""The reindexing state machine: begin → embed (a batch after another) → switch."""

from typing import Any

from langgraph.graph import START, StateGraph

from rotina.graphs.context import Context
from rotina.graphs.reindexing.nodes import Nodes
from rotina.graphs.reindexing.state import ReindexingState
from rotina.knowledge.reindexing import BATCH


def build_reindexing(batch: int = BATCH) -> StateGraph[ReindexingState, Context, Any, Any]:
    """The graph that embeds a collection by another route, `batch` chunks a step."""
    nodes = Nodes(batch)
    graph = StateGraph(ReindexingState, context_schema=Context)
    graph.add_node("begin", nodes.begin)
    graph.add_node("embed", nodes.embed, destinations=("embed", "switch"))
    graph.add_node("switch", nodes.switch, destinations=("embed", "__end__"))
    graph.add_edge(START, "begin")
    graph.add_edge("begin", "embed")
    return graph
