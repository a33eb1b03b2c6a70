"""DOCX: headers, body with its tables, footers, in reading order.

The walk is ours, over python-docx's element tree: its own iteration leaves out content controls
and text boxes, where templates for invoices keep half of what matters.
"""

import io
from collections.abc import Iterator

import docx
from docx.document import Document as DocxDocument
from docx.oxml.ns import qn

from rotina.knowledge.loading.archive import unpacked
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.text import Parsed, one_line, row

_PARAGRAPH, _TABLE, _ROW, _CELL = qn("w:p"), qn("w:tbl"), qn("w:tr"), qn("w:tc")
_TEXT, _TAB, _HYPHEN = qn("w:t"), qn("w:tab"), qn("w:noBreakHyphen")
_BREAKS = {qn("w:br"), qn("w:cr")}
_BOX = qn("w:txbxContent")
_PROPERTIES = {qn("w:pPr"), qn("w:rPr")}
# Deleted text, and the second copy of a drawing for readers of 2007.
_LEFT_OUT = {
    qn("w:del"),
    qn("w:moveFrom"),
    "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback",
}


def parse(content: bytes, limits: Limits) -> Parsed:
    """Read a DOCX file. It has no pages: only a printer's layout would tell."""
    document = docx.Document(io.BytesIO(unpacked(content, max_bytes=limits.max_unzipped_bytes)))
    headers, footers = _margins(document)
    blocks = [*headers, *_blocks(document.element.body), *footers]
    return Parsed(["\n".join(blocks)], metadata=_metadata(document))


def _margins(document: DocxDocument) -> tuple[list[str], list[str]]:
    """The texts of headers and of footers, each once however many sections repeat it."""
    headers: dict[str, None] = {}
    footers: dict[str, None] = {}
    for section in document.sections:
        for found, parts in (
            (headers, (section.first_page_header, section.header, section.even_page_header)),
            (footers, (section.first_page_footer, section.footer, section.even_page_footer)),
        ):
            for part in parts:
                if not part.is_linked_to_previous:
                    found["\n".join(_blocks(part._element)).strip()] = None  # noqa: SLF001
    return list(filter(None, headers)), list(filter(None, footers))


def _blocks(container: object) -> Iterator[str]:
    """Paragraphs and table rows below `container`, whatever wraps them."""
    for element in container:  # type: ignore[attr-defined]
        if element.tag == _PARAGRAPH:
            yield _paragraph(element)
            for box in _boxes(element):
                yield from _blocks(box)
        elif element.tag == _TABLE:
            yield from _rows(element)
        elif isinstance(element.tag, str) and element.tag not in _LEFT_OUT:
            yield from _blocks(element)


def _rows(table: object) -> Iterator[str]:
    for line in _nearest(table, _ROW):
        text = row("\n".join(filter(None, _blocks(cell))) for cell in _nearest(line, _CELL))
        if text:
            yield text


def _nearest(element: object, tag: str) -> Iterator[object]:
    """Descendants of that tag, not looking inside them (tables nest)."""
    for child in element:  # type: ignore[attr-defined]
        if child.tag == tag:
            yield child
        elif isinstance(child.tag, str) and child.tag not in _LEFT_OUT:
            yield from _nearest(child, tag)


def _boxes(paragraph: object) -> Iterator[object]:
    return _nearest(paragraph, _BOX)


def _paragraph(paragraph: object) -> str:
    return "".join(_runs(paragraph))


def _runs(element: object) -> Iterator[str]:
    for child in element:  # type: ignore[attr-defined]
        if child.tag == _TEXT:
            yield child.text or ""
        elif child.tag == _TAB:
            yield "\t"
        elif child.tag in _BREAKS:
            yield "\n"
        elif child.tag == _HYPHEN:
            yield "-"
        elif isinstance(child.tag, str) and child.tag not in _LEFT_OUT | _PROPERTIES | {_BOX}:
            yield from _runs(child)


def _metadata(document: DocxDocument) -> dict[str, str]:
    core = document.core_properties
    return {
        "title": one_line(core.title),
        "author": one_line(core.author),
        "subject": one_line(core.subject),
    }
