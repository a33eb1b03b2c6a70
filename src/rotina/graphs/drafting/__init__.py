"""Drafting: a briefing in, a text out whose facts the briefing states."""

from rotina.graphs.drafting.drafting import Draft, Drafting, DraftProblem, ProblemKind
from rotina.graphs.drafting.graph import build_drafting
from rotina.graphs.drafting.state import DraftingState

__all__ = [
    "Draft",
    "DraftProblem",
    "Drafting",
    "DraftingState",
    "ProblemKind",
    "build_drafting",
]
