"""The drafting state machine: read → write → (repair →) end."""

from typing import Any

from langgraph.graph import END, START, StateGraph

from rotina.graphs.context import Context
from rotina.graphs.drafting.drafting import Drafting
from rotina.graphs.drafting.nodes import Nodes
from rotina.graphs.drafting.state import DraftingState


def build_drafting(
    drafting: Drafting | None = None,
) -> StateGraph[DraftingState, Context, Any, Any]:
    """The graph that drafts; as a node of a larger graph it needs its state keys there."""
    nodes = Nodes(drafting or Drafting())
    graph = StateGraph(DraftingState, context_schema=Context)
    graph.add_node("read", nodes.read)
    graph.add_node("write", nodes.write)
    graph.add_node("repair", nodes.repair)
    graph.add_edge(START, "read")
    graph.add_edge("read", "write")
    graph.add_conditional_edges("write", nodes.after_write, {"repair": "repair", "end": END})
    graph.add_edge("repair", END)
    return graph
