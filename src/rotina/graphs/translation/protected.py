"""What a translation must leave as it is: placeholders, markup, code, addresses."""

import re
from collections import Counter

FENCE = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[^\n]*$|\Z)", re.DOTALL | re.MULTILINE)
"""A block of code in Markdown, kept out of the translation altogether."""

TOKEN = re.compile(
    r"(?P<code>`[^`\n]+`)"
    r"|\]\((?P<target>[^)\s]+)"  # of a Markdown link
    r"|(?P<url>(?:https?://|www\.)[^\s<>\"'`)\]]+)"
    r"|(?P<mail>[\w.+-]+@[\w-]+(?:\.[\w-]+)+)"
    r"|(?P<brace>\{\{[^{}]*\}\}|\$?\{[^{}\s]*\}|\{%[^%]*%\})"
    r"|(?P<percent>(?<![\d%])%(?:\(\w+\)|\d+\$)?[-+#0]*\d*(?:\.\d+)?[sdifgxX](?!\w))"
    r"|(?P<tag></?[A-Za-z][^<>]*>)"
)
"""A protected token; the pattern of a link's target matches with the bracket before it."""
_WORD = re.compile(r"[^\W\d_]{2}")


def tokens(text: str) -> Counter[str]:
    """The protected tokens of a text, and how often each stands there."""
    found = (match[match.lastgroup or 0] for match in TOKEN.finditer(text))
    return Counter(token.rstrip(".,;:!?") if "://" in token else token for token in found)


def has_words(text: str) -> bool:
    """Whether anything is left to translate without the protected tokens."""
    return _WORD.search(TOKEN.sub(" ", text)) is not None
