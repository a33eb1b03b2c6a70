"""The summary state machine: read → split → note (a task a part) → plan ⇄ condense → check."""

from typing import Any

from langgraph.graph import END, START, StateGraph

from rotina.graphs.context import Context
from rotina.graphs.summary.nodes import Nodes
from rotina.graphs.summary.state import SummaryState
from rotina.graphs.summary.summary import Summary


def build_summary(summary: Summary | None = None) -> StateGraph[SummaryState, Context, Any, Any]:
    """The graph that summarises; as a node of a larger graph it needs its state keys there."""
    nodes = Nodes(summary or Summary())
    graph = StateGraph(SummaryState, context_schema=Context)
    graph.add_node("read", nodes.read)
    graph.add_node("split", nodes.split)
    graph.add_node("note", nodes.note)
    graph.add_node("plan", nodes.plan)
    graph.add_node("condense", nodes.condense)
    graph.add_node("check", nodes.check)
    graph.add_edge(START, "read")
    graph.add_edge("read", "split")
    graph.add_conditional_edges("split", nodes.fan_out, ["note"])
    graph.add_edge("note", "plan")
    graph.add_conditional_edges("plan", nodes.after_plan, ["condense", "check"])
    graph.add_edge("condense", "plan")
    graph.add_edge("check", END)
    return graph
