"""Reads a number or date that was copied out of a source, by that source's own conventions."""

import re
from datetime import date
from decimal import Decimal
from typing import Generic, NamedTuple, TypeVar

from rotina.grounding.dates import Dates
from rotina.grounding.normalised import Normalised
from rotina.grounding.numbers import even_out, readings
from rotina.grounding.source import Source

T = TypeVar("T")

_NUMBER = re.compile(r"[.,]?[0-9]+(?:[.,' \u00a0][0-9]+)*")


class Reading(NamedTuple, Generic[T]):
    """What a copied text means."""

    value: T
    certain: bool
    """False when the source's conventions allow another reading as well."""


def read_number(text: str, source: Source) -> Reading[Decimal] | None:
    """The number in `text` ("R$ 12.500,00", "(5.00)", "17 %"), or None when it is not one number.

    Where nothing in the source tells whether 1.234 is grouped, it is read as grouped.
    """
    plain = even_out(text)
    matches = list(_NUMBER.finditer(plain))
    if len(matches) != 1:
        return None
    digits = matches[0].group()
    values = readings(f"0{digits}" if digits[0] in ".," else digits, source.numbers.mark)
    if not values:
        return None
    before, after = plain[: matches[0].start()], plain[matches[0].end() :]
    if any(character.isdigit() for character in before + after):
        return None
    negative = "-" in before or after.strip().startswith("-") or ("(" in before and ")" in after)
    value = max(values)
    return Reading(value.copy_negate() if negative else value, certain=len(values) == 1)


def read_date(text: str, source: Source) -> Reading[date] | None:
    """The date in `text`, or None when it is not one date.

    Where nothing in the source tells the order of 03/04/2025, the day comes first.
    """
    stated = Dates(Normalised(text), source.dates.order)
    found = sorted(stated.by_value)
    spans = {(each.start, each.end) for entries in stated.by_value.values() for each in entries}
    if not found or (len(found) > 1 and len(spans) > 1):
        return None
    if len(found) == 1:
        return Reading(found[0], certain=True)
    day_first = Dates(Normalised(text), "day")
    return Reading(next(iter(day_first.by_value)), certain=False)
