"""Translation between English and Brazilian Portuguese, checked by code."""

from rotina.graphs.translation.graph import build_translation
from rotina.graphs.translation.state import TranslationState
from rotina.graphs.translation.translation import (
    ProblemKind,
    Translation,
    TranslationProblem,
    TranslationResult,
)

__all__ = [
    "ProblemKind",
    "Translation",
    "TranslationProblem",
    "TranslationResult",
    "TranslationState",
    "build_translation",
]
