"""State of the classification graph: JSON only, so that every checkpoint is plain data."""

from typing import Any, TypedDict


class ClassificationState(TypedDict, total=False):
    """Input: `text`. Output: `classification`, a `ClassificationResult`."""

    text: str
    evidence: dict[str, Any] | None
    """What the cheap path says, where it was asked."""
    classification: dict[str, Any] | None
    """None between the nodes: the model is still to be asked."""
