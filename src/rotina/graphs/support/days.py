"""Reads the day a customer means: "12/03", "3 de dezembro", "amanhã", "next Friday"."""

import re
from datetime import date, timedelta

from rotina.grounding import Source, read_date
from rotina.grounding.facts import Facts
from rotina.grounding.vocabulary import plain

_RELATIVE = {
    "today": 0,
    "hoje": 0,
    "tomorrow": 1,
    "amanha": 1,
    "day after tomorrow": 2,
    "depois de amanha": 2,
}
_SHORT = re.compile(r"\b(?P<day>[0-3]?\d)/(?P<month>[01]?\d)\b(?!/)")
_WEEK = 7


def read_day(text: str, today: date) -> str | None:
    """The day as `YYYY-MM-DD`, or None when the text does not name exactly one.

    A day without a year is the next such day; `3/4` is the 3rd of April, as everywhere but in the
    United States; a weekday is the next one after today.
    """
    if stated := read_date(text, Source(text, language="pt")):
        return stated.value.isoformat()
    words = plain(text)
    for phrase in sorted(_RELATIVE, key=len, reverse=True):
        if re.search(rf"\b{phrase}\b", words):
            return (today + timedelta(days=_RELATIVE[phrase])).isoformat()
    if short := _SHORT.search(words):
        return _next(today, int(short["month"]), int(short["day"]))
    return _of_facts(text, today)


def _of_facts(text: str, today: date) -> str | None:
    """A day and a month, or a weekday."""
    readings = {each for fact in Facts(text).stated for each in fact.readings}
    days = [value for kind, value in readings if kind == "day" and isinstance(value, tuple)]
    weekdays = [value for kind, value in readings if kind == "weekday" and isinstance(value, int)]
    if len(days) == 1:
        return _next(today, *days[0])
    if len(weekdays) == 1:
        ahead = (weekdays[0] - today.weekday() - 1) % _WEEK + 1
        return (today + timedelta(days=ahead)).isoformat()
    return None


def _next(today: date, month: int, day: int) -> str | None:
    for year in (today.year, today.year + 1):
        try:
            found = date(year, month, day)
        except ValueError:
            continue
        if found >= today:
            return found.isoformat()
    return None
