"""State of the drafting graph: JSON only."""

from typing import Any, TypedDict

from rotina.graphs.language import Language


class DraftingState(TypedDict, total=False):
    """Input: `text` or `document` (the briefing) and what follows it. Output: `draft`."""

    text: str | None
    document: dict[str, Any] | None
    kind: str | None
    """What to write: an e-mail, a product description, …"""
    audience: str | None
    tone: str | None
    words: int
    """At most about that many."""
    language: Language | None
    """`en` or `pt`; that of the briefing where absent."""
    must_mention: list[str]
    avoid: list[str]
    briefing: str
    draft: dict[str, Any]
    """A `Draft`."""
