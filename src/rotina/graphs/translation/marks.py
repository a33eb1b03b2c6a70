"""Writes numbers with the marks of the language they are translated to."""

import re

from rotina.graphs.language import Language
from rotina.graphs.translation.protected import TOKEN

_NUMBER: dict[Language, re.Pattern[str]] = {
    "pt": re.compile(
        r"(?<![\w.,])\d{1,3}(?:\.\d{3})+(?:,\d+)?(?![\w]|[.,]\d)"
        r"|(?<![\w.,])\d+,\d+(?![\w]|[.,]\d)"
    ),
    "en": re.compile(
        r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w]|[.,]\d)"
        r"|(?<![\w.,])\d+\.\d+(?![\w]|[.,]\d)"
    ),
}
"""Numbers with a mark whose meaning is the other language's: `2.300` is 2300 in Portuguese."""
_SWAP = str.maketrans(".,", ",.")


def with_marks_of(translation: str, source: str, languages: tuple[Language, Language]) -> str:
    """The translation, its numbers that were copied letter by letter written as `to` writes them.

    `languages` is (from, to). Codes and protected tokens stay; so does a number that the source
    has in both notations, since it may have been translated already.
    """
    if languages[0] == languages[1]:
        return translation
    pattern = _NUMBER[languages[0]]
    copied = {match.group() for match in pattern.finditer(source)}
    copied = {number for number in copied if number.translate(_SWAP) not in copied}

    def written(match: re.Match[str]) -> str:
        number = match.group()
        return number.translate(_SWAP) if number in copied else number

    pieces, last = [], 0
    for token in TOKEN.finditer(translation):
        pieces += [pattern.sub(written, translation[last : token.start()]), token.group()]
        last = token.end()
    return "".join([*pieces, pattern.sub(written, translation[last:])])
