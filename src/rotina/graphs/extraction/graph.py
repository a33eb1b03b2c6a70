"""The extraction state machine: load → split → extract (a task a piece) → ground → validate."""

from typing import Any

from langgraph.graph import END, START, StateGraph

from rotina.graphs.context import Context
from rotina.graphs.extraction.extraction import Extraction
from rotina.graphs.extraction.nodes import Nodes
from rotina.graphs.extraction.state import ExtractionState


def build_extraction(
    extraction: Extraction | None = None,
) -> StateGraph[ExtractionState, Context, Any, Any]:
    """The graph for one kind of document; without one, the state's `schema` says what to take.

    As a node of a larger graph it needs the state keys `document` and `extraction` there.
    """
    nodes = Nodes(extraction)
    graph = StateGraph(ExtractionState, context_schema=Context)
    graph.add_node("load", nodes.load)
    graph.add_node("split", nodes.split)
    graph.add_node("extract", nodes.extract)
    graph.add_node("ground", nodes.ground)
    graph.add_node("validate", nodes.validate)
    graph.add_edge(START, "load")
    graph.add_edge("load", "split")
    graph.add_conditional_edges("split", nodes.fan_out, ["extract"])
    graph.add_edge("extract", "ground")
    graph.add_edge("ground", "validate")
    graph.add_edge("validate", END)
    return graph
