"""Which of the two languages a text is written in: English or Portuguese."""

import re
from functools import lru_cache
from typing import Any, Literal

Language = Literal["en", "pt"]

LANGUAGE_NAMES: dict[Language, str] = {"en": "English", "pt": "Brazilian Portuguese"}
"""How a prompt calls them."""

SAMPLE = 4000
"""Characters that are looked at; reading more changes no answer and costs time."""

UNDECIDED = 0.52
"""A probability below which the text says nothing about its language (`top`, `SKU A-7`)."""

_NEUTRAL = re.compile(
    r"https?://\S+|www\.\S+"  # addresses are written the same everywhere
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|\{\{.*?\}\}|\{\w*\}|\$\{\w+\}|<[^<>]*>"
    r"|\w*\d\w*"  # numbers and codes
    r"|[^\w\s'’-]+"
)

_WORD = re.compile(r"[^\W\d_]{2}")
_SHORT: dict[str, Language] = {
    **dict.fromkeys(("yes", "no", "hi", "hello", "ok", "okay", "thanks", "please"), "en"),
    **dict.fromkeys(("sim", "não", "nao", "oi", "olá", "ola", "obrigado", "obrigada"), "pt"),
}
"""Answers of one word, which say too little for statistics over letters."""


def detect(text: str, default: Language = "en") -> Language:
    """The language of `text`, `default` where there is none to see.

    That is: an empty text, numbers, codes and addresses alone, a word that both languages share.
    A text in a third language gets whichever of the two is nearer to it (Spanish: Portuguese); of
    a mixed text the one that prevails in its first 4,000 characters.

    Naive Bayes over byte n-grams: Lui & Baldwin, langid.py, ACL 2012, in the fork py3langid. The
    model is loaded (about a second) by the first call that needs it.
    """
    words = _NEUTRAL.sub(" ", text[:SAMPLE]).split()
    if not any(_WORD.search(word) for word in words):
        return default
    if len(words) == 1 and (known := _SHORT.get(words[0].casefold())):
        return known
    language, probability = _identifier().classify(" ".join(words))
    if probability < UNDECIDED:
        return default
    return "pt" if language == "pt" else "en"


@lru_cache(maxsize=1)
def _identifier() -> Any:
    # Imported here because it loads numpy; it is not typed.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(["en", "pt"])
    return identifier
