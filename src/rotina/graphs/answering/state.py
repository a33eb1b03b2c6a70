"""State of the answering graph: JSON only, so that every checkpoint is plain data."""

from typing import Any, TypedDict

from rotina.graphs.language import Language


class AnsweringState(TypedDict, total=False):
    """Input: `question`, and `collections` where the graph was built without. Output: `answer`."""

    question: str
    collections: list[str]
    language: Language | None
    """To answer in; None: the question's."""
    passages: list[dict[str, Any]]
    answer: dict[str, Any]
