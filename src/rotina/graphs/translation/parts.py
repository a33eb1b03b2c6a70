"""Cuts a text into the spans that are translated; white space and code stay between them."""

import itertools
import re

from rotina.graphs.splitting import Piece, split
from rotina.graphs.translation.protected import FENCE, has_words

_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_SENTENCE = re.compile(r"(?<=[.!?…])\s+(?=[^\W\d_a-z]|[\d\"“'(¿¡*_-])")


def parts(text: str, limit: int) -> list[Piece]:
    """Spans of at most `limit` characters, cut at paragraphs, else at sentences.

    They begin and end without white space; what has no words is not among them.
    """
    found: list[Piece] = []
    for first, last in _outside_code(text):
        region = text[first:last]
        for piece in split(region, _cuts(region, limit), limit):
            part = region[piece["start"] : piece["end"]]
            if has_words(part):
                start = first + piece["start"] + len(part) - len(part.lstrip())
                end = start + len(part.strip())
                found.append({"index": len(found), "start": start, "end": end})
    return found


def join(text: str, spans: list[Piece], translated: list[str]) -> str:
    """The text with its spans replaced."""
    pieces, last = [], 0
    for span, new in zip(spans, translated, strict=True):
        pieces += [text[last : span["start"]], new]
        last = span["end"]
    return "".join([*pieces, text[last:]])


def _outside_code(text: str) -> list[tuple[int, int]]:
    """The spans between blocks of code."""
    regions, last = [], 0
    for match in FENCE.finditer(text):
        regions.append((last, match.start()))
        last = match.end()
    return [*regions, (last, len(text))]


def _cuts(text: str, limit: int) -> list[int]:
    """Where paragraphs begin; in long ones, where sentences do."""
    starts = [0, *(match.end() for match in _PARAGRAPH.finditer(text)), len(text)]
    cuts: list[int] = []
    for start, end in itertools.pairwise(starts):
        cuts.append(start)
        if end - start > limit // 2:
            cuts += [match.end() for match in _SENTENCE.finditer(text, start, end)]
    return cuts
