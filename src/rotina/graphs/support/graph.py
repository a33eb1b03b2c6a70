"""The support state machine: listen → understand → one of the actions → reply."""

from typing import Any, Literal

from langgraph.graph import END, START, StateGraph

from rotina.graphs.context import Context
from rotina.graphs.support.nodes import Nodes
from rotina.graphs.support.state import SupportState
from rotina.graphs.support.support import PERSON, Support

Action = Literal["retrieve", "look_up", "propose", "carry_out", "decline", "hand_over", "talk"]


def build_support(support: Support) -> StateGraph[SupportState, Context, Any, Any]:
    """The graph that answers one message of a thread; its input is a `MessageInput`."""
    nodes = Nodes(support)
    graph = StateGraph(SupportState, context_schema=Context)
    graph.add_node("listen", nodes.listen)
    graph.add_node("understand", nodes.understand)
    graph.add_node("retrieve", nodes.retrieve)
    graph.add_node("answer_question", nodes.answer_question)
    graph.add_node("look_up", nodes.look_up)
    graph.add_node("propose", nodes.propose)
    graph.add_node("carry_out", nodes.carry_out)
    graph.add_node("decline", nodes.decline)
    graph.add_node("hand_over", nodes.hand_over)
    graph.add_node("talk", nodes.talk)
    graph.add_node("reply_to_customer", nodes.reply)
    graph.add_edge(START, "listen")
    graph.add_edge("listen", "understand")
    graph.add_conditional_edges("understand", lambda state: route(support, state))
    graph.add_edge("retrieve", "answer_question")
    for last in ("answer_question", "look_up", "propose", "carry_out", "decline", "hand_over"):
        graph.add_edge(last, "reply_to_customer")
    graph.add_edge("talk", "reply_to_customer")
    graph.add_edge("reply_to_customer", END)
    return graph


def route(support: Support, state: SupportState) -> Action:
    """Where a decision leads."""
    action, pending = state["decision"]["action"], state["pending"]
    if action == "confirm":
        assert pending is not None, "the schema offers it only then"
        return "hand_over" if pending["tool"] == PERSON else "carry_out"
    tool = support.by_name.get(action)
    if tool is not None:
        return "propose" if tool.effect else "look_up"
    simple: dict[str, Action] = {
        "answer": "retrieve",
        "decline": "decline",
        PERSON: "hand_over",
        "talk": "talk",
    }
    return simple[action]
