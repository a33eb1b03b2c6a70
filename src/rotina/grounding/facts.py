"""The facts a text states that must not be wrong: numbers with their units, dates, times, codes.

Each is read by value, so that "R$ 1.234,50" and "1,234.50 reais", "7 dias úteis" and "seven
business days" are the same fact, in whichever language.
"""

import re
import unicodedata
from collections.abc import Hashable, Iterable, Iterator
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import NamedTuple

from rotina.grounding import Source, find
from rotina.grounding.dates import months
from rotina.grounding.vocabulary import (
    AFTER_TENS,
    MONEY,
    ONES,
    ORDINALS,
    SCALES,
    TENS,
    UNITS,
    WEEKDAYS,
    WORKING,
    plain,
)

Reading = tuple[str, Hashable]
"""Kind and value, e.g. `("quantity", (Decimal(7), "business day"))`."""

_CONTACT = re.compile(r"https?://\S+|www\.\S+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_CODE = re.compile(r"(?<![\w$])[A-Za-z][A-Za-z]*[-/.]?\d[\w]*(?:[-/.]\w*\d\w*)*(?!\w)")
_CLOCK = re.compile(
    r"(?<![\d:,.])(?P<hour>\d{1,2})(?:[:h](?P<minute>[0-5]\d))?\s?(?P<half>[ap]\.?\s?m\b\.?)?"
    r"(?![\d:])"
)
_UNIT = re.compile(
    r"[\s\u00a0-]?(?:(?P<before>business|working|calendar|consecutive|full)\s+)?"
    r"(?P<unit>[a-z]+)(?![a-z])(?:\s+(?P<after>uteis|util|corridos?))?"
)
_PERCENT = re.compile(r"[\s\u00a0]?(?:%|percent\b|per cent\b|por cento\b)")
_MONEY_BEFORE = re.compile(r"(r\$|us\$|\$|€|£|\b(?:brl|usd|eur|gbp))[\s\u00a0]?-?\Z")
_MONEY_AFTER = re.compile(r"[\s\u00a0]?(?:de |of )?(€|£|[a-z]+)(?![a-z])")
_SCALE = re.compile(rf"[\s\u00a0-]?(?P<scale>{'|'.join(SCALES)})(?![\w/])")
_RANGE = re.compile(r"\s*(?:-|–|—|to|a|e|ate|or|ou|and)\s*")
_WORDS = re.compile(r"[a-z]+(?:-[a-z]+)?")
_COMPOUND = re.compile(
    rf"\b(?P<tens>{'|'.join(TENS)})(?:(?:[- ]| e )(?P<ones>{'|'.join(AFTER_TENS)}))?\b"
    rf"|\b(?P<one>{'|'.join(ONES)})\b"
)
_VERBS = {"march", "may"}
"""Months that are other words too: they count beside a day or a year, or as a name."""
_SENTENCE_ENDS = ("", *".!?:;\n\"'“‘(-–—•*#|>")
"""What a word with a capital may follow without being a name; the text's beginning too."""
_NOON, _HOURS_A_DAY = 12, 24


class Stated(NamedTuple):
    """A fact at `[start, end)`; any one of its readings may be meant."""

    start: int
    end: int
    readings: frozenset[Reading]


class _Number(NamedTuple):
    start: int
    end: int
    values: frozenset[Decimal]


class Facts:
    """What a text states, read once. `language` says how to read 1.234 and 03/04/2025."""

    def __init__(self, text: str, language: str | None = None) -> None:
        self.text = unicodedata.normalize("NFC", text)
        self.source = Source(self.text, language=language)
        self._plain = plain(self.text)
        self._taken: list[tuple[int, int]] = []

    @cached_property
    def codes(self) -> list[str]:
        """Codes, addresses and links: compared letter by letter, not by value."""
        found = list(_CONTACT.finditer(self.text)) + list(_CODE.finditer(self.text))
        self._taken += [match.span() for match in found]
        return [match.group().rstrip(".,;:!?)") for match in found]

    @cached_property
    def stated(self) -> list[Stated]:
        """Every fact but the codes, by position."""
        _ = self.codes
        found = []
        for readers in (self._dates, self._days, self._clocks, self._weekdays, self._months):
            for each in readers():
                if not self._overlaps(each.start, each.end):
                    self._taken.append((each.start, each.end))
                    found.append(each)
        return sorted([*found, *self._quantities()], key=lambda each: each[:2])

    @cached_property
    def explicit(self) -> list[Stated]:
        """The facts written in digits, and names of days and months.

        For comparisons that free wording must not fail: "two", "a hundred" and "segunda" are
        often no numbers or days at all.
        """
        return [fact for fact in self.stated if self._is_explicit(fact)]

    def _is_explicit(self, fact: Stated) -> bool:
        written = self._plain[fact.start : fact.end]
        kinds = {kind for kind, _ in fact.readings}
        if "weekday" in kinds:
            return written not in ORDINALS
        named = kinds & {"month", "date", "day"}
        return bool(named) or any(character.isdigit() for character in written)

    @cached_property
    def provided(self) -> frozenset[Reading]:
        """Everything the text can prove."""
        return frozenset(each for fact in self.stated for each in _implied(fact.readings))

    def missing_in(self, proof: "Facts") -> list[str]:
        """The facts of this text, as written, that `proof` does not state."""
        facts = [
            self.text[fact.start : fact.end]
            for fact in self.stated
            if proof.provided.isdisjoint(fact.readings)
        ]
        return facts + [code for code in self.codes if not find(code, proof.source)]

    def _overlaps(self, start: int, end: int) -> bool:
        return any(start < last and first < end for first, last in self._taken)

    def _dates(self) -> Iterator[Stated]:
        spans: dict[tuple[int, int], set[Reading]] = {}
        for moment, places in self.source.dates.by_value.items():
            for place in places:
                span = self.source.normalised.span(place.start, place.end)
                if span in self.source.dates.spans and span is not None:
                    spans.setdefault(span, set()).add(("date", moment))
        for (start, end), readings in spans.items():
            yield Stated(start, end, frozenset(readings))

    def _days(self) -> Iterator[Stated]:
        for pattern in _day_patterns():
            for match in pattern.finditer(self._plain):
                day = months()[match["month"]], int(match["day"])
                yield Stated(*match.span(), frozenset({("day", day)}))

    def _clocks(self) -> Iterator[Stated]:
        for match in _CLOCK.finditer(self._plain):
            hour, minute = int(match["hour"]), int(match["minute"] or 0)
            if not (match["minute"] or match["half"]) or hour > _HOURS_A_DAY:
                continue
            if match["half"]:
                hour = hour % _NOON + (_NOON if match["half"][0] == "p" else 0)
            end = match.start() + len(match.group().rstrip())
            yield Stated(match.start(), end, frozenset({("minute", 60 * hour + minute)}))

    def _weekdays(self) -> Iterator[Stated]:
        for match in _WORDS.finditer(self._plain):
            day = WEEKDAYS.get(match.group().partition("-")[0])
            if day is not None:
                yield Stated(*match.span(), frozenset({("weekday", day)}))

    def _months(self) -> Iterator[Stated]:
        for match in _month_pattern().finditer(self._plain):
            if match["month"] not in _VERBS or match["year"] or self._is_name(match.start("month")):
                reading: Reading = "month", months()[match["month"]]
                yield Stated(*match.span("month"), frozenset({reading}))

    def _is_name(self, start: int) -> bool:
        """Whether the word is written with a capital that begins no sentence."""
        before = self.text[:start].rstrip(" \t\u00a0")
        return self.text[start].isupper() and before[-1:] not in _SENTENCE_ENDS

    def _numbers(self) -> list[_Number]:
        """Numbers in digits and in words that are part of nothing read before."""
        spans: dict[tuple[int, int], set[Decimal]] = {}
        for value, places in self.source.numbers.by_value.items():
            for place in places:
                if not self.text[slice(*place)].rstrip().endswith("%"):
                    spans.setdefault(place, set()).add(value)
        found = [_Number(*span, frozenset(values)) for span, values in spans.items()]
        found += map(_worded, _COMPOUND.finditer(self._plain))
        found += [self._scaled(number) for number in found]
        kept: list[_Number] = []
        for number in sorted(found, key=lambda each: (each.start - each.end, each.start)):
            clear = all(number.end <= k.start or k.end <= number.start for k in kept)
            if clear and not self._overlaps(number.start, number.end):
                kept.append(number)
        return sorted(kept)

    def _scaled(self, number: _Number) -> _Number:
        """`3.2 million` and `five hundred thousand` as one number; any other one as it is."""
        while scale := _SCALE.match(self._plain, number.end):
            factor = SCALES[scale["scale"]]
            values = frozenset(value * factor for value in number.values)
            number = _Number(number.start, scale.end(), values)
        return number

    def _quantities(self) -> list[Stated]:
        """Numbers with the unit, currency or percent sign beside them; a range shares its unit."""
        found: list[Stated] = []
        follower: tuple[int, str, str] | None = None
        for number in reversed(self._numbers()):
            kind, unit = self._unit(number)
            between = "" if follower is None else self._plain[number.end : follower[0]]
            if kind == "number" and follower and _RANGE.fullmatch(between):
                kind, unit = follower[1:]
            follower = number.start, kind, unit
            readings = {_reading(kind, value, unit) for value in number.values}
            found.append(Stated(number.start, number.end, frozenset(self._or_clock(readings))))
        return found

    def _unit(self, number: _Number) -> tuple[str, str]:
        """The number's kind and unit."""
        before, after = self._plain[: number.start], self._plain[number.end :]
        if _PERCENT.match(after):
            return "percent", ""
        if sign := _MONEY_BEFORE.search(before):
            return "money", MONEY[sign[1]]
        if (name := _MONEY_AFTER.match(after)) and name[1] in MONEY:
            return "money", MONEY[name[1]]
        unit = _UNIT.match(after)
        if unit is None or unit["unit"] not in UNITS:
            return "number", ""
        working = WORKING & {unit["before"], unit["after"]}
        return "quantity", ("business " if working else "") + UNITS[unit["unit"]]

    @staticmethod
    def _or_clock(readings: Iterable[Reading]) -> Iterator[Reading]:
        """`9h` and `9 horas` may be nine hours or nine o'clock."""
        for kind, value in readings:
            yield kind, value
            if kind == "quantity" and isinstance(value, tuple) and value[1] == "hour":
                hours = value[0]
                if hours == int(hours) and 0 <= hours <= _HOURS_A_DAY:
                    yield "minute", 60 * int(hours)


def _reading(kind: str, value: Decimal, unit: str) -> Reading:
    return (kind, (value, unit)) if unit else (kind, value)


def _implied(readings: Iterable[Reading]) -> Iterator[Reading]:
    """A fact, and the lesser facts that follow from it."""
    for kind, value in readings:
        yield kind, value
        if kind == "date":
            yield "day", (value.month, value.day)  # type: ignore[attr-defined]
            yield "month", value.month  # type: ignore[attr-defined]
            yield "number", Decimal(value.year)  # type: ignore[attr-defined]
        elif kind == "day" and isinstance(value, tuple):
            yield "month", value[0]
        elif kind in {"quantity", "money"} and isinstance(value, tuple):
            yield "number", value[0]
        elif kind == "percent":
            yield "number", value


def _worded(match: re.Match[str]) -> _Number:
    value = ONES[match["one"]] if match["one"] else TENS[match["tens"]]
    if match["ones"]:
        value += AFTER_TENS[match["ones"]]
    return _Number(*match.span(), frozenset({Decimal(value)}))


@lru_cache(maxsize=1)
def _names() -> str:
    """Whole month names; abbreviations are other words too often (`out`, `set`)."""
    wide = sorted((name for name in months() if len(name) > 3), key=len, reverse=True)  # noqa: PLR2004
    return "|".join(map(re.escape, [*wide, "may"]))


@lru_cache(maxsize=1)
def _day_patterns() -> tuple[re.Pattern[str], ...]:
    """A day and a month without a year."""
    day = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th|[ºo])?"
    return (
        re.compile(rf"(?<![\d.,/-]){day}\s+(?:de |of )?(?P<month>{_names()})\b"),
        re.compile(rf"\b(?P<month>{_names()})\s+{day}(?![\d.,/:-]*\d)"),
    )


@lru_cache(maxsize=1)
def _month_pattern() -> re.Pattern[str]:
    return re.compile(rf"\b(?P<month>{_names()})\b(?P<year>,?\s+(?:de |of )?\d{{4}})?")
