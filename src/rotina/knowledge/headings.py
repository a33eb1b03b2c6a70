"""The parts of a document between its headings.

Formats that mark their headings (DOCX, PPTX, HTML, workbooks) have them in the document. In other
texts they are recognised: Markdown's, numbered ones, and lines such as `Chapter 3`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rotina.knowledge.document import Document

_LONGEST = 120
"""Characters of a heading in a path."""

# A block of code comes first: what looks like a heading inside it is none.
_MARK = re.compile(
    r"^(?P<fence>```|~~~)[\s\S]*?(?:^(?P=fence)|\Z)"
    r"|^(?P<marks>#{1,6})[ \t]+(?P<title>\S.{0,200}?)[ \t#]*$"
    r"|^(?P<named>(?:chapter|section|part|annex|appendix|cap[íi]tulo|se[çc][ãa]o|t[íi]tulo|anexo)"
    r"[ \t]+(?:\d+|[IVXLC]+)\b.{0,80})$",
    re.MULTILINE | re.IGNORECASE,
)
_UNDERLINED = re.compile(
    r"^(?P<title>[^\s=-][^\n]{0,118})\n(?P<line>={3,}|-{3,})[ \t]*$", re.MULTILINE
)
_NUMBERED = re.compile(
    r"^(?P<number>\d{1,2}(?:\.\d{1,2}){0,3})(?P<dot>\.?)[ \t]+"
    r"(?P<title>[^\W\d_][^\n\t]{1,78}[^\s.;:,!?])$",
    re.MULTILINE,
)
_NUMBER = re.compile(r"\s*(\d{1,2}(?:\.\d{1,2}){0,3})[.)]?[ \t]")
_CELLS = re.compile(r"\S {2,}\S")
_DIGIT = re.compile(r"\d")
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class Section:
    """The text from one heading to the next, and the headings above it."""

    start: int
    end: int
    path: tuple[str, ...]


@dataclass(frozen=True)
class _Mark:
    start: int
    end: int
    level: int
    title: str


def sections(document: Document) -> Iterator[Section]:
    """The parts between headings; a heading without text of its own joins what follows."""
    text = document.text
    path: list[_Mark] = []
    start = body = 0
    for mark in _marks(document):
        if text[body : mark.start].strip():
            yield Section(start, mark.start, _titles(path))
            start = mark.start
        body = mark.end
        path = [above for above in path if above.level < mark.level]
        path.append(mark)
    yield Section(start, len(text), _titles(path))


def _titles(path: list[_Mark]) -> tuple[str, ...]:
    return tuple(_SPACES.sub(" ", mark.title).strip()[:_LONGEST] for mark in path)


def _marks(document: Document) -> list[_Mark]:
    text = document.text
    if document.headings:
        return [
            _Mark(each.start, each.end, each.level, text[each.start : each.end])
            for each in document.headings
        ]
    found = list(_written(text))
    dashes = document.media_type == "text/markdown"
    found += [mark for mark in _underlined(text) if dashes or mark.level == 1]
    if not found:
        found = list(_numbered(text))
    return sorted(found, key=lambda mark: mark.start)


def _written(text: str) -> Iterator[_Mark]:
    """Markdown's, and those that name themselves."""
    for match in _MARK.finditer(text):
        if match["marks"]:
            yield _Mark(match.start(), match.end(), len(match["marks"]), match["title"])
        elif match["named"] and match["named"][0].isupper() and match["named"][-1] not in ",;":
            yield _Mark(match.start(), match.end(), 1, match["named"])


def _underlined(text: str) -> Iterator[_Mark]:
    """Markdown's other form."""
    for match in _UNDERLINED.finditer(text):
        if _begins_block(text, match.start()):
            level = 1 if match["line"][0] == "=" else 2
            yield _Mark(match.start(), match.end(), level, match["title"])


def _numbered(text: str) -> Iterator[_Mark]:
    """`2.1 Scope` between empty lines, unless it is one of a list."""
    before: re.Match[str] | None = None
    for match in _NUMBERED.finditer(text):
        last, before = before, match
        if last is not None and _follows(text, last, match.start(), match["number"]):
            continue
        following = _NUMBER.match(text, match.end())
        if following is not None and _follows(text, match, following.start(1), following[1]):
            continue
        if _is_heading(text, match):
            depth = match["number"].count(".") + 1
            yield _Mark(match.start(), match.end(), depth, match[0])


def _follows(text: str, match: re.Match[str], index: int, number: str) -> bool:
    """Whether at `index`, with nothing but blanks before it, a list goes on."""
    if text[match.end() : index].strip():
        return False
    above, _, last = match["number"].rpartition(".")
    return number == f"{above}{'.' if above else ''}{int(last) + 1}"


def _is_heading(text: str, match: re.Match[str]) -> bool:
    """Whether the line looks like one, and stands by itself."""
    if not match["title"][0].isupper() or _CELLS.search(match[0]):
        return False
    if "." not in match["number"] + match["dot"] and _DIGIT.search(match["title"]):
        return False  # `12 March 2020`
    alone = "." in match["number"] or text[match.end() : match.end() + 2] in {"\n\n", ""}
    return alone and _begins_block(text, match.start())


def _begins_block(text: str, index: int) -> bool:
    """Whether the line at `index` comes first, or after an empty one."""
    return text[max(0, index - 2) : index] in {"", "\n", "\n\n"}
