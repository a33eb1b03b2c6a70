"""The translation state machine: read → split → translate (a task a part) → join."""

from typing import Any

from langgraph.graph import END, START, StateGraph

from rotina.graphs.context import Context
from rotina.graphs.translation.nodes import Nodes
from rotina.graphs.translation.state import TranslationState
from rotina.graphs.translation.translation import Translation


def build_translation(
    translation: Translation | None = None,
) -> StateGraph[TranslationState, Context, Any, Any]:
    """The graph that translates; as a node of a larger graph it needs its state keys there."""
    nodes = Nodes(translation or Translation())
    graph = StateGraph(TranslationState, context_schema=Context)
    graph.add_node("read", nodes.read)
    graph.add_node("split", nodes.split)
    graph.add_node("translate", nodes.translate)
    graph.add_node("join", nodes.join)
    graph.add_edge(START, "read")
    graph.add_conditional_edges("read", nodes.after_read)
    graph.add_conditional_edges("split", nodes.fan_out, ["translate", "join"])
    graph.add_edge("translate", "join")
    graph.add_edge("join", END)
    return graph
