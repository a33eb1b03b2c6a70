"""Where a normalised phrase stands in normalised text, found through its rarest word."""

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property

from rotina.grounding.characters import is_unspaced
from rotina.grounding.normalised import Normalised

_WORD = re.compile(r"[^\Wºª]+")
_WORK = 20_000_000
"""Characters compared for one phrase before the search stops: repetitive text with a long
repetitive phrase would otherwise cost the product of their lengths."""


class Words:
    """The words of normalised text in order, and where each stands."""

    def __init__(self, normalised: Normalised) -> None:
        self.normalised = normalised
        self.words: list[str] = []
        self.starts = array("L")
        for match in _WORD.finditer(normalised.text):
            self.words.append(match.group())
            self.starts.append(match.start())

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """For each word, its ordinals in the text."""
        places: dict[str, list[int]] = {}
        for ordinal, word in enumerate(self.words):
            places.setdefault(word, []).append(ordinal)
        return places

    @cached_property
    def original_starts(self) -> "array[int]":  # array is subscriptable from 3.12 on
        """Offset of each word in the original text."""
        starts = self.normalised.starts
        return array("L", (starts[start] for start in self.starts))

    def count(self, word: str) -> int:
        """How often the word stands in the text."""
        return len(self.places.get(word, ()))

    def from_offset(self, offset: int) -> int:
        """Ordinal of the first word at or after an offset of the original text."""
        return bisect_left(self.original_starts, offset)

    def find(self, phrase: str) -> Iterator[tuple[int, int]]:
        """Normalised spans of a normalised phrase at token boundaries, without overlaps."""
        text, size = self.normalised.text, len(phrase)
        budget, past = _WORK, 0
        for start in self._starts(phrase):
            if start < past or not text.startswith(phrase, start):
                budget -= 8
            else:
                budget -= size
                if self.normalised.stands_alone(start, start + size):
                    yield start, start + size
                    past = start + size
            if budget < 0:
                return

    def _starts(self, phrase: str) -> Iterator[int]:
        words = [] if is_unspaced(phrase) else list(_WORD.finditer(phrase))
        if not words:
            yield from _occurrences(self.normalised.text, phrase)
            return
        rarest = min(words, key=lambda match: (self.count(match.group()), match.start()))
        for ordinal in self.places.get(rarest.group(), ()):
            start = self.starts[ordinal] - rarest.start()
            if start >= 0:
                yield start


def _occurrences(text: str, phrase: str) -> Iterator[int]:
    start = text.find(phrase)
    while start >= 0:
        yield start
        start = text.find(phrase, start + 1)
