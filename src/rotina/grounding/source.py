"""A text and everything it states, indexed once: phrases, numbers, dates, currencies, codes."""

import re
from decimal import Decimal
from functools import cached_property
from typing import NamedTuple

from rotina.grounding import currencies
from rotina.grounding.codes import Codes, code_of
from rotina.grounding.dates import Dates, date_of
from rotina.grounding.evidence import Evidence, Method
from rotina.grounding.normalised import Normalised, normalise
from rotina.grounding.numbers import Mark, Numbers, decimal_of
from rotina.grounding.phrases import Words

_PORTUGUESE = re.findall(
    r"\w+",
    "de da do das dos para com nao uma em os por data vencimento emissao valor nota fiscal "
    "quantidade cnpj cpf reais pedido fatura cliente fornecedor endereco",
)
_ENGLISH = re.findall(
    r"\w+",
    "the of and to in for is with on this from date due amount invoice quantity price customer "
    "supplier address order",
)
_MARKS: dict[str | None, Mark] = {"pt": ",", "en": "."}
_SURROGATE = re.compile("[\ud800-\udfff]")
_CODE_DIGITS = 7
_TIGHT = 0
_LOOSE = 1
_BY_KIND = 2


class Candidate(NamedTuple):
    """Characters that may prove a value."""

    start: int
    end: int
    rank: int
    """0 letter by letter, 1 as normalised text, 2 by kind."""
    method: Method


class Source:
    """A text to ground values in. Indexes are built at first use, each in linear time.

    `language` ("pt", "en", "pt-BR", …) says how to read 03/04/2025 and 1.234 where the text's
    own dates and numbers do not; without it, the words of the text decide between Portuguese
    and neither.
    """

    def __init__(self, text: str, *, language: str | None = None) -> None:
        self.text = text
        self._language = language
        self._found: dict[tuple[type, str | float], list[Candidate]] = {}

    @cached_property
    def normalised(self) -> Normalised:
        """The text without case, accents, odd white space and hyphenation."""
        return Normalised(self.text)

    @cached_property
    def words(self) -> Words:
        """The words of the normalised text."""
        return Words(self.normalised)

    @cached_property
    def language(self) -> str | None:
        """Two-letter language that decides ambiguous dates and numbers, or None."""
        if self._language is not None:
            return self._language.lower()[:2]
        portuguese, english = (
            sum(map(self.words.count, words)) for words in (_PORTUGUESE, _ENGLISH)
        )
        if max(portuguese, english) < 2 or portuguese == english:  # noqa: PLR2004
            return None
        return "pt" if portuguese > english else "en"

    @cached_property
    def dates(self) -> Dates:
        """The dates the text states."""
        return Dates(self.normalised, "day" if self.language == "pt" else None)

    @cached_property
    def numbers(self) -> Numbers:
        """The numbers the text states."""
        return Numbers(self.text, self.dates.spans, _MARKS.get(self.language))

    @cached_property
    def codes(self) -> Codes:
        """The letters and digits of the text."""
        return Codes(self.normalised)

    @cached_property
    def lines(self) -> list[int]:
        """Offset of the first character of each line."""
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    @cached_property
    def _hyphens_kept(self) -> Words:
        return Words(Normalised(self.text, keep_hyphens=True))

    def candidates(self, value: object) -> list[Candidate]:
        """Everything that may prove a scalar, by position; empty for what nothing can prove."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return []
        key = (type(value), value)
        if key not in self._found:
            spans = self._text(value) if isinstance(value, str) else self._number(value)
            self._found[key] = self._distinct(spans)
        return self._found[key]

    def evidence(self, candidate: Candidate) -> Evidence:
        """The candidate with its quote."""
        return Evidence(
            start=candidate.start,
            end=candidate.end,
            quote=self.text[candidate.start : candidate.end],
            method=candidate.method,
        )

    def _distinct(self, candidates: list[Candidate]) -> list[Candidate]:
        """One candidate a place, the most literal; no quote that is not valid Unicode."""
        best: dict[tuple[int, int], Candidate] = {}
        for each in sorted(candidates):
            place = each.start, each.end
            if not _SURROGATE.search(self.text, *place):
                best.setdefault(place, each)
        return list(best.values())

    def _number(self, value: float) -> list[Candidate]:
        number = decimal_of(value)
        if number is None:
            return []
        found = [
            Candidate(start, end, _TIGHT, self._as_number(value, start, end))
            for start, end in self.numbers.find(number)
        ]
        digits = str(value) if isinstance(value, int) and value >= 10 ** (_CODE_DIGITS - 1) else ""
        return found or self._code(digits)

    def _as_number(self, value: float, start: int, end: int) -> Method:
        return "exact" if self.text[start:end] == str(value) else "number"

    def _text(self, value: str) -> list[Candidate]:
        if not any(character.isalnum() or ord(character) > 0x2000 for character in value):  # noqa: PLR2004
            return self._sign(value)
        found = self._phrase(value)
        moment, number = date_of(value.strip()), decimal_of(value)
        if moment is not None:
            found += self._kind(self.dates.find(moment), "date")
        elif currencies.is_code(value.strip()):
            spans = currencies.find(value.strip(), self.text, self.words)
            found += self._kind(spans, "currency")
        elif number is not None and not found:
            found = self._kind(self.numbers.find(number), "number")
        return found or ([] if moment is not None else self._code(value))

    def _sign(self, value: str) -> list[Candidate]:
        """A currency sign as a value by itself; other punctuation proves nothing."""
        wanted = value.strip()
        spans = (span for span, sign in currencies.signs(self.text) if sign == wanted)
        return [Candidate(start, end, _TIGHT, "exact") for start, end in spans]

    @staticmethod
    def _kind(spans: list[tuple[int, int]], method: Method) -> list[Candidate]:
        return [Candidate(start, end, _BY_KIND, method) for start, end in spans]

    def _phrase(self, value: str) -> list[Candidate]:
        found = self._matches(value, self.words, keep_hyphens=False)
        if "-" in value and self.normalised.hyphenated:
            found += self._matches(value, self._hyphens_kept, keep_hyphens=True)
        return found

    def _matches(self, value: str, words: Words, *, keep_hyphens: bool) -> list[Candidate]:
        phrase = normalise(value, keep_hyphens=keep_hyphens)
        if not phrase:
            return []
        wanted, found = value.strip(), []
        for start, end in words.find(phrase):
            span = words.normalised.span(start, end)
            if span is None:
                continue
            if self.text[span[0] : span[1]] == wanted:
                found.append(Candidate(*span, _TIGHT, "exact"))
            else:
                found.append(Candidate(*span, _LOOSE, "text"))
        return found

    def _code(self, value: str) -> list[Candidate]:
        code = code_of(value)
        if code is None:
            return []
        spans = (self.normalised.span(start, end) for start, end in self.codes.find(value))
        places = [span for span in spans if span and not self._is_other(code, *span)]
        return self._kind(places, "code")

    def _is_other(self, code: str, start: int, end: int) -> bool:
        """Whether the characters are a date, or a number of another value."""
        if not code.isdigit():
            return False
        if (start, end) in self.dates.spans:
            return True
        values = self.numbers.values_at(start, end)
        return bool(values) and values is not None and Decimal(code) not in values


def find(value: object, source: Source | str) -> list[Evidence]:
    """All the evidence there is for one scalar, the most literal first, then by position."""
    held = source if isinstance(source, Source) else Source(source)
    ranked = sorted(held.candidates(value), key=lambda each: (each.rank, each.start, each.end))
    return [held.evidence(candidate) for candidate in ranked]
