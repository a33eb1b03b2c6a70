"""State of the translation graph: JSON only."""

import operator
from typing import Annotated, Any, TypedDict

from rotina.graphs.language import Language
from rotina.graphs.splitting import Piece


class Translated(TypedDict):
    """What became of one part."""

    index: int
    text: str
    problems: list[dict[str, Any]]
    repaired: bool


class PartState(TypedDict):
    """What one `translate` task gets."""

    index: int
    text: str
    source_language: Language
    to: Language


class TranslationState(TypedDict, total=False):
    """Input: `text` or `document`, `to`, `source_language`. Output: `translation`."""

    text: str | None
    document: dict[str, Any] | None
    to: Language
    """`en` or `pt`."""
    source_language: Language | None
    """Detected where absent."""
    source: str
    parts: list[Piece]
    """Spans of the source that are translated; what lies between them is kept as it is."""
    translated: Annotated[list[Translated], operator.add]
    translation: dict[str, Any]
    """A `TranslationResult`."""
