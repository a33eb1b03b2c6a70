"""PPTX: a page a slide: its title, what else is on it in reading order, then the notes.

The package's XML is read directly: what stands in groups, tables and SmartArt is a short walk over
it, and the reading order is that of the shape tree, which is what screen readers follow.
"""

import io
import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any

from lxml import etree

from rotina.errors import CorruptDocumentError, DocumentTooLargeError
from rotina.knowledge.loading.archive import unpacked
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.text import Parsed, check_length, heading, one_line, row

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}relIds"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_RELATED = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
_CORE = "{http://purl.org/dc/elements/1.1/}"
_DOCUMENT, _PROPERTIES, _NOTES = "/officeDocument", "/core-properties", "/notesSlide"
"""How the types of relationships end; what is before depends on the edition of the standard."""
_TITLES = ("title", "ctrTitle")
_MARGINS = ("sldNum", "dt", "ftr", "hdr")
"""Placeholders that say the same on every slide."""


def parse(content: bytes, limits: Limits) -> Parsed:
    """Read a PPTX file; hidden slides are read like the others."""
    data = unpacked(content, max_bytes=limits.max_unzipped_bytes)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        package = _Package(archive)
        main = package.only("", _DOCUMENT)
        slides = list(_slides(package, main))
        if len(slides) > limits.max_pages:
            raise DocumentTooLargeError(
                f"the presentation has {len(slides)} slides and {limits.max_pages} are allowed: "
                "split it, or raise the setting max_pages"
            )
        texts = []
        length = 0
        for slide in slides:
            texts.append(_slide(package, slide))
            length += len(texts[-1])
            check_length(length, limits.max_text_chars)
        return Parsed(texts, paged=True, metadata=_metadata(package))


class _Package:
    """Parts by name, and what they refer to."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._names = set(archive.namelist())
        # No entities, no network; the package's own check has refused document types already.
        self._parser = etree.XMLParser(resolve_entities=False, no_network=True)

    def part(self, name: str) -> Any:
        """The root element of a part. Raises `CorruptDocumentError` when there is none."""
        if name not in self._names:
            raise CorruptDocumentError(f"{name!r} is missing in the file: save it anew")
        return etree.fromstring(self._archive.read(name), self._parser)

    def related(self, part: str) -> dict[str, tuple[str, str]]:
        """Type and name of what a part refers to, by id; external targets are left out."""
        folder, name = posixpath.split(part)
        path = posixpath.join(folder, "_rels", f"{name}.rels")
        if path not in self._names:
            return {}
        return {
            each.get("Id", ""): (each.get("Type", ""), _target(folder, each.get("Target", "")))
            for each in self.part(path).iter(_RELATED)
            if each.get("TargetMode") != "External"
        }

    def find(self, part: str, kind: str) -> str | None:
        """The part of that kind that a part refers to."""
        for type_, target in self.related(part).values():
            if type_.endswith(kind) and target in self._names:
                return target
        return None

    def only(self, part: str, kind: str) -> str:
        """As `find`. Raises `CorruptDocumentError` when there is none."""
        found = self.find(part, kind)
        if found is None:
            raise CorruptDocumentError(f"the file has no {kind.strip('/')}: save it anew")
        return found


def _target(folder: str, target: str) -> str:
    """A part's name from what a relationship says: absolute, or from the folder."""
    return posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")


def _slides(package: _Package, main: str) -> Iterator[str]:
    """Names of the slides' parts, in the order of the show."""
    related = package.related(main)
    for entry in package.part(main).iter(f"{_P}sldId"):
        known = related.get(entry.get(f"{_R}id", ""))
        if known is None:
            raise CorruptDocumentError("a slide is listed and not in the file: save it anew")
        yield known[1]


def _slide(package: _Package, name: str) -> str:
    related = package.related(name)
    titles: list[str] = []
    blocks: list[str] = []
    for shape in _shapes(package.part(name)):
        kind = _placeholder(shape)
        if kind in _TITLES:
            titles.append(heading(one_line("\n".join(_paragraphs(shape))), 1))
        elif kind not in _MARGINS:
            blocks.extend(_block(package, shape, related))
    notes = package.find(name, _NOTES)
    if notes is not None and (said := _notes(package.part(notes))):
        blocks.append(f"Notes: {said}")
    return "\n\n".join(filter(str.strip, [*titles, *blocks]))


def _shapes(element: Any) -> Iterator[Any]:
    """Shapes and frames below an element, groups opened, in reading order."""
    for child in element:
        if child.tag in {f"{_P}sp", f"{_P}graphicFrame", f"{_P}cxnSp"}:
            yield child
        elif isinstance(child.tag, str) and child.tag != _FALLBACK:
            yield from _shapes(child)


def _placeholder(shape: Any) -> str | None:
    """What kind of placeholder a shape fills: `title`, `body`, …; None for a free shape."""
    found = shape.find(f"{_P}nvSpPr/{_P}nvPr/{_P}ph")
    return None if found is None else found.get("type", "body")


def _block(package: _Package, shape: Any, related: dict[str, tuple[str, str]]) -> Iterator[str]:
    """The text of one shape: paragraphs, or rows of a table."""
    tables = list(shape.iter(f"{_A}tbl"))
    for table in tables:
        yield "\n".join(filter(str.strip, (_row(line) for line in table.iter(f"{_A}tr"))))
    if not tables:
        yield "\n".join(_paragraphs(shape))
    for diagram in shape.iter(_DIAGRAM):
        known = related.get(diagram.get(f"{_R}dm", ""))
        if known is not None:
            yield "\n".join(filter(str.strip, _paragraphs(package.part(known[1]))))


def _row(line: Any) -> str:
    return row("\n".join(_paragraphs(cell)) for cell in line.iter(f"{_A}tc"))


def _paragraphs(element: Any) -> Iterator[str]:
    for paragraph in element.iter(f"{_A}p"):
        yield "".join(_runs(paragraph))


def _runs(paragraph: Any) -> Iterator[str]:
    for each in paragraph.iter(f"{_A}t", f"{_A}br"):
        yield "\n" if each.tag == f"{_A}br" else each.text or ""


def _notes(page: Any) -> str:
    """What the speaker wrote; the page also holds the slide's picture and its number."""
    shapes = [shape for shape in _shapes(page) if _placeholder(shape) == "body"]
    return "\n".join(line for shape in shapes for line in _paragraphs(shape)).strip()


def _metadata(package: _Package) -> dict[str, str]:
    name = package.find("", _PROPERTIES)
    if name is None:
        return {}
    core = package.part(name)
    said = {"title": "title", "author": "creator", "subject": "subject"}
    return {key: one_line(core.findtext(f"{_CORE}{tag}") or "") for key, tag in said.items()}
