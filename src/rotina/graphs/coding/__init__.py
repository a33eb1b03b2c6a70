"""Coding: a task in, Python code that was run against tests out."""

from rotina.graphs.coding.coding import Attempt, Author, Coding, CodingResult
from rotina.graphs.coding.graph import build_coding
from rotina.graphs.coding.sandbox import Case, Outcome, SandboxLimits, SandboxReport, run_tests
from rotina.graphs.coding.state import CodingState

__all__ = [
    "Attempt",
    "Author",
    "Case",
    "Coding",
    "CodingResult",
    "CodingState",
    "Outcome",
    "SandboxLimits",
    "SandboxReport",
    "build_coding",
    "run_tests",
]
