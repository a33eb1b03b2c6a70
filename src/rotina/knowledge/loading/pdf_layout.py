"""From segments to lines in reading order.

A recursive cut along white space (the X-Y cut of Nagy and Seth, 1984) with one question added: do
the lines on both sides of a gutter share their baselines? If they do, it is a table (or keys with
their values), and its rows stay whole; if not, the sides are columns and are read one after the
other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Literal

from rotina.knowledge.loading.pdf_captions import beside_values
from rotina.knowledge.loading.pdf_glyphs import Segment

_GUTTER = 1.5
"""Narrowest gutter, in line heights."""
_ALIGNED = 0.3
"""Baselines nearer than this share of a line height are one row."""
_COMMON = 0.12
"""Nearer still if they were set on one baseline, and not beside each other by chance."""
_TABLE = 0.75
"""A gutter with at least this share of common rows runs through a table."""
_ALONE = 1
"""In a table of two or three rows, so many may have something on one side only."""
_PROSE_ROWS, _PROSE_CHARACTERS = 4, 30
"""Columns of prose share baselines too: this many lines, of that many characters on average."""
_PARAGRAPH = 2.2
"""Baselines further apart than this, in line heights, have an empty line between them."""
_MAX_SEGMENTS, _MAX_DEPTH = 3000, 60
"""Beyond these a page is no layout to puzzle over: its rows come out from top to bottom."""


@dataclass(slots=True)
class Gutter:
    """White space from top to bottom of a region."""

    left: float
    right: float

    @property
    def width(self) -> float:
        """In points."""
        return self.right - self.left


def page_text(found: Sequence[Segment]) -> str:
    """The page as lines; a gap between cells is two blanks, turned text comes last."""
    upright = [segment for segment in found if segment.upright]
    blocks = _regions(upright, 0) if len(upright) <= _MAX_SEGMENTS else iter([rows(upright)])
    turned = [segment.text for segment in found if not segment.upright]
    return "\n".join([*_lines(blocks), *turned])


def rows(found: Sequence[Segment]) -> list[list[Segment]]:
    """Segments on common baselines, from top to bottom, each row from left to right."""
    result: list[list[Segment]] = []
    for segment in sorted(found, key=lambda one: (-one.bottom, one.left)):
        reach = _ALIGNED * max(segment.height, result[-1][0].height) if result else 0
        if result and result[-1][0].bottom - segment.bottom <= reach:
            result[-1].append(segment)
        else:
            result.append([segment])
    for row in result:
        row.sort(key=lambda one: one.left)
    return result


def _regions(found: list[Segment], depth: int) -> Iterator[list[list[Segment]]]:
    """Blocks of rows, in reading order."""
    gutters = _gutters(found) if len(found) > 1 and depth <= _MAX_DEPTH else None
    if gutters is None:
        yield rows(found)
        return
    kinds = [_kind(found, gutter) for gutter in gutters]
    parts: tuple[list[Segment], list[Segment]] | None = None
    if "columns" in kinds:
        parts = _cut_along(found, gutters[kinds.index("columns")])
    elif not kinds:
        parts = _cut_across(found)
    elif "mixed" in kinds:  # lines that leave no white band across stand in columns
        parts = _cut_across(found) or _cut_along(found, gutters[kinds.index("mixed")])
    if parts is None:
        yield rows(found)
        return
    for part in parts:
        yield from _regions(part, depth + 1)


def _gutters(found: Sequence[Segment]) -> list[Gutter]:
    """The gutters wide enough to part columns, widest first."""
    least = _GUTTER * median(segment.height for segment in found)
    gutters = []
    reached = min(segment.right for segment in found)
    for segment in sorted(found, key=lambda one: one.left):
        if segment.left - reached >= least:
            gutters.append(Gutter(reached, segment.left))
        reached = max(reached, segment.right)
    return sorted(gutters, key=lambda gutter: -gutter.width)


def _kind(found: Sequence[Segment], gutter: Gutter) -> Literal["table", "columns", "mixed"]:
    """What the gutter parts: a table's cells, columns, or both, one above the other."""
    left, right = map(rows, _cut_along(found, gutter))
    if _is_prose(left) and _is_prose(right):
        return "columns"
    fewer, more = sorted((left, right), key=len)
    shared = [
        any(abs(one[0].bottom - other[0].bottom) <= _COMMON * one[0].height for other in more)
        for one in fewer
    ]
    alone = len(shared) - sum(shared)
    if any(shared) and alone <= max(_ALONE, (1 - _TABLE) * len(shared)):
        return "table"
    return "mixed" if any(map(all, pairwise(shared))) else "columns"


def _is_prose(side: Sequence[Sequence[Segment]]) -> bool:
    """Whether these are lines of running text, not rows of cells."""
    lengths = [len(row[0].text) for row in side if len(row) == 1]
    if len(lengths) < max(_PROSE_ROWS, _TABLE * len(side)):
        return False
    return fmean(lengths) >= _PROSE_CHARACTERS


def _cut_along(found: Sequence[Segment], gutter: Gutter) -> tuple[list[Segment], list[Segment]]:
    """The parts left and right of a gutter."""
    return (
        [segment for segment in found if segment.right <= gutter.left],
        [segment for segment in found if segment.left >= gutter.right],
    )


def _cut_across(found: Sequence[Segment]) -> tuple[list[Segment], list[Segment]] | None:
    """The parts above and below the widest white band, or None."""
    ordered = sorted(found, key=lambda one: -(one.bottom + one.height))
    reached = ordered[0].bottom
    widest, place = 0.0, 0
    for index, segment in enumerate(ordered):
        gap = reached - (segment.bottom + segment.height * 0.8)  # a box holds some air on top
        if gap > widest:
            widest, place = gap, index
        reached = min(reached, segment.bottom)
    return (ordered[:place], ordered[place:]) if place else None


def _lines(blocks: Iterator[list[list[Segment]]]) -> Iterator[str]:
    above: Segment | None = None
    for block in blocks:
        for row in beside_values(block):
            if above and _is_apart(above, row[0]):
                yield ""
            yield _line(row)
            above = row[0]


def _is_apart(above: Segment, below: Segment) -> bool:
    """Whether a reader sees a space between two lines, or has to look up to go on."""
    distance = above.bottom - below.bottom
    return distance < 0 or distance > _PARAGRAPH * max(above.height, below.height)


def _line(row: Sequence[Segment]) -> str:
    parts = [row[0].text]
    for before, segment in pairwise(row):
        gap = (segment.left - before.right) / max(before.height, segment.height)
        parts.append("" if abs(gap) < 0.1 else " " if abs(gap) < 1 else "  ")  # noqa: PLR2004
        parts.append(segment.text)
    return "".join(parts)
