"""State of the summary graph: JSON only."""

import operator
from typing import Annotated, Any, TypedDict

from rotina.graphs.language import Language
from rotina.graphs.splitting import Piece


class Note(TypedDict):
    """A sentence about a part of the source, and the words it rests on."""

    text: str
    quotes: list[str]


class Notes(TypedDict):
    """What came out of one part (level 0), or of one batch of the level below."""

    level: int
    index: int
    notes: list[Note]
    problem: str | None


class PartState(TypedDict):
    """What one `note` task gets."""

    index: int
    text: str
    sentences: int
    language: Language


class BatchState(TypedDict):
    """What one `condense` task gets."""

    level: int
    index: int
    notes: list[Note]
    sentences: int
    language: Language


class SummaryState(TypedDict, total=False):
    """Input: `text` or `document`, `sentences`, `language`. Output: `summary`."""

    text: str | None
    document: dict[str, Any] | None
    sentences: int
    """At most that many; 5 where absent."""
    language: Language | None
    """Of the summary; that of the source where absent."""
    source: str
    source_language: Language
    parts: list[Piece]
    """Spans of the source, in order."""
    notes: Annotated[list[Notes], operator.add]
    batches: list[BatchState]
    """To be condensed next; empty when the notes are the summary."""
    summary: dict[str, Any]
    """A `SummaryResult`."""
