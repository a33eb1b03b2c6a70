"""Classification: a text in, one of the declared labels out, with a confidence."""

from rotina.graphs.classification.classification import (
    NONE_OF_THESE,
    Alternative,
    Classification,
    ClassificationResult,
    Label,
)
from rotina.graphs.classification.graph import build_classification
from rotina.graphs.classification.state import ClassificationState
from rotina.graphs.classification.steps import classify

__all__ = [
    "NONE_OF_THESE",
    "Alternative",
    "Classification",
    "ClassificationResult",
    "ClassificationState",
    "Label",
    "build_classification",
    "classify",
]
