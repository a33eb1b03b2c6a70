"""Summaries: a text of any length in, sentences whose facts the text states out."""

from rotina.graphs.summary.graph import build_summary
from rotina.graphs.summary.state import SummaryState
from rotina.graphs.summary.summary import (
    FlaggedSentence,
    Summary,
    SummaryResult,
    SummarySentence,
)

__all__ = [
    "FlaggedSentence",
    "Summary",
    "SummaryResult",
    "SummarySentence",
    "SummaryState",
    "build_summary",
]
