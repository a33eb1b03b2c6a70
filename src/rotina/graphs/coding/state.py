"""State of the coding graph: JSON only."""

from typing import Any, TypedDict


class CodingState(TypedDict, total=False):
    """Input: `task`, and `tests` where the caller has some. Output: `coding`, a `CodingResult`."""

    task: str
    tests: str | None
    """Python source of the tests; the caller's, or, once written, the model's."""
    tests_by: str
    code: str
    """Of the round under way; empty when the model's answer held none."""
    complaint: str
    """Why there is no code."""
    attempts: list[dict[str, Any]]
    """`Attempt`s, the first one first."""
    coding: dict[str, Any]
