"""Every date a text states, in digits or with English and Portuguese month names (CLDR)."""

import re
from collections.abc import Iterator
from datetime import date, datetime, time
from functools import lru_cache
from typing import Literal, NamedTuple

from rotina.grounding.normalised import Normalised, normalise

Order = Literal["day", "month"]
"""What comes first in a numeric date."""

_LOCALES = ("en", "en_GB", "pt", "pt_PT")
_PIVOT = 69
"""Two-digit years from here on are of the 1900s, as in POSIX strptime."""

_START = r"(?<![\w.,/:-])"
_END = r"(?![\w%]|[.,/:-]\d)"
_NUMERIC = re.compile(
    rf"{_START}(?:(?P<y1>\d{{4}})(?P<s1> ?[./-] ?| )(?P<m1>\d{{1,2}})(?P=s1)(?P<d1>\d{{1,2}})"
    rf"|(?P<a>\d{{1,2}})(?P<s2> ?[./-] ?| )(?P<b>\d{{1,2}})(?P=s2)(?P<y2>\d{{4}}|\d{{2}}))"
    rf"(?:{_END}|(?=t\d))"
)
_CLOCK = re.compile(
    r"(?P<hour>\d{1,2})(?:[:h](?P<minute>\d{2}))?(?::(?P<second>\d{2}))?"
    r"(?:[.,]\d{1,6})? ?(?P<half>[ap]\.? ?m\b\.?)?"
)
_BETWEEN = re.compile(r"(?:,? (?:at |as |a |on |- )?|t|, ?)?")
_FIRM = re.compile(r"[./-]|[^\W\d].*\d{4}|\d{4}.*[^\W\d]")
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}.*)?")


class Stated(NamedTuple):
    """A date in normalised text at `[start, end)`, with the dates it may mean."""

    start: int
    end: int
    readings: frozenset[date]
    order: Order | None
    """Which order its own digits give away."""


@lru_cache(maxsize=1)
def months() -> dict[str, int]:
    """Normalised month names and abbreviations to 1-12."""
    from babel import Locale  # noqa: PLC0415 - slow to import, and only dates need it

    found: dict[str, int] = {}
    for locale in map(Locale.parse, _LOCALES):
        for context in ("format", "stand-alone"):
            for width in ("wide", "abbreviated"):
                for number, name in locale.months[context][width].items():
                    found[normalise(name).rstrip(".")] = number
    return found


@lru_cache(maxsize=1)
def _worded() -> tuple[re.Pattern[str], ...]:
    """Patterns for dates with a month name: day, month, year in their usual orders."""
    names = "|".join(sorted(map(re.escape, months()), key=lambda name: (-len(name), name)))
    month = rf"(?P<month>{names})\.?"
    day = r"(?P<day>\d{1,2}) ?(?:st|nd|rd|th|[oº]\.?)?"
    year = rf"(?P<year>\d{{4}}|'?\d{{2}}){_END}"
    link = r"(?: ?[./-] ?|,? ?(?:de |do |of |the )?)"
    gap = r"(?: ?[./-] ?|, ?|,? (?:de |do |of |the )?)"
    return (
        re.compile(rf"{_START}{day}{link}{month}{link}{year}"),
        # A gap, or "maio de 2024" would be the 20th of May.
        re.compile(rf"(?<!\w){month}{link}{day}{gap}{year}"),
        re.compile(rf"{_START}(?P<year>\d{{4}}){link}{month}{link}{day}{_END}"),
    )


class Dates:
    """All dates of a text. Linear in the text.

    A numeric date that could be day-first or month-first is settled by the others of the same
    text, then by `fallback`, and else keeps both readings.
    """

    def __init__(self, normalised: Normalised, fallback: Order | None = None) -> None:
        self.normalised = normalised
        stated = sorted({*self._numeric(), *self._named()}, key=lambda each: each[:2])
        orders = {each.order for each in stated} - {None}
        self.order = orders.pop() if len(orders) == 1 else fallback
        self.by_value: dict[date, list[Stated]] = {}
        self.spans: list[tuple[int, int]] = []
        """Original spans whose digits are dates and not numbers, in order, without overlaps."""
        for each in stated:
            self._index(each)

    def find(self, value: date | datetime) -> list[tuple[int, int]]:
        """Original spans that state this date; for a datetime, this time next to it too."""
        day = value.date() if isinstance(value, datetime) else value
        found = self.by_value.get(day, [])
        if not isinstance(value, datetime) or value.time() == time():
            return self._original((each.start, each.end) for each in found)
        timed = ((each.start, self._clock_end(each, value.time())) for each in found)
        return self._original((start, end) for start, end in timed if end)

    def _original(self, spans: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
        found = (self.normalised.span(start, end) for start, end in spans)
        return sorted({span for span in found if span})

    def _index(self, stated: Stated) -> None:
        text = self.normalised.text[stated.start : stated.end]
        span = self.normalised.span(stated.start, stated.end)
        if span and _FIRM.search(text) and (not self.spans or span[0] >= self.spans[-1][1]):
            self.spans.append(span)
        for reading in self._settled(stated):
            self.by_value.setdefault(reading, []).append(stated)

    def _settled(self, stated: Stated) -> frozenset[date]:
        if len(stated.readings) == 1 or self.order is None:
            return stated.readings
        text = self.normalised.text[stated.start : stated.end]
        first = int(re.split(r"\D", text, maxsplit=1)[0])
        wanted = (each for each in stated.readings if self._leads(each) == first)
        return frozenset(wanted)

    def _leads(self, reading: date) -> int:
        return reading.day if self.order == "day" else reading.month

    def _numeric(self) -> Iterator[Stated]:
        for match in _NUMERIC.finditer(self.normalised.text):
            if not self._is_tight(match):
                continue
            if match["y1"]:
                possible = [_date(match["y1"], match["m1"], match["d1"])]
            else:
                possible = [_date(match["y2"], match["b"], match["a"])]
                if "." not in match["s2"]:
                    possible.append(_date(match["y2"], match["a"], match["b"]))
            valid = frozenset(each for each in possible if each)
            if valid:
                yield Stated(*match.span(), valid, _order(match, valid))

    def _is_tight(self, match: re.Match[str]) -> bool:
        """Digits parted by spaces only: on one line, one space each, and a four-digit year."""
        if (match["s1"] or match["s2"]) != " ":
            return True
        span = self.normalised.span(*match.span())
        year = match["y1"] or match["y2"]
        if span is None or len(year) != 4:  # noqa: PLR2004
            return False
        quote = self.normalised.original[slice(*span)]
        return len(quote) == len(match[0]) and "\n" not in quote

    def _named(self) -> Iterator[Stated]:
        for pattern in _worded():
            for match in pattern.finditer(self.normalised.text):
                number = str(months()[match["month"]])
                found = _date(match["year"].lstrip("'"), number, match["day"])
                if found:
                    yield Stated(*match.span(), frozenset({found}), None)

    def _clock_end(self, stated: Stated, wanted: time) -> int | None:
        """Where the time after a date ends, when it is the wanted time."""
        between = _BETWEEN.match(self.normalised.text, stated.end)
        assert between is not None
        clock = _CLOCK.match(self.normalised.text, between.end())
        if clock is None or not (clock["minute"] or clock["half"]):
            return None
        hour = int(clock["hour"])
        if clock["half"]:
            hour = hour % 12 + (12 if clock["half"][0] == "p" else 0)
        shown = (hour, int(clock["minute"] or 0), int(clock["second"] or 0))
        same = shown == (wanted.hour, wanted.minute, wanted.second)
        return clock.start() + len(clock[0].rstrip()) if same else None


def _order(match: re.Match[str], valid: frozenset[date]) -> Order | None:
    if match["y1"] or "." in match["s2"] or len(valid) > 1 or match["a"] == match["b"]:
        return None
    return "day" if next(iter(valid)).day == int(match["a"]) else "month"


def _date(year: str, month: str, day: str) -> date | None:
    number = int(year)
    if len(year) == 2:  # noqa: PLR2004
        number += 1900 if number >= _PIVOT else 2000
    try:
        return date(number, int(month), int(day))
    except ValueError:
        return None


def date_of(value: str) -> date | datetime | None:
    """The date or datetime of an ISO 8601 string in extended form, else None."""
    if not _ISO.fullmatch(value):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if len(value) > len("2025-01-31") else moment.date()
