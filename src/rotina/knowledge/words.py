"""Words for full text: the same fold for what is stored and what is asked.

Folding is done here and not by PostgreSQL, because a database with locale C neither lowers "É" nor
parts a word from a typographic quote.
"""

import functools
import re
import sys
import unicodedata

from rotina.knowledge.model import Language

CONFIGURATIONS: dict[Language, str] = {"en": "english", "pt": "portuguese"}
"""PostgreSQL's text search configurations."""
LONGEST_WORD = 200
"""Characters; PostgreSQL refuses lexemes of more than 2 kB, and nobody searches for them."""

_WORD = re.compile(r"[^\W_]+")
_SAMPLE = 20_000
# Function words that the other language does not have.
_COMMON: dict[Language, frozenset[str]] = {
    "en": frozenset(
        {"the", "of", "and", "is", "to", "in", "that", "it", "with", "are", "this", "be", "or"}
        | {"from", "by", "you", "what", "how", "where", "when", "my", "i", "can", "an"}
    ),
    "pt": frozenset(
        {"de", "que", "e", "da", "um", "para", "com", "uma", "os", "em", "na", "ou", "ao", "por"}
        | {"se", "qual", "como", "sao", "onde", "quando", "meu", "minha", "nao", "dos", "das"}
    ),
}


def fold(text: str) -> list[str]:
    """The words of a text in lower case, without accents and punctuation, in order."""
    if text.isascii():
        stripped = text.lower()
    else:
        plain = unicodedata.normalize("NFKD", text.casefold())
        stripped = plain if plain.isascii() else _marks().sub("", plain)
    words = _WORD.findall(stripped)
    if len(stripped) > LONGEST_WORD:
        return [word[:LONGEST_WORD] for word in words]
    return words


@functools.cache
def _marks() -> re.Pattern[str]:
    """The characters with a combining class, which NFKD parts from their letters."""
    marks = (chr(c) for c in range(sys.maxunicode + 1) if unicodedata.combining(chr(c)))
    return re.compile(f"[{''.join(marks)}]")


def guess_language(text: str) -> Language:
    """English or Portuguese, by counting function words; English when there are none."""
    words = fold(text[:_SAMPLE])
    counts = {
        language: sum(word in common for word in words) for language, common in _COMMON.items()
    }
    return "pt" if counts["pt"] > counts["en"] else "en"
