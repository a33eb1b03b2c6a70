"""Text with case, accents, white space and line breaks evened out, mapped back to the original."""

import re
from array import array

from rotina.grounding.characters import SEPARATORS, fold, is_mark, joined

_SIMPLE = re.compile(r"[!-_a-~]+(?: [!-_a-~]+)*")
_SPACE = re.compile(r"\s+")
_HYPHENS = "-\u00ad\u2010"
_TIGHT_SPACES = "\u00a0\u202f\u2009"
_GROUP = 3


class Normalised:
    """`text` is the normalised form; character i of it stands for `[starts[i], ends[i])`.

    A word hyphenated at a line end is one word: with `keep_hyphens` its hyphen stays
    (`well-\\nknown` as well-known), without it goes (`infor-\\nmation` as information).
    Building takes time linear in the text.
    """

    def __init__(self, original: str, *, keep_hyphens: bool = False) -> None:
        self.original = original
        self.hyphenated = False
        self._pieces: list[str] = []
        self._keep_hyphens = keep_hyphens
        self.starts = array("L")
        self.ends = array("L")
        self._build()
        self.text = "".join(self._pieces)
        self._pieces.clear()

    def _build(self) -> None:
        position, size = 0, len(self.original)
        while position < size:
            if simple := _SIMPLE.match(self.original, position):
                self._put(simple.group().lower(), range(position, simple.end()))
                position = simple.end()
            elif space := _SPACE.match(self.original, position):
                self._put_space(position, space.end())
                position = space.end()
            else:
                self._put_character(position)
                position += 1

    def _put(self, folded: str, at: range) -> None:
        self._pieces.append(folded)
        self.starts.extend(at)
        self.ends.extend(range(at.start + 1, at.stop + 1))

    def _put_character(self, position: int) -> None:
        character = self.original[position]
        folded = fold(character)
        for part in folded:
            self._put(part, range(position, position + 1))
        if not folded and self.ends and is_mark(character):
            self.ends[-1] = position + 1  # an accent belongs to the quote of its letter

    def _put_space(self, start: int, end: int) -> None:
        if self._breaks_word(start, end):
            self.hyphenated = True
            if not self._keep_hyphens and self._pieces[-1].endswith("-"):
                self._pieces[-1] = self._pieces[-1][:-1]
                del self.starts[-1], self.ends[-1]
        elif self._pieces and self._pieces[-1].endswith(" "):
            self.ends[-1] = end
        else:
            self._pieces.append(" ")
            self.starts.append(start)
            self.ends.append(end)

    def _breaks_word(self, start: int, end: int) -> bool:
        text = self.original
        return (
            start > 1
            and end < len(text)
            and text[start - 1] in _HYPHENS
            and text[start - 2].isalpha()
            and text[end].isalpha()
            and "\n" in text[start:end]
        )

    def span(self, start: int, end: int) -> tuple[int, int] | None:
        """The original `[start, end)` of normalised `[start, end)`.

        None when an end falls inside one original character (the f of ﬁ, an s of ß).
        """
        if start and self.starts[start - 1] == self.starts[start]:
            return None
        if end < len(self.text) and self.starts[end] == self.starts[end - 1]:
            return None
        return self.starts[start], self.ends[end - 1]

    def stands_alone(self, start: int, end: int) -> bool:
        """Whether normalised `[start, end)` begins and ends at token boundaries.

        "10" does not stand alone in 2010, 10.50, 10/03, -10 or 10 500 (no-break space), nor
        "Ana" in Banana.
        """
        return self._begins(start, end) and self._ends(start, end)

    def _begins(self, start: int, end: int) -> bool:
        if not start:
            return True
        before, first = self.text[start - 1], self.text[start]
        if joined(before, first):
            return False
        return self._begins_number(start, end, first, before)

    def _begins_number(self, start: int, end: int, first: str, before: str) -> bool:
        """Whether digits (or a sign before digits) at `start` begin there and not earlier."""
        earlier = self.text[start - 2] if start > 1 else " "
        if first in SEPARATORS:
            return not (before.isdigit() and self.text[start + 1 : start + 2].isdigit())
        if not first.isdigit():
            return True
        if before in SEPARATORS and earlier.isdigit():
            return False
        signed = before in "-.," and not earlier.isalnum() and earlier not in ".,"
        grouped = before == " " and earlier.isdigit() and self._groups(start - 1)
        return not grouped and not (signed and _is_numeric(self.text[start:end]))

    def _ends(self, start: int, end: int) -> bool:
        if end >= len(self.text):
            return True
        last, after = self.text[end - 1], self.text[end]
        if joined(last, after):
            return False
        if last in SEPARATORS and end - start > 1 and after.isdigit():
            return not self.text[end - 2].isdigit()
        if not last.isdigit():
            return True
        later = self.text[end + 1 : end + 2]
        if after in SEPARATORS and later.isdigit():
            return False
        return not (after == " " and later.isdigit() and self._groups(end))

    def _groups(self, space: int) -> bool:
        """Whether a normalised space is a no-break space before three digits: 10 500."""
        if self.original[self.starts[space]] not in _TIGHT_SPACES:
            return False
        digits = self.text[space + 1 : space + 1 + _GROUP]
        return len(digits) == _GROUP and digits.isdigit()


def _is_numeric(text: str) -> bool:
    return all(character.isdigit() or character in ".,' " for character in text)


def normalise(value: str, *, keep_hyphens: bool = False) -> str:
    """A value in normalised form, without outer white space."""
    return Normalised(value, keep_hyphens=keep_hyphens).text.strip()
