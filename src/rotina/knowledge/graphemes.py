"""Where a text may be cut without parting what a reader sees as one character (UAX 29)."""

import regex

_EXTENDS = regex.compile(r"[\p{GCB=Extend}\p{GCB=SpacingMark}\p{GCB=ZWJ}]")
_PREPENDS = regex.compile(r"\p{GCB=Prepend}")
_CONTROLS = regex.compile(r"[\p{GCB=Control}\p{GCB=CR}\p{GCB=LF}]")
_CLUSTER = regex.compile(r"\X")
_FIRST_EXTENDING, _FIRST_PREPENDING = "\u0300", "\u0600"
_AHEAD = 64
"""Characters beyond a cut that show whether the cluster there goes on."""


def is_joined(text: str, index: int) -> bool:
    """Whether a cut at `index` parts a cluster, where one of its sides is white space.

    `0 < index < len(text)`. Beside white space only three of the rules of UAX 29 join: accents and
    their like hang on to a blank (GB9, GB9a), and a few signs to what follows them (GB9b).
    """
    left, right = text[index - 1], text[index]
    if right < _FIRST_EXTENDING and left < _FIRST_PREPENDING:
        return left == "\r" and right == "\n"
    if _EXTENDS.match(right):
        return not _CONTROLS.match(left)
    return bool(_PREPENDS.match(left)) and not _CONTROLS.match(right)


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without the blanks around it, but for those that are part of a character."""
    inner = text[start:end]
    first = start + len(inner) - len(inner.lstrip())
    if first >= end:
        return end, end
    last = start + len(inner.rstrip())
    if first > start and is_joined(text, first):
        first -= 1
    if last < end and is_joined(text, last):
        last += 1
    return first, last


def after_blanks(text: str, start: int, end: int) -> int:
    """Where the span's text begins, up to `end`; a blank that is part of a character is text."""
    first = start
    while first < end and text[first].isspace():
        first += 1
    return first - 1 if start < first < end and is_joined(text, first) else first


def last_boundary(text: str, start: int, latest: int, end: int) -> int:
    """The last place up to `latest` where no cluster is parted; `start` is such a place.

    A cluster longer than all of `[start, latest)` leaves none: then it is `latest`.
    """
    stop = min(end, latest + _AHEAD)
    cut = start
    for cluster in _CLUSTER.finditer(text, start, stop):
        if cluster.end() > latest or (cluster.end() == stop < end):
            break
        cut = cluster.end()
    return cut if cut > start else latest
