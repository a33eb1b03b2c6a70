"""Passages cut into numbered sentences: what a model cites, and what a citation shows."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from rotina.knowledge import Passage

LONGEST = 400
"""Characters of a sentence; a longer one is cut at a comma or space."""
LEAST_WORDS = 3
"""Headings and fragments of fewer words prove nothing and get no number."""

_LINE = re.compile(r"[^\n]+")
_END = re.compile(r"(?<=[.!?;…])[\"”’»)]*\s+(?=[\"“‘«(\[]?[A-ZÀ-Þ0-9])|(?<=[.!?;…])\s*\Z")
_CUT = re.compile(r"(?<=[,;:])\s|\s")
_HEADING = re.compile(r"\s*#+\s")


class Numbered(NamedTuple):
    """A sentence of a passage: `passage.text[start:end]`."""

    passage: Passage
    start: int
    end: int

    @property
    def text(self) -> str:
        """Its characters, as they stand in the passage."""
        return self.passage.text[self.start : self.end]


class Line(NamedTuple):
    """What the model sees of a passage: a sentence with its number, or a heading without."""

    number: int | None
    text: str


def lay_out(passages: Sequence[Passage], room: int) -> tuple[list[Line], list[Numbered]]:
    """The first passages as lines of at most `room` characters together, and their sentences.

    Sentence number n is the n-1st of the second list.
    """
    lines: list[Line] = []
    sentences: list[Numbered] = []
    for passage in passages:
        room -= _put(lines, Line(None, passage.title or ""))
        for start, end in sentences_of(passage.text):
            text = passage.text[start:end]
            cites = _can_prove(text)
            line = Line(len(sentences) + 1 if cites else None, " ".join(text.split()))
            if len(line.text) + 6 > room:
                return lines, sentences
            room -= _put(lines, line)
            if cites:
                sentences.append(Numbered(passage, start, end))
    return lines, sentences


def is_citable(passage: Passage) -> bool:
    """Whether the passage has a sentence that can prove anything."""
    return any(_can_prove(passage.text[start:end]) for start, end in sentences_of(passage.text))


def _can_prove(sentence: str) -> bool:
    return len(sentence.split()) >= LEAST_WORDS and not _HEADING.match(sentence)


def sentences_of(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences of a text, without outer white space, in order."""
    found: list[tuple[int, int]] = []
    for line in _LINE.finditer(text):
        start = line.start()
        for end in [match.end() for match in _END.finditer(line.group())] + [len(line.group())]:
            stop = line.start() + end
            found += _short(text, start, stop)
            start = stop
    return found


def _short(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The span without outer white space, in pieces of at most `LONGEST` characters."""
    pieces: list[tuple[int, int]] = []
    while end - start > LONGEST:
        cuts = [match.end() for match in _CUT.finditer(text, start + LONGEST // 2, start + LONGEST)]
        cut = cuts[-1] if cuts else start + LONGEST
        pieces.append((start, cut))
        start = cut
    pieces.append((start, end))
    return [span for each in pieces if (span := _trimmed(text, *each))]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    part = text[start:end]
    if not part.strip():
        return None
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())


def _put(lines: list[Line], line: Line) -> int:
    if not line.text:
        return 0
    lines.append(line)
    return len(line.text) + 6
