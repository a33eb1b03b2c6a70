"""DOCX: headers, body with its tables, footers, in reading order.

The walk is ours, over python-docx's element tree: its own iteration leaves out content controls
and text boxes, where templates for invoices keep half of what matters.
"""

import io
import re
from collections.abc import Iterator, Mapping

import docx
from docx.document import Document as DocxDocument
from docx.oxml.ns import qn

from rotina.knowledge.loading.archive import unpacked
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.text import Parsed, heading, one_line, row

_PARAGRAPH, _TABLE, _ROW, _CELL = qn("w:p"), qn("w:tbl"), qn("w:tr"), qn("w:tc")
_TEXT, _TAB, _HYPHEN = qn("w:t"), qn("w:tab"), qn("w:noBreakHyphen")
_BREAKS = {qn("w:br"), qn("w:cr")}
_BOX = qn("w:txbxContent")
_PROPERTIES = {qn("w:pPr"), qn("w:rPr")}
_STYLE, _OUTLINE, _VALUE = qn("w:pStyle"), qn("w:outlineLvl"), qn("w:val")
_HEADING_STYLE = re.compile(r"heading ([1-9])$", re.IGNORECASE)
_BODY_LEVEL = 9
"""The outline level of text (ECMA-376 part 1, 17.3.1.20)."""
_TITLE_LEVEL = 1
_ANCESTORS = 20
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
    blocks = [*headers, *_blocks(document.element.body, _heading_styles(document)), *footers]
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


def _heading_styles(document: DocxDocument) -> dict[str, int]:
    """Levels by style id: a title is 1, «heading 1» is 2, and so on; ids are in any language."""
    found = {}
    for style in document.styles.element.iterfind(qn("w:style")):
        level = _style_level(style, document)
        if level is not None:
            found[style.get(qn("w:styleId"), "")] = level
    return found


def _style_level(style: object, document: DocxDocument) -> int | None:
    """By name, by outline level, or as the style that it is based on."""
    for _ in range(_ANCESTORS):
        name = style.find(qn("w:name"))  # type: ignore[attr-defined]
        called = "" if name is None else name.get(_VALUE, "")
        if called.lower() == "title":
            return _TITLE_LEVEL
        if match := _HEADING_STYLE.match(called):
            return _TITLE_LEVEL + int(match[1])
        outline = style.find(f"{qn('w:pPr')}/{_OUTLINE}")  # type: ignore[attr-defined]
        if outline is not None:
            return _outline_level(outline)
        base = style.find(qn("w:basedOn"))  # type: ignore[attr-defined]
        style = None if base is None else document.styles.element.get_by_id(base.get(_VALUE, ""))
        if style is None:
            return None
    return None


def _outline_level(outline: object) -> int | None:
    value = outline.get(_VALUE, "")  # type: ignore[attr-defined]
    level = int(value) if value.isdecimal() else _BODY_LEVEL
    return _TITLE_LEVEL + 1 + level if level < _BODY_LEVEL else None


def _level(paragraph: object, styles: Mapping[str, int]) -> int | None:
    """Of a heading; None for other paragraphs."""
    properties = paragraph.find(qn("w:pPr"))  # type: ignore[attr-defined]
    if properties is None:
        return None
    outline = properties.find(_OUTLINE)
    if outline is not None:
        return _outline_level(outline)
    style = properties.find(_STYLE)
    return None if style is None else styles.get(style.get(_VALUE, ""))


def _blocks(container: object, styles: Mapping[str, int] | None = None) -> Iterator[str]:
    """Paragraphs and table rows below `container`, whatever wraps them."""
    for element in container:  # type: ignore[attr-defined]
        if element.tag == _PARAGRAPH:
            level = _level(element, styles) if styles else None
            text = _paragraph(element)
            yield text if level is None else heading(text, level)
            for box in _boxes(element):
                yield from _blocks(box)
        elif element.tag == _TABLE:
            yield from _rows(element)
        elif isinstance(element.tag, str) and element.tag not in _LEFT_OUT:
            yield from _blocks(element, styles)


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
