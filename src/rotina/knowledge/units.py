"""What a chunk is made of: sentences, lines, list items, rows of tables, and how good it is to
end a chunk after each."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from rotina.knowledge.graphemes import after_blanks, is_joined, last_boundary, trimmed

_LINE = re.compile(r"[^\n]+")
_SENTENCE_END = re.compile(r"(?<=[.!?…؟۔])[\"'”»’)\]]*\s+|(?<=[。！？])")
_CLOSING = "\"'”»’)]"
_ENDED = re.compile(r"[.!?…؟۔。！？:;][\"'”»’)\]]*\s*$")
_ABBREVIATION = re.compile(
    r"(?<![^\s(])(?:art|arts|inc|fig|cap|dr|dra|sr|sra|prof|profa|mr|mrs|ms|jr|st|no|nr|nº|p|pp|pg"
    r"|vs|vol|ed|eds|al|av|cf|approx|aprox|e\.g|i\.e|p\.ex|[a-z])\.$",
    re.IGNORECASE,
)
_ITEM = re.compile(
    r"[ \t]*(?:[-*+•◦▪–—‣·]|\(?(?:\d{1,3}|[a-z]|[ivxlc]{1,5})[.)–-]|§)[ \t]+\S", re.IGNORECASE
)
_NUMBER_ONLY = re.compile(r"\s*\(?(?:\d{1,3}|[ivxlc]{1,5})\.$", re.IGNORECASE)
_PIPES = re.compile(r"[ \t]*\|.*\|[ \t]*$")
_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_GAP = re.compile(r"[^\s.!?:;] {2,}(?=\S)")
_VALUE = re.compile(r"[^\w]*\d[\d.,:/%\s-]*\D{0,3}$")
_LONGEST_HEADER = 300
_FEWEST_ROWS, _FEWEST_GAPPED_ROWS = 2, 3


class Break(IntEnum):
    """How good a place a unit's end is for a chunk's: the higher the better."""

    NONE = 0
    """Inside of what is too long for a chunk, or after a line that announces the next."""
    LINE = 1
    """A line's end within a sentence."""
    SENTENCE = 2
    ITEM = 3
    """A list item, a row, or a line that ends a sentence."""
    PARAGRAPH = 4


@dataclass(frozen=True, slots=True)
class Unit:
    """What is never cut: `text[start:end]`, without blanks around it."""

    start: int
    end: int
    after: Break
    header: str = ""
    """Of a row of a table: the row that names its columns, if it stands above."""
    is_row: bool = False


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    end: int
    is_last: bool
    """Whether an empty line follows, or nothing."""


def units(text: str, start: int, end: int) -> Iterator[Unit]:
    """The span's units in order; together they hold all that is not white space."""
    lines = list(_lines(text, start, end))
    place = 0
    while place < len(lines):
        rows = _table(text, lines, place)
        if rows:
            yield from _rows(text, lines[place : place + rows])
            place += rows
        else:
            following = lines[place + 1] if place + 1 < len(lines) else None
            yield from _sentences(text, lines[place], following)
            place += 1


def pieces(text: str, unit: Unit, fits: Callable[[int, int], bool], limit: int) -> Iterator[Unit]:
    """The unit itself if it fits, else cut after words, or between characters."""
    start = unit.start
    while not (unit.end - start <= limit and fits(start, unit.end)):
        size = min(limit, unit.end - start)
        while size > 1 and not fits(start, start + size):
            size //= 2
        cut = _cut(text, start, start + size, unit.end)
        if cut >= unit.end:
            break
        first, last = trimmed(text, start, cut)
        yield Unit(first, last, Break.NONE, unit.header, unit.is_row)
        start = after_blanks(text, cut, unit.end)
    if start < unit.end:
        yield Unit(start, unit.end, unit.after, unit.header, unit.is_row)


def _cut(text: str, start: int, latest: int, end: int) -> int:
    """Where to end a piece: best after a cell, a sentence or a clause in its second half, else
    after a word, or at least not inside a character that people see."""
    half = start + (latest - start) // 2
    for mark, earliest in (("\t", half), (". ", half), ("; ", half), (", ", half), (" ", start)):
        blank = text.rfind(mark, earliest, latest) + len(mark) - 1
        joined = start < blank < end - 1 and any(is_joined(text, blank + i) for i in (0, 1))
        if start < blank < end - 1 and not joined:
            return blank + 1
    return last_boundary(text, start, latest, end)


def _lines(text: str, start: int, end: int) -> Iterator[_Line]:
    found: tuple[int, int] | None = None
    for match in _LINE.finditer(text, start, end):
        first, last = trimmed(text, match.start(), match.end())
        if first == last:
            continue
        if found is not None:
            yield _Line(*found, is_last=text.count("\n", found[1], first) > 1)
        found = (first, last)
    if found is not None:
        yield _Line(*found, is_last=True)


def _table(text: str, lines: Sequence[_Line], place: int) -> int:
    """How many lines from `place` on are rows of one table; 0 when it is none."""
    for is_row, fewest in (
        (_has_tab, _FEWEST_ROWS),
        (_has_pipes, _FEWEST_ROWS),
        (_has_gap, _FEWEST_GAPPED_ROWS),
    ):
        count = 0
        while place + count < len(lines) and is_row(text, lines[place + count]):
            count += 1
            if lines[place + count - 1].is_last:
                break
        if count >= fewest:
            return count
    return 0


def _has_tab(text: str, line: _Line) -> bool:
    return text.find("\t", line.start, line.end) >= 0


def _has_pipes(text: str, line: _Line) -> bool:
    return _PIPES.fullmatch(text, line.start, line.end) is not None


def _has_gap(text: str, line: _Line) -> bool:
    return _GAP.search(text, line.start, line.end) is not None


def _rows(text: str, lines: Sequence[_Line]) -> Iterator[Unit]:
    header, above = _header(text, lines)
    for index, line in enumerate(lines):
        after = Break.ITEM if index >= above else Break.NONE
        if index == len(lines) - 1:
            after = Break.PARAGRAPH
        named = header if index >= above else ""
        yield Unit(line.start, line.end, after, named, is_row=True)


def _header(text: str, lines: Sequence[_Line]) -> tuple[str, int]:
    """The row that names the columns, and how many lines it takes; none where it is no header."""
    first = text[lines[0].start : lines[0].end]
    if len(first) > _LONGEST_HEADER or len(lines) < _FEWEST_ROWS:
        return "", 0
    if first.startswith("|"):
        ruled = _RULE.fullmatch(text, lines[1].start, lines[1].end) is not None
        return (first, 2) if ruled else ("", 0)
    cells = first.split("\t") if "\t" in first else re.split(" {2,}", first)
    if any(not cell.strip() or _VALUE.fullmatch(cell) for cell in cells):
        return "", 0
    return first, 1


def _sentences(text: str, line: _Line, following: _Line | None) -> Iterator[Unit]:
    start = line.start
    for match in _SENTENCE_END.finditer(text, line.start, line.end):
        # Closing quotes belong to the sentence that they close.
        end = match.start() + len(match[0]) - len(match[0].lstrip(_CLOSING))
        if match.end() >= line.end or _goes_on(text, start, end, match.end()):
            continue
        yield Unit(*trimmed(text, start, end), Break.SENTENCE)
        start = match.end()
    yield Unit(start, line.end, _after(text, line, following))


def _goes_on(text: str, start: int, end: int, following: int) -> bool:
    """Whether the sentence that began at `start` does not end at `end`."""
    if is_joined(text, following) or (end < following and is_joined(text, end)):
        return True
    return (
        _ABBREVIATION.search(text, max(start, end - 8), end) is not None
        or _NUMBER_ONLY.fullmatch(text, start, end) is not None
    )


def _after(text: str, line: _Line, following: _Line | None) -> Break:
    """What the end of a line is worth."""
    announces = text[line.end - 1] == ":"
    if following is None or (line.is_last and not announces):
        return Break.PARAGRAPH
    if announces:
        return Break.NONE
    if _ITEM.match(text, following.start, following.end):
        return Break.ITEM
    return (
        Break.ITEM if _ENDED.search(text, max(line.start, line.end - 8), line.end) else Break.LINE
    )
