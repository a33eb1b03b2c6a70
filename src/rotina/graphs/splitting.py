"""Cuts a text into pieces that fit a model's context, at pages, blank lines or line ends."""

import re
from collections.abc import Iterable
from typing import TypedDict

from rotina.errors import ContextTooLongError
from rotina.gateway import Gateway, Message


class Piece(TypedDict):
    """A span `[start, end)` of a text, and its place among the others."""

    index: int
    start: int
    end: int


CHARACTERS_PER_TOKEN = 2.0
"""A cautious estimate: figures and Portuguese take about 2.2 characters a token with the
tokenizers measured. A piece that is too long after all is halved when the server refuses it."""

_BREAKS = (re.compile(r"\f"), re.compile(r"\n[ \t]*\n"), re.compile(r"\n"), re.compile(r"\s"))


SMALLEST_PIECE = 200
"""Characters below which a piece is not worth sending: then the context is too small."""


def room(gateway: Gateway, route: str, answer_tokens: int, constant: Iterable[Message]) -> int:
    """Characters of a text that fit the route's context beside a constant prompt and an answer.

    Raises `ContextTooLongError` when they are fewer than `SMALLEST_PIECE`.
    """
    prompt = sum(len(str(message.get("content", ""))) for message in constant)
    tokens = gateway.context(route)
    left = int((tokens - answer_tokens) * CHARACTERS_PER_TOKEN) - prompt
    if left < SMALLEST_PIECE:
        raise ContextTooLongError(
            f"The route {route!r} has a context of {tokens} tokens; prompt and answer take all of "
            "it. Use a model with more, or a shorter prompt (fewer examples, fields or "
            "instructions), or fewer answer_tokens."
        )
    return left


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
    """Two halves cut at a line end, or None when they would be too small to be worth asking."""
    if len(text) < 2 * SMALLEST_PIECE:
        return None
    middle = _cut(text, [], 0, len(text) // 2 + 1)
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
