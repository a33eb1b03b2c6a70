"""From PDFium's characters to segments: runs of text without a wide gap, with their place.

PDFium gives characters in the order of the page's program, right-to-left scripts already in logical
order. Within a segment that order is kept; only segments are moved about.
"""

import ctypes
import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pypdfium2.raw as pdfium_c

_WIDE_GAP = 1.0
"""A gap wider than this share of the line height ends a segment: words stand at about a third."""
_SAME_LINE = 0.5
"""Baselines nearer than this share of the line height are one line (sub- and superscripts)."""
_BACK = 1.0
"""A ligature's letters share one box: so far may a character lie behind the one before it."""
_HYPHENS = {"\x02", "\ufffe"}
"""What PDFium makes of a hyphen at a line's end."""
_UPRIGHT = math.radians(10)


@dataclass(slots=True)
class Segment:
    """A run of text; points, the origin at the page's lower left, `bottom` the baseline."""

    text: str
    left: float
    right: float
    bottom: float
    height: float
    upright: bool = True


@dataclass(slots=True)
class _Glyph:
    character: str
    left: float
    right: float
    bottom: float
    height: float
    upright: bool


def segments(page: Any) -> list[Segment]:
    """The segments of a `pypdfium2.PdfPage`, in the order of its program."""
    textpage = page.get_textpage()
    try:
        return list(_join(_glyphs(textpage.raw, textpage.count_chars(), _turn(page))))
    finally:
        textpage.close()


def _turn(page: Any) -> int:
    """Degrees, clockwise, by which a viewer turns the page."""
    return int(page.get_rotation()) % 360


def _glyphs(textpage: Any, count: int, turn: int) -> Iterator[_Glyph | None]:
    """Every character; None where PDFium ends a line."""
    box = pdfium_c.FS_RECTF()
    x, y = ctypes.c_double(), ctypes.c_double()
    for index in range(count):
        character = chr(pdfium_c.FPDFText_GetUnicode(textpage, index))
        if character in "\r\n":
            yield None
            continue
        if not pdfium_c.FPDFText_GetLooseCharBox(textpage, index, box):
            continue
        pdfium_c.FPDFText_GetCharOrigin(textpage, index, x, y)
        angle = pdfium_c.FPDFText_GetCharAngle(textpage, index) + math.radians(turn)
        left, bottom, right, top = _turned(box.left, box.bottom, box.right, box.top, turn)
        _, base, _, _ = _turned(x.value, y.value, x.value, y.value, turn)
        yield _Glyph(
            "-" if character in _HYPHENS else character,
            left,
            right,
            base,
            max(top - bottom, 0.1),
            abs(math.remainder(angle, math.tau)) < _UPRIGHT,
        )


def _turned(
    left: float, bottom: float, right: float, top: float, turn: int
) -> tuple[float, float, float, float]:
    """A box as the viewer sees it; the origin moves, which does not matter here."""
    if turn == 90:  # noqa: PLR2004
        return bottom, -right, top, -left
    if turn == 180:  # noqa: PLR2004
        return -right, -top, -left, -bottom
    if turn == 270:  # noqa: PLR2004
        return -top, left, -bottom, right
    return left, bottom, right, top


def _join(glyphs: Iterator[_Glyph | None]) -> Iterator[Segment]:
    current: Segment | None = None
    blank = False
    for glyph in glyphs:
        if glyph is None:
            if current:
                yield current
            current, blank = None, False
        elif glyph.character.isspace():
            blank = True
        elif current and _continues(current, glyph):
            current.text += " " * blank + glyph.character
            current.left = min(current.left, glyph.left)
            current.right = max(current.right, glyph.right)
            current.height = max(current.height, glyph.height)
            blank = False
        else:
            if current:
                yield current
            current, blank = _start(glyph), False
    if current:
        yield current


def _start(glyph: _Glyph) -> Segment:
    return Segment(
        glyph.character, glyph.left, glyph.right, glyph.bottom, glyph.height, glyph.upright
    )


def _continues(segment: Segment, glyph: _Glyph) -> bool:
    if segment.upright != glyph.upright:
        return False
    if not segment.upright:  # turned text runs another way; PDFium's line ends part it
        return True
    reach = max(segment.height, glyph.height)
    if abs(glyph.bottom - segment.bottom) > _SAME_LINE * reach:
        return False
    gap = glyph.left - segment.right
    if gap < -_BACK * reach:  # backwards: fine for right-to-left scripts and marks
        return _runs_backwards(glyph.character) and segment.left - glyph.right < _WIDE_GAP * reach
    return gap < _WIDE_GAP * reach


def _runs_backwards(character: str) -> bool:
    return unicodedata.bidirectional(character) in {"R", "AL", "AN", "NSM", "EN", "ON", "CS", "ES"}
