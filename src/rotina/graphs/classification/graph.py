"""The classification state machine: cheap → (model, where the cheap path is not sure)."""

from typing import Any

from langgraph.graph import END, START, StateGraph

from rotina.graphs.classification.classification import Classification
from rotina.graphs.classification.nodes import Nodes
from rotina.graphs.classification.state import ClassificationState
from rotina.graphs.context import Context


def build_classification(
    declaration: Classification,
) -> StateGraph[ClassificationState, Context, Any, Any]:
    """The graph for one set of labels.

    As a node of a larger graph it needs the state keys `text` and `classification` there; a
    workflow that asks several questions about one text calls `classify` in its nodes instead.
    """
    nodes = Nodes(declaration)
    graph = StateGraph(ClassificationState, context_schema=Context)
    graph.add_node("cheap", nodes.cheap)
    graph.add_node("model", nodes.model)
    graph.add_edge(START, "cheap")
    graph.add_conditional_edges("cheap", nodes.route)
    graph.add_edge("model", END)
    return graph
