"""Identifiers (tax numbers, IBANs, phone numbers) compared without their punctuation."""

import re
from array import array

from rotina.grounding.characters import is_word
from rotina.grounding.normalised import Normalised, normalise

MIN_LENGTH = 4
MAX_LENGTH = 64
LONG = 7
"""From here on letters and digits may be parted by spaces, and digits by anything: shorter ones
would be found across neighbouring columns ("12 34") or in ranges ("10-20")."""

_GAP = re.compile(r"[ ./\\+*#:()_-]{1,3}")
_TIES = "./-"
_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,' ][0-9]+)+|[+-][0-9]+")


class Codes:
    """The letters and digits of a text, punctuation and white space left out."""

    def __init__(self, normalised: Normalised) -> None:
        self.normalised = normalised
        text = normalised.text
        self.offsets = array("L", (i for i, each in enumerate(text) if each.isalnum()))
        self.letters = "".join(map(text.__getitem__, self.offsets))

    def find(self, value: str) -> list[tuple[int, int]]:
        """Normalised spans that hold the same letters and digits, at token boundaries."""
        code = code_of(value)
        if code is None:
            return []
        spaced = len(code) >= LONG
        tight = code.isdigit() and not spaced
        spans, at = [], self.letters.find(code)
        while at >= 0:
            start, end = self.offsets[at], self.offsets[at + len(code) - 1] + 1
            if (not tight or end - start == len(code)) and self._fits(start, end, spaced=spaced):
                spans.append((start, end))
            at = self.letters.find(code, at + 1)
        return spans

    def _fits(self, start: int, end: int, *, spaced: bool) -> bool:
        text = self.normalised.text
        if end - start > 3 * MAX_LENGTH or not self.normalised.stands_alone(start, end):
            return False
        if start > 1 and text[start - 1] in _TIES and is_word(text[start - 2]):
            return False
        if end + 1 < len(text) and text[end] in _TIES and is_word(text[end + 1]):
            return False
        return self._gaps_fit(start, end, spaced=spaced)

    def _gaps_fit(self, start: int, end: int, *, spaced: bool) -> bool:
        gaps = re.findall(r"[^\w]+|_+", self.normalised.text[start:end])
        if not all(_GAP.fullmatch(gap) and (spaced or " " not in gap) for gap in gaps):
            return False
        span = self.normalised.span(start, end)
        if span is None:
            return False
        quote = self.normalised.original[span[0] : span[1]]
        return not re.search(r"[\n\t\f\r\v]|\s{2}", quote)


def code_of(value: str) -> str | None:
    """The letters and digits of an identifier; None when the value is not one.

    An identifier has 4 to 64 letters and digits, a digit among them. Amounts with a decimal
    mark or a sign are numbers instead, and short digits with punctuation (10-20, 12/2025) are
    too easily something else.
    """
    if len(value) > 3 * MAX_LENGTH:
        return None
    plain = normalise(value)
    if _NUMBER.fullmatch(plain) and not _is_phone_or_grouped(plain):
        return None
    code = "".join(character for character in plain if character.isalnum())
    if not MIN_LENGTH <= len(code) <= MAX_LENGTH or not any(map(str.isdigit, code)):
        return None
    return None if code.isdigit() and code != plain and len(code) < LONG else code


def _is_phone_or_grouped(plain: str) -> bool:
    """Digits in space-parted groups or after a plus sign: `+55 11 98765`, `123 456 789 00012`."""
    return bool(re.fullmatch(r"\+?[0-9]+(?: [0-9]+)*", plain)) and len(plain) > LONG
