"""Signs and names of currencies (CLDR, English and Portuguese) for an ISO 4217 code."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from rotina.grounding.normalised import normalise
from rotina.grounding.phrases import Words

_LOCALES = ("en", "pt")
_CODE = re.compile(r"[A-Z]{3}")
_SIGN = re.compile("[$\u00a2-\u00a5\u20a0-\u20cf\u0e3f]")
_LONGEST_PREFIX = 4
_SHORT_NAMES = {
    "dollar": "USD",
    "dollars": "USD",
    "dolar": "USD",
    "dolares": "USD",
    "reais": "BRL",
    "real": "BRL",
}
"""What people write without the country; CLDR has only the full names."""
_DOLLARS = ("CAD", "AUD", "NZD", "HKD", "SGD", "TWD", "MXN", "ARS", "CLP", "COP", "UYU")
_NEIGHBOURS = 2


class Currencies(NamedTuple):
    """What CLDR calls the currencies: codes by sign, codes by normalised name."""

    codes: frozenset[str]
    signs: dict[str, str]
    names: dict[str, str]


@lru_cache(maxsize=1)
def currencies() -> Currencies:
    """Every ISO 4217 code with its signs and unambiguous names in English and Portuguese."""
    from babel.numbers import (  # noqa: PLC0415 - slow to import, and only currencies need it
        get_currency_name,
        get_currency_symbol,
        list_currencies,
    )

    codes = frozenset(list_currencies())
    signs: dict[str, str] = {}
    meant: dict[str, set[str]] = {}
    for locale in _LOCALES:
        for code in sorted(codes):
            sign = get_currency_symbol(code, locale)
            if _SIGN.search(sign) and code != "XXX":
                signs[sign] = code
            for count in (None, 1, 2):
                name = normalise(get_currency_name(code, count, locale))
                meant.setdefault(name, set()).add(code)
    names = {name: found.pop() for name, found in meant.items() if len(found) == 1}
    return Currencies(codes, signs, names | _SHORT_NAMES)


def is_code(value: str) -> bool:
    """Whether a string is an ISO 4217 code."""
    return _CODE.fullmatch(value) is not None and value in currencies().codes


def find(code: str, text: str, words: Words) -> list[tuple[int, int]]:
    """Original spans of the signs and names that mean `code`, in order.

    A bare "$" means USD, unless the text names another dollar or peso.
    """
    spans = [span for span, sign in signs(text) if currencies().signs.get(sign) == code]
    spans += _named(code, words)
    if code == "USD" and any(text[start:end] == "$" for start, end in spans):
        others = {currencies().signs.get(sign) for _, sign in signs(text)}
        if any(other in others or _is_named(other, text, words) for other in _DOLLARS):
            spans = [(start, end) for start, end in spans if text[start:end] != "$"]
    return sorted(set(spans))


def _is_named(code: str, text: str, words: Words) -> bool:
    written = words.count(code.lower()) and re.search(rf"\b{code}\b", text)
    return bool(written) or bool(_named(code, words))


def signs(text: str) -> Iterator[tuple[tuple[int, int], str]]:
    """Each currency sign with the letters tied to its left: `$`, `R$`, `US$`.

    A sign with letters tied to its right ("$US", "$name") is no sign by itself, nor is one with an
    accent.
    """
    for match in _SIGN.finditer(text):
        start, end = match.span()
        while start and match.start() - start < _LONGEST_PREFIX and text[start - 1].isalpha():
            start -= 1
        following = text[end : end + 1]
        if not following or not (following.isalpha() or unicodedata.combining(following)):
            yield (start, end), text[start:end]


def _named(code: str, words: Words) -> list[tuple[int, int]]:
    names = [name for name, meant in currencies().names.items() if meant == code]
    spans = []
    for name in names:
        for start, end in words.find(name):
            span = words.normalised.span(start, end)
            if span and (name not in _SHORT_NAMES or _is_plain(name, span[0], words)):
                spans.append(span)
    return spans


def _is_plain(name: str, offset: int, words: Words) -> bool:
    """Whether a short name is neither a part of a longer name nor, as "real", an adjective."""
    at = words.from_offset(offset)
    before = words.words[max(0, at - _NEIGHBOURS) : at]
    after = words.words[at + 1 : at + 1 + _NEIGHBOURS]
    longer = {" ".join([*before[-count:], name]) for count in range(1, len(before) + 1)}
    longer |= {" ".join([name, *after[:count]]) for count in range(1, len(after) + 1)}
    if any(phrase in currencies().names for phrase in longer):
        return False
    return name != "real" or bool(before and before[-1].isdigit())
