"""Reusable LangGraph state machines, and the runtime context their nodes get."""

from rotina.graphs.context import Context

__all__ = ["Context"]
