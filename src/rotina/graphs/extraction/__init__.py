"""Extraction: a document in, typed values out, each with the characters that prove it."""

from rotina.graphs.extraction.extraction import (
    Check,
    ExtractedField,
    Extraction,
    ExtractionResult,
    Problem,
    ReadDocument,
)
from rotina.graphs.extraction.graph import build_extraction
from rotina.graphs.extraction.state import ExtractionState

__all__ = [
    "Check",
    "ExtractedField",
    "Extraction",
    "ExtractionResult",
    "ExtractionState",
    "Problem",
    "ReadDocument",
    "build_extraction",
]
