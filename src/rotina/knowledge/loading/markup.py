"""HTML: the text that a reader sees, blocks on lines of their own, table rows on one line each."""

import re
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from rotina.knowledge.loading.charset import decode
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.text import Parsed, heading, one_line, row, unmarked

_BLOCKS = frozenset(
    {
        *(
            "address",
            "article",
            "aside",
            "blockquote",
            "body",
            "caption",
            "center",
            "dd",
            "details",
        ),
        *("dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form"),
        *("h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "html", "legend", "li", "main"),
        *("menu", "nav", "ol", "option", "p", "pre", "section", "summary", "table", "tbody"),
        *("tfoot", "thead", "title", "ul", "details"),
    }
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_SPACED = frozenset({*_HEADINGS, "p", "table"})
"""Blocks that browsers set apart by an empty line."""
_UNSEEN = frozenset(
    {
        *("script", "style", "head", "template", "noscript", "iframe", "object", "svg", "math"),
        *("select", "datalist"),
    }
)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t\n\r\f]+")
_LINE_BLANKS = re.compile(r" *\n *")


@dataclass
class _Cell:
    """Text under construction: of the page, or of a table's cell."""

    parts: list[str] = field(default_factory=list)
    line_ends: int = 2
    """How many line ends stand last; a beginning needs none."""

    def write(self, text: str) -> None:
        """Add text; blanks at a line's beginning are the source's layout, not the reader's."""
        if text.strip() or not self.line_ends:
            self.parts.append(text.lstrip(" ") if self.line_ends else text)
            self.line_ends = 0

    def end_line(self, least: int = 1) -> None:
        """Make sure that what follows is `least` line ends further."""
        self.parts.append("\n" * (least - self.line_ends))
        self.line_ends = max(self.line_ends, least)

    def mark_heading(self, first: int, level: int) -> None:
        """Make what was written since the part `first` a heading."""
        written = "".join(self.parts[first:])
        if written.strip():
            self.parts[first:] = [heading(written, level)]
            self.line_ends = 0

    def text(self) -> str:
        """What was written, as lines."""
        return _LINE_BLANKS.sub("\n", re.sub(" +", " ", "".join(self.parts))).strip("\n ")


class _Reader:
    """Follows the tree and keeps the open cells and rows on stacks."""

    def __init__(self) -> None:
        self.cells = [_Cell()]
        self.rows: list[list[str]] = []
        self.headings: list[int] = []
        """Where the open ones begin, in parts of their cells."""

    def enter(self, node: LexborNode) -> None:
        tag = node.tag
        if tag == "-text":
            self.cells[-1].write(_text(node))
        elif tag == "br":
            self.cells[-1].end_line(self.cells[-1].line_ends + 1)
        elif tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"} and self.rows:
            self.cells.append(_Cell())
        elif tag in _BLOCKS:
            self._break(tag)
            if tag in _HEADINGS:
                self.headings.append(len(self.cells[-1].parts))

    def leave(self, node: LexborNode) -> None:
        tag = node.tag
        if tag == "tr":
            self.cells[-1].end_line()
            self.cells[-1].write(row(self.rows.pop()))
            self.cells[-1].end_line()
        elif tag in {"td", "th"} and self.rows:
            self.rows[-1].append(self.cells.pop().text())
        elif tag in _BLOCKS:
            if tag in _HEADINGS:
                self.cells[-1].mark_heading(self.headings.pop(), _HEADINGS[tag])
            self._break(tag)

    def _break(self, tag: str) -> None:
        self.cells[-1].end_line(2 if tag in _SPACED else 1)


def parse(content: bytes, limits: Limits) -> Parsed:  # noqa: ARG001 - the parsers' common form
    """Read an HTML page."""
    declared = _CHARSET.search(content[:4096])
    text, charset = decode(content, declared.group(1).decode() if declared else None)
    tree = LexborHTMLParser(text)
    title = tree.css_first("title")
    metadata = {"charset": charset, "title": one_line(title.text()) if title else ""}
    return Parsed([_visible(tree)], metadata=metadata)


def visible_text(html: str) -> str:
    """What a reader sees of an HTML text, headings unmarked."""
    return unmarked(_visible(LexborHTMLParser(html)))


def _visible(tree: LexborHTMLParser) -> str:
    reader = _Reader()
    if tree.body is not None:
        _walk(tree.body, reader)
    return reader.cells[0].text()


def _walk(top: LexborNode, reader: _Reader) -> None:
    """Depth first without recursion: nesting is the author's choice, and may be hostile."""
    stack: list[tuple[LexborNode, bool]] = [(top, True)]
    while stack:
        node, entering = stack.pop()
        if not entering:
            reader.leave(node)
            continue
        reader.enter(node)
        stack.append((node, False))
        children = []
        child = node.child
        while child is not None:
            if not _is_unseen(child):
                children.append(child)
            child = child.next
        stack.extend((child, True) for child in reversed(children))


def _is_unseen(node: LexborNode) -> bool:
    if node.tag == "-text":
        return False
    if node.tag is None or node.tag in _UNSEEN or node.tag.startswith(("-", "!")):
        return True
    attributes = node.attributes
    return "hidden" in attributes or bool(_HIDDEN.search(attributes.get("style") or ""))


def _text(node: LexborNode) -> str:
    text = node.text_content or ""
    parent = node.parent
    if parent is not None and parent.tag in {"pre", "textarea"}:
        return text
    return _BLANKS.sub(" ", text)
