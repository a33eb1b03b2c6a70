"""Cuts a document into chunks that are searched and cited: spans of its text, never copies of it.

A chunk ends at a heading, else at the end of a paragraph, a line, a sentence or a word, whichever
the limit leaves room for. It begins with the last sentences of the one before, so that an answer
that straddles a cut is whole in one of them.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from rotina.knowledge.document import Document

LIMIT = 800
"""Characters of a chunk, overlap included."""
OVERLAP = 150
"""Characters, at most, that a chunk shares with the one before."""

# A block of code comes first: what looks like a heading inside it is none.
_MARK = re.compile(
    r"^(?P<fence>```|~~~)[\s\S]*?(?:^(?P=fence)|\Z)"
    r"|^(?P<marks>#{1,6})[ \t]+(?P<title>\S.{0,200}?)[ \t#]*$"
    r"|^(?P<named>(?:chapter|section|part|annex|appendix|cap[íi]tulo|se[çc][ãa]o|t[íi]tulo|anexo)"
    r"[ \t]+(?:\d+|[IVXLC]+)\b.{0,80})$",
    re.MULTILINE | re.IGNORECASE,
)
_BREAK = re.compile(r"(?P<paragraph>\n[ \t]*\n\s*)|\n|(?<=[.!?…])[\"'”»’)\]]*\s+")
_ABBREVIATION = re.compile(
    r"(?<![^\s(])(?:art|arts|inc|fig|cap|dr|dra|sr|sra|prof|mr|mrs|ms|jr|no|nr|nº|p|pp|pg|vs|cf"
    r"|e\.g|i\.e|p\.ex|[a-z])\.$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Chunk:
    """`document.text[start:end] == text`."""

    start: int
    end: int
    text: str
    page: int | None
    """The page on which it begins; None where the format has none."""
    context: str
    """The document's title and the headings above the chunk; empty when there are none."""
    headings: tuple[str, ...] = ()
    """The headings above it, outermost first."""


@dataclass(frozen=True)
class _Section:
    """The text from one heading to the next."""

    start: int
    end: int
    path: tuple[str, ...]


@dataclass(frozen=True)
class _Unit:
    """What is never cut: a sentence, a line, or a piece of one that is too long."""

    start: int
    end: int
    ends_paragraph: bool


def chunk(document: Document, *, limit: int = LIMIT, overlap: int = OVERLAP) -> list[Chunk]:
    """The chunks of a document in order; each has at most `limit` characters, none is blank.

    Raises `ValueError` unless 0 <= overlap <= limit / 2.
    """
    if not 0 <= overlap <= limit // 2:
        raise ValueError(f"overlap is {overlap}: choose 0 to {limit // 2}, half of limit {limit}")
    text, title = document.text, document.metadata.get("title", "")
    found = []
    for section in _sections(text):
        # Word processors title a document by its first heading.
        above = tuple(dict.fromkeys(part for part in (title, *section.path) if part))
        for start, end in _pack(text, section, limit, overlap):
            context = " › ".join(above)
            page = document.page_of(start)
            found.append(Chunk(start, end, text[start:end], page, context, section.path))
    return found


def _sections(text: str) -> Iterator[_Section]:
    """The parts between headings; a heading without text of its own joins what follows."""
    path: list[tuple[int, str]] = []
    start = body = 0
    for match in _MARK.finditer(text):
        if match["fence"]:
            continue
        if text[body : match.start()].strip():
            yield _Section(start, match.start(), tuple(title for _, title in path))
            start = match.start()
        body = match.end()
        level = len(match["marks"]) if match["marks"] else 1
        path = [entry for entry in path if entry[0] < level]
        path.append((level, (match["title"] or match["named"]).strip()[:120]))
    yield _Section(start, len(text), tuple(title for _, title in path))


def _pack(text: str, section: _Section, limit: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Spans of whole units; each but the first begins up to `overlap` before its own first one."""
    units = list(_units(text, section, limit - overlap))
    first = 0
    while first < len(units):
        start = _back(units, first, overlap)
        last = first
        while last + 1 < len(units) and units[last + 1].end - start <= limit:
            last += 1
        if last + 1 < len(units):
            last = _paragraph_end(units, first, last, start + limit // 2)
        yield start, units[last].end
        first = last + 1


def _back(units: list[_Unit], first: int, overlap: int) -> int:
    """Where a chunk whose own units begin at `first` starts."""
    start = units[first].start
    for unit in reversed(units[:first]):
        if units[first].start - unit.start > overlap:
            break
        start = unit.start
    return start


def _paragraph_end(units: list[_Unit], first: int, last: int, earliest: int) -> int:
    """The last unit that ends a paragraph without leaving the chunk half empty, else `last`."""
    for index in range(last, first - 1, -1):
        if units[index].end < earliest:
            break
        if units[index].ends_paragraph:
            return index
    return last


def _units(text: str, section: _Section, limit: int) -> Iterator[_Unit]:
    start = section.start
    for match in _BREAK.finditer(text, section.start, section.end):
        if "\n" not in match[0] and _abbreviates(text, start, match.start()):
            continue
        # Closing quotes belong to the sentence that they close.
        end = match.start() + len(match[0]) - len(match[0].lstrip("\"'”»’)]"))
        yield from _pieces(text, start, end, limit, ends=match["paragraph"] is not None)
        start = match.end()
    yield from _pieces(text, start, section.end, limit, ends=True)


def _abbreviates(text: str, start: int, end: int) -> bool:
    return _ABBREVIATION.search(text, max(start, end - 8), end) is not None


def _pieces(text: str, start: int, end: int, limit: int, *, ends: bool) -> Iterator[_Unit]:
    """The span without blanks around it, cut at words (or between characters) if too long."""
    start += len(text[start:end]) - len(text[start:end].lstrip())
    end = start + len(text[start:end].rstrip())
    while end - start > limit:
        cut = _cut(text, start, start + limit)
        yield _Unit(start, start + len(text[start:cut].rstrip()), ends_paragraph=False)
        start = cut + len(text[cut:end]) - len(text[cut:end].lstrip())
    if start < end:
        yield _Unit(start, end, ends_paragraph=ends)


def _cut(text: str, start: int, latest: int) -> int:
    """Where to end a piece: after a blank, or at least not inside a character people see."""
    blank = max(text.rfind(" ", start, latest), text.rfind("\t", start, latest))
    if blank > start:
        return blank + 1
    cut = latest
    while cut > start + 1 and _continues(text, cut):
        cut -= 1
    # Nothing but marks: a text that no one reads, cut it where the limit says.
    return cut if cut > start + 1 else latest


def _continues(text: str, index: int) -> bool:
    """Whether the character at `index` belongs to the one before: an accent, part of an emoji."""
    here, before = text[index], text[index - 1]
    joined = "\u200d" in (here, before)
    modifier = "\ufe00" <= here <= "\ufe0f" or "\U0001f3fb" <= here <= "\U0001f3ff"
    return joined or modifier or unicodedata.combining(here) != 0
