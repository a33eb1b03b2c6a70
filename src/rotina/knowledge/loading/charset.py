"""Which characters a text file's bytes stand for."""

import codecs
import re

from charset_normalizer import from_bytes

_BOMS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOREIGN_SHARE = 0.3
"""Western languages write few of their letters outside ASCII, the others nearly all."""
_FEW = 3
"""So few foreign letters are no evidence for another script."""
_SIGN_IN_WORD = re.compile(r"\w[^\w\s\x00-\x7f’‘´–—]\w")
_CONTROL = re.compile("[\x80-\x9f]")
_SAMPLE = 65536


def decode(content: bytes, declared: str | None = None) -> tuple[str, str]:
    """The text and the name of its charset: byte-order mark, `declared`, UTF-8, then a guess.

    Never fails: the last resort is Latin-1, which gives every byte a character. A declared charset
    that is unknown or does not fit is passed over.
    """
    for mark, charset in _BOMS:
        if content.startswith(mark):
            return content.decode(charset, "replace"), charset
    for candidate in filter(None, (declared, "utf-8")):
        text = _strictly(content, candidate)
        if text is not None:
            return text, candidate
    return _guess(content)


def _strictly(content: bytes, charset: str) -> str | None:
    try:
        return content.decode(charset)
    except (LookupError, ValueError):
        return None


def _guess(content: bytes) -> tuple[str, str]:
    for charset in ("cp1252", "latin-1"):
        text = _strictly(content, charset)
        if text is not None and _is_western(text[:_SAMPLE]):
            return text, charset
    best = from_bytes(content).best()
    if best is not None:
        return str(best), best.encoding
    return content.decode("latin-1"), "latin-1"


def _is_western(text: str) -> bool:
    if _CONTROL.search(text) or _SIGN_IN_WORD.search(text):
        return False
    letters = [character for character in text if character.isalpha()]
    foreign = sum(character > "\x7f" for character in letters)
    return foreign <= max(_FOREIGN_SHARE * len(letters), _FEW)
