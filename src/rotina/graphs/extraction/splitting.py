"""Cuts a text into pieces that fit a model's context, at pages, blank lines or line ends."""

import re

from rotina.graphs.extraction.state import Piece

CHARACTERS_PER_TOKEN = 2.0
"""A cautious estimate: figures and Portuguese take about 2.2 characters a token with the
tokenizers measured. A piece that is too long after all is halved when the server refuses it."""

_BREAKS = (re.compile(r"\f"), re.compile(r"\n[ \t]*\n"), re.compile(r"\n"), re.compile(r"\s"))


def split(text: str, page_starts: list[int], limit: int) -> list[Piece]:
    """Pieces of at most `limit` characters that cover the text without overlap, in order."""
    pieces: list[Piece] = []
    start = 0
    while start < len(text):
        end = _cut(text, page_starts, start, limit)
        if text[start:end].strip():
            pieces.append({"index": len(pieces), "start": start, "end": end})
        start = end
    return pieces


def halve(text: str) -> tuple[str, str] | None:
    """Two halves cut at a line end, or None when there is nothing left to cut."""
    middle = _cut(text, [], 0, len(text) // 2 + 1) if len(text) > 1 else 0
    first, second = text[:middle], text[middle:]
    return (first, second) if first.strip() and second.strip() else None


def _cut(text: str, page_starts: list[int], start: int, limit: int) -> int:
    """The best place to end a piece that begins at `start`; never later than `limit` on."""
    if len(text) - start <= limit:
        return len(text)
    earliest, latest = start + limit // 2, start + limit
    pages = [page for page in page_starts if earliest <= page <= latest]
    if pages:
        return pages[-1]
    for pattern in _BREAKS:
        ends = [match.end() for match in pattern.finditer(text, earliest, latest)]
        if ends:
            return ends[-1]
    return max(latest, start + 1)
