"""Forms with small captions above their values, as a Brazilian nota fiscal has them.

Read line by line, the captions come first and the values after, and an empty cell shifts them all.
Where the page makes it plain which caption a value stands under, caption and value are put beside
each other, so the form's row becomes one line.
"""

from collections.abc import Iterator, Sequence

from rotina.knowledge.loading.pdf_glyphs import Segment

Row = list[Segment]

_SMALLER = 0.93
"""Captions are set at most this large, compared with their values."""
_NEAR = 2.5
"""A value's baseline lies at most this many of its heights below the caption's."""
_SLACK = 0.5
"""Heights by which a value may stick out of its caption's column."""


def beside_values(block: Sequence[Row]) -> Iterator[Row]:
    """The rows of a block, a row of captions merged with the row of values below it."""
    index = 0
    while index < len(block):
        cells = _cells(block[index], block[index + 1]) if index + 1 < len(block) else None
        if cells is None or _goes_on(block, index):
            yield block[index]
            index += 1
        else:
            yield cells
            index += 2


def _goes_on(block: Sequence[Row], index: int) -> bool:
    """Whether a second row of values follows: then it is a table with a header."""
    if index + 2 >= len(block) or len(block[index + 2]) < 2:  # noqa: PLR2004
        return False
    return _cells(block[index], block[index + 2], near=False) is not None


def _cells(captions: Row, values: Row, *, near: bool = True) -> Row | None:
    """Caption, value, caption, value …; None unless every value has one caption to itself."""
    if len(captions) < 2 or not _are_captions(captions, values):  # noqa: PLR2004
        return None
    height = values[0].height
    if near and captions[0].bottom - values[0].bottom > _NEAR * height:
        return None
    merged: Row = []
    left = list(values)
    for index, caption in enumerate(captions):
        end = captions[index + 1].left if index + 1 < len(captions) else float("inf")
        merged.append(caption)
        inside = [one for one in left if _lies_between(one, caption.left, end)]
        if len(inside) > 1:
            return None
        if inside:
            left.remove(inside[0])
            merged.append(_next_to(caption, inside[0]))
    return None if left else merged


def _are_captions(captions: Row, values: Row) -> bool:
    largest = max(segment.height for segment in captions)
    return largest <= _SMALLER * min(segment.height for segment in values)


def _lies_between(value: Segment, start: float, end: float) -> bool:
    slack = _SLACK * value.height
    return value.left >= start - slack and value.right <= end + slack


def _next_to(caption: Segment, value: Segment) -> Segment:
    """The value, moved behind its caption at the distance of a word."""
    start = caption.right + 0.5 * value.height
    return Segment(value.text, start, start, caption.bottom, value.height)
