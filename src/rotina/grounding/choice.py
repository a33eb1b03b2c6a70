"""Which of several candidates proves a leaf: by its label, and by where its siblings stand.

Leaves with one candidate are settled first, then the less ambiguous before the more ambiguous.
A leaf inside an array item (a line of an invoice) goes to the line of its settled siblings;
other leaves go to their label. Ties go to characters no other leaf took, the more literal
match, and the first in the text, so the result is always the same.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import NamedTuple

from rotina.grounding.labels import LabelReader, Labels, nearness
from rotina.grounding.leaves import Leaf
from rotina.grounding.source import Candidate, Source

_MANY = 48
"""More candidates than this are narrowed to those near labels and siblings."""
_NEIGHBOURS = 4
_FREQUENT = 100
"""A label word that stands more often than this tells candidates apart no longer."""

_SLIGHT = 2
"""A number of so few digits stands almost anywhere in a business document …"""
_ITEM_LINES = 4
"""… so for an array item it proves nothing further than this many lines from its siblings."""

Key = tuple[float, ...]


class _Anchors:
    """Settled leaves of one object: (offset, order of the field) sorted by each."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.by_order: list[tuple[int, int]] = []

    def add(self, order: int, start: int) -> None:
        insort(self.offsets, start)
        insort(self.by_order, (order, start))

    def gap(self, offset: int) -> int:
        """Distance in characters to the nearest settled sibling."""
        at = bisect_left(self.offsets, offset)
        return min(abs(offset - each) for each in self.offsets[max(0, at - 1) : at + 1])

    def disorder(self, order: int, offset: int) -> int:
        """How many neighbours in field order stand on the wrong side of `offset`."""
        at = bisect_left(self.by_order, (order, offset))
        before = self.by_order[at - 1][1] if at else -1
        after = self.by_order[at][1] if at < len(self.by_order) else offset + 1
        return (before > offset) + (after < offset)


class _Task(NamedTuple):
    order: int
    leaf: Leaf
    candidates: list[Candidate]
    labels: Labels


class Chooser:
    """Settles the leaves of one extraction in one source."""

    def __init__(self, source: Source, reader: LabelReader) -> None:
        self._source = source
        self._reader = reader
        self._anchors: dict[tuple[str | int, ...], _Anchors] = {}
        self._taken: set[int] = set()
        self._nearness: dict[tuple[Labels, int, int], float] = {}

    def choose(self, leaves: list[Leaf]) -> list[Candidate | None]:
        """For each leaf its candidate, or None when there is none."""
        chosen: list[Candidate | None] = [None] * len(leaves)
        for task in sorted(self._tasks(leaves), key=_ambiguity):
            best = self._best(task)
            if not self._strays(task, best):
                chosen[task.order] = best
                self._settle(task, best)
        return chosen

    def _tasks(self, leaves: list[Leaf]) -> Iterator[_Task]:
        for order, leaf in enumerate(leaves):
            candidates = self._source.candidates(leaf.value)
            if candidates:
                yield _Task(order, leaf, candidates, self._reader.read(leaf.tokens))

    def _settle(self, task: _Task, best: Candidate) -> None:
        self._taken.add(best.start)
        for prefix in _objects(task.leaf.tokens):
            self._anchors.setdefault(prefix, _Anchors()).add(task.order, best.start)

    def _best(self, task: _Task) -> Candidate:
        if len(task.candidates) == 1:
            return task.candidates[0]
        prefixes = _objects(task.leaf.tokens)
        own = next((self._anchors[each] for each in prefixes if each in self._anchors), None)
        in_array = any(isinstance(token, int) for token in task.leaf.tokens)
        previous = self._previous(prefixes[-1]) if in_array and own is None else None
        near = own or previous
        options = task.candidates if len(task.candidates) <= _MANY else self._narrow(task, near)
        if in_array and own is not None:
            return min(options, key=lambda each: self._beside(task, each, own))
        if previous is not None:
            return min(options, key=lambda each: self._after(each, previous))
        return min(options, key=lambda each: self._labelled(task, each, own))

    def _strays(self, task: _Task, best: Candidate) -> bool:
        """Whether a slight number of an array item was found only far from the item."""
        text = str(task.leaf.value)
        digits = sum(character.isdigit() for character in text)
        in_array = any(isinstance(token, int) for token in task.leaf.tokens)
        if not in_array or not 0 < digits <= _SLIGHT or any(map(str.isalpha, text)):
            return False
        prefixes = _objects(task.leaf.tokens)
        own = next((self._anchors[each] for each in prefixes if each in self._anchors), None)
        return own is not None and self._lines_between(best, own) > _ITEM_LINES

    def _beside(self, task: _Task, each: Candidate, anchors: _Anchors) -> Key:
        return (
            self._lines_between(each, anchors),
            each.start in self._taken,
            -self._near(task.labels, each),
            anchors.disorder(task.order, each.start),
            anchors.gap(each.start),
            each.rank,
            each.start,
        )

    def _after(self, each: Candidate, previous: _Anchors) -> Key:
        return (
            each.start in self._taken,
            each.start < previous.offsets[0],
            previous.gap(each.start),
            each.rank,
            each.start,
        )

    def _labelled(self, task: _Task, each: Candidate, siblings: _Anchors | None) -> Key:
        return (
            -self._near(task.labels, each),
            each.start in self._taken,
            each.rank,
            self._lines_between(each, siblings) if siblings else 0,
            each.start,
        )

    def _near(self, labels: Labels, each: Candidate) -> float:
        key = (labels, each.start, each.end)
        if key not in self._nearness:
            self._nearness[key] = nearness(labels, each, self._source)
        return self._nearness[key]

    def _lines_between(self, each: Candidate, anchors: _Anchors) -> int:
        at = bisect_left(anchors.offsets, each.start)
        line = self._line(each.start)
        nearest = anchors.offsets[max(0, at - 1) : at + 1]
        return min(abs(line - self._line(offset)) for offset in nearest)

    def _line(self, offset: int) -> int:
        return bisect_right(self._source.lines, offset)

    def _previous(self, prefix: tuple[str | int, ...]) -> _Anchors | None:
        """Settled leaves of the array item before the one at `prefix`."""
        index = prefix[-1] if prefix else None
        if not isinstance(index, int) or not index:
            return None
        return self._anchors.get((*prefix[:-1], index - 1))

    def _narrow(self, task: _Task, near: _Anchors | None) -> list[Candidate]:
        """Candidates beside label words and settled siblings, and the first ones."""
        found = set(task.candidates[:_NEIGHBOURS])
        for offset in [*self._label_offsets(task.labels), *self._edges(near)]:
            at = bisect_left(task.candidates, (offset,))
            found.update(task.candidates[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS])
        free = (each for each in task.candidates if each.start not in self._taken)
        found.update(each for _, each in zip(range(_NEIGHBOURS), free, strict=False))
        return sorted(found)

    def _label_offsets(self, labels: Labels) -> Iterator[int]:
        words = self._source.words
        for word in sorted(labels.all):
            if words.count(word) <= _FREQUENT:
                yield from (words.original_starts[at] for at in words.places.get(word, ()))

    @staticmethod
    def _edges(anchors: _Anchors | None) -> list[int]:
        if anchors is None:
            return []
        offsets = anchors.offsets
        step = max(1, len(offsets) // _NEIGHBOURS)
        return offsets if len(offsets) <= 2 * _NEIGHBOURS else [*offsets[::step], offsets[-1]]


def _ambiguity(task: _Task) -> tuple[int, int, int]:
    return len(task.candidates), -len(str(task.leaf.value)), task.order


def _objects(tokens: tuple[str | int, ...]) -> list[tuple[str | int, ...]]:
    """Paths of the objects around a leaf, innermost first, up to its array item or the root."""
    prefixes = []
    for length in range(len(tokens) - 1, -1, -1):
        prefixes.append(tokens[:length])
        if length and isinstance(tokens[length - 1], int):
            break
    return prefixes
