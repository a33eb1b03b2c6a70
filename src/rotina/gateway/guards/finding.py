"""Where in a text something stands that guards look for, and what is put in its place."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# One character for one, so that places in the copy are places in the text: the spaces and dashes
# of web pages and word processors, and digits as East Asian keyboards write them.
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u00a0\u2007\u2009\u202f\u3000", " "),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d", "-"),
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
        "\uff0e": ".",
        "\uff0f": "/",
        "\uff20": "@",
    }
)
_ESCAPED = re.compile(r"\\[nrt]")


@dataclass(frozen=True)
class Found:
    """One place in a text."""

    start: int
    end: int
    """One after the last character."""
    kind: str
    """In capitals, as in its placeholder: `CPF`, `GITHUB_TOKEN`."""
    score: float = 1.0
    """From 0 to 1, where 1 is one whose check digits are right."""


def plain(text: str) -> str:
    """A copy of the same length in which patterns find what they look for.

    JSON inside a text has line breaks written as `\\n`, whose n would be part of the next word.
    """
    return _ESCAPED.sub("  ", text.translate(_PLAIN))


def disjoint(found: Iterable[Found]) -> list[Found]:
    """In order, and overlapping ones as one that covers them all: no end of one is left over.

    Its kind is that of the surest, of the longest where two are as sure.
    """
    joined: list[Found] = []
    best: list[Found] = []
    for one in sorted(found, key=lambda each: (each.start, -each.end)):
        if joined and one.start < joined[-1].end:
            best[-1] = max(best[-1], one, key=lambda each: (each.score, each.end - each.start))
            last = joined[-1]
            joined[-1] = Found(last.start, max(last.end, one.end), best[-1].kind, best[-1].score)
        else:
            joined.append(one)
            best.append(one)
    return joined


def replaced(text: str, found: Iterable[Found], by: Callable[[str, str], str]) -> str:
    """`text` with `by(kind, value)` in the place of each; they are disjoint and in order."""
    parts: list[str] = []
    at = 0
    for one in found:
        parts += [text[at : one.start], by(one.kind, text[one.start : one.end])]
        at = one.end
    return "".join([*parts, text[at:]])


def redacted(kind: str, value: str) -> str:  # noqa: ARG001 - as `replaced` wants it
    """`<CPF>`: what is put where nothing is to come back."""
    return f"<{kind}>"
