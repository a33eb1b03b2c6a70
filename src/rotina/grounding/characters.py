"""What single characters mean to matching: how each folds, and where a token ends.

Folding is NFKC, case folding and the removal of accents (Unicode Standard, chapters 3.13, 4.3
and annex 15), with three restraints that keep different things different: superscript and
circled digits stay themselves (10² is not 102), marks that are letters of their own script
(Indic vowel signs, Japanese voicing, Thai vowels and tones) are no accents, and º ª ° are not
letters. Decimal digits of every script fold to 0-9.
"""

import re
import unicodedata
from functools import lru_cache

SEPARATORS = ".,'/:-"
"""Characters that tie digits together when they stand between two of them."""

_JOINER = "\u200d"
_QUOTES = "'\u2018\u2019\u201a\u201b\u2032\u02bc`\u00b4"
_DOUBLE_QUOTES = "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63\uff0d"
_AS = (
    dict.fromkeys(_QUOTES, "'")
    | dict.fromkeys(_DOUBLE_QUOTES, '"')
    | dict.fromkeys(_DASHES, "-")
    | {"º": "º", "°": "º", "ª": "ª"}
)

# Scripts written without spaces: a token may end anywhere in them.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
# Variation selectors, skin tones and emoji tags change the character before them.
_MODIFIERS = re.compile("[\ufe00-\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")


def _is_accent(character: str) -> bool:
    """Whether a mark only decorates its letter, by its canonical combining class."""
    combining = unicodedata.combining(character)
    return combining == 1 or 10 <= combining <= 36 or 200 <= combining <= 240  # noqa: PLR2004


@lru_cache(maxsize=65_536)
def fold(character: str) -> str:
    """The characters that stand for this one in normalised text; "" when it is ignored."""
    if character in _AS:
        return _AS[character]
    category = unicodedata.category(character)
    if category == "Cf" and character != _JOINER and not _MODIFIERS.match(character):
        return ""  # soft hyphens, zero-width spaces, direction marks
    if "\ufe00" <= character <= "\ufe0f":
        return ""
    if category == "No":
        return character
    if category == "Nd":
        return str(unicodedata.decimal(character))
    return _decompose(character)


def _decompose(character: str) -> str:
    parts = unicodedata.normalize("NFKD", character).casefold()
    parts = unicodedata.normalize("NFKD", parts)
    kept = "".join(_AS.get(part, part) for part in parts if not _is_accent(part))
    # A spacing accent decomposes to a space and a mark; it is no white space.
    return character if " " in kept else kept


@lru_cache(maxsize=65_536)
def is_mark(character: str) -> bool:
    """Whether the character belongs to the one before it."""
    return (
        unicodedata.category(character).startswith("M")
        or character == _JOINER
        or _MODIFIERS.match(character) is not None
    )


@lru_cache(maxsize=65_536)
def is_word(character: str) -> bool:
    """Whether the character is a part of words, numbers or identifiers."""
    return character not in "ºª" and (character.isalnum() or character == "_" or is_mark(character))


def is_unspaced(text: str) -> bool:
    """Whether the text has characters of a script written without spaces."""
    return _UNSPACED.search(text) is not None


def joined(left: str, right: str) -> bool:
    """Whether two neighbouring characters stand in the same token."""
    if is_mark(right) or left == _JOINER:
        return True
    if not (is_word(left) and is_word(right)):
        return False
    return _UNSPACED.match(left) is None and _UNSPACED.match(right) is None
