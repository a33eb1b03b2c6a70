"""From what a parser found to the text that offsets refer to."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rotina.errors import DocumentTooLargeError
from rotina.knowledge.document import Heading, Page

PAGE_BREAK = "\n\n"
_CELL_LINES = 3
"""A cell of more lines than this is a block of its own, not a value in a row."""

_NEWLINES = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
# Characters that no reader sees: controls, soft hyphens, byte-order marks, noncharacters.
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\ufeff\ufffe\uffff\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
# Noncharacters, which no text may hold (Unicode, 23.7): how parsers tell where a heading is.
_MARKS = re.compile("[\ufdd0-\ufdef]")
_FIRST_MARK, _LEVELS, _END_MARK = 0xFDD0, 9, "\ufdef"
_TRAILING = re.compile("[ \t\xa0]+(?=\n|$)")
_WIDE = re.compile(r"(?<=\S) {3,}(?=\S)")
_EMPTY_LINES = re.compile("\n{3,}")
_SPACES = re.compile(r"\s+")


@dataclass
class Parsed:
    """What a parser returns, before cleaning."""

    texts: list[str]
    """One for each page, or a single one where the format has no pages; may hold `heading`s."""
    paged: bool = False
    metadata: dict[str, str] = field(default_factory=dict)


def heading(text: str, level: int) -> str:
    """`text` marked as a heading, for `assemble` to find; blank text stays as it is."""
    shown = text.strip()
    return f"{chr(_FIRST_MARK + min(level, _LEVELS))}{shown}{_END_MARK}" if shown else text


def unmarked(text: str) -> str:
    """`text` without the marks of headings."""
    return _MARKS.sub("", text)


def clean(text: str) -> str:
    """`text` without invisible characters, its line ends all `\\n`."""
    if _SURROGATES.search(text):  # halves that belong together become the character they encode
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    return _INVISIBLE.sub("", _NEWLINES.sub("\n", text))


def tidy(text: str) -> str:
    """`clean` text without waste: two blanks stand for any wider gap, one empty line for many.

    Indentation stays, because it carries meaning in plain text and Markdown.
    """
    text = _TRAILING.sub("", clean(text))
    return _EMPTY_LINES.sub(PAGE_BREAK, _WIDE.sub("  ", text)).strip("\n")


def one_line(text: str) -> str:
    """`text` with every run of white space as one blank."""
    return _SPACES.sub(" ", clean(text)).strip()


def row(cells: Iterable[str]) -> str:
    """A table's row: cells between tabs, on one line.

    Cells that hold blocks of many lines (a table used for layout) come out below each other.
    """
    cells = [unmarked(cell).strip() for cell in cells]
    if any(cell.count("\n") >= _CELL_LINES for cell in cells):
        return "\n".join(cell for cell in cells if cell)
    return "\t".join(one_line(cell) for cell in cells).rstrip()


@dataclass
class Assembled:
    """One text, and what lies where in it."""

    text: str
    pages: list[Page]
    headings: list[Heading]


def assemble(texts: Iterable[str], *, max_chars: int) -> Assembled:
    """Join pages into one text, and say where each lies, and where the headings are.

    Raises `DocumentTooLargeError` if the text exceeds `max_chars` characters.
    """
    parts: list[str] = []
    pages: list[Page] = []
    headings: list[Heading] = []
    offset = 0
    for number, raw in enumerate(texts, start=1):
        if parts:
            parts.append(PAGE_BREAK)
            offset += len(PAGE_BREAK)
        marked = tidy(raw)
        headings += _headings(marked, offset)
        text = unmarked(marked)
        pages.append(Page(number=number, start=offset, end=offset + len(text)))
        parts.append(text)
        offset += len(text)
        check_length(offset, max_chars)
    return Assembled("".join(parts), pages, headings)


def _headings(marked: str, offset: int) -> Iterator[Heading]:
    """Where the headings are once the marks are gone; what is not closed is none."""
    opened: tuple[int, int] | None = None
    for count, mark in enumerate(_MARKS.finditer(marked)):
        place = offset + mark.start() - count
        level = ord(mark[0]) - _FIRST_MARK
        if 1 <= level <= _LEVELS:
            opened = (level, place)
        elif opened is not None and mark[0] == _END_MARK:
            if opened[1] < place:
                yield Heading(level=opened[0], start=opened[1], end=place)
            opened = None


def check_length(characters: int, max_chars: int) -> None:
    """Raise `DocumentTooLargeError` if a text is too long."""
    if characters > max_chars:
        raise DocumentTooLargeError(
            f"The text has more than {max_chars} characters (max_text_chars): "
            "split the document, or raise the limit"
        )
