"""The words that name a field, and how near they stand to characters of a source."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

from rotina.grounding.normalised import normalise
from rotina.grounding.source import Candidate, Source

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORD = re.compile(r"[^\W_]+")
_IGNORED = frozenset(
    re.findall(
        r"\w+",
        "the of and to in for is as an or on at by with from da de do das dos em no na os um uma e "
        "o a que com por value field string number",
    )
)
_REACH = 8
"""Words looked at to the left of a candidate."""
_MAX_REFERENCES = 32
_ABOVE, _RIGHT, _DESCRIBED, _PARENT = 0.7, 0.3, 0.6, 0.3
_COLUMN = 10


class Labels(NamedTuple):
    """Normalised words of a field's name, title and description, and of the object it is in."""

    name: frozenset[str]
    title: frozenset[str]
    description: frozenset[str]
    parent: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        """Every word."""
        return self.name | self.title | self.description | self.parent


def words_of(text: str) -> frozenset[str]:
    """Normalised words of a name in any case style; all of them when none carries meaning."""
    words = frozenset(_WORD.findall(normalise(_CAMEL.sub(" ", text).replace("_", " "))))
    return words - _IGNORED or words


class LabelReader:
    """Labels of the fields a JSON Schema describes."""

    def __init__(self, schema: dict[str, Any] | None) -> None:
        self._schema = schema or {}
        self._known: dict[tuple[str, ...], Labels] = {}

    def read(self, tokens: tuple[str | int, ...]) -> Labels:
        """Labels of the field at a path of keys and array indices."""
        key = tuple("*" if isinstance(token, int) else token for token in tokens)
        if key not in self._known:
            self._known[key] = self._read(tokens)
        return self._known[key]

    def _read(self, tokens: tuple[str | int, ...]) -> Labels:
        names = [token for token in tokens if isinstance(token, str)]
        schema = self._schema
        for token in tokens:
            schema = self._step(schema, token)
        schema = self._described(schema)
        return Labels(
            words_of(names[-1]) if names else frozenset(),
            words_of(str(schema.get("title", ""))),
            words_of(str(schema.get("description", ""))),
            words_of(names[-2]) if len(names) > 1 else frozenset(),
        )

    def _step(self, schema: dict[str, Any], token: str | int) -> dict[str, Any]:
        for each in self._branches(schema):
            if isinstance(token, int):
                below = each.get("items")
            else:
                properties = each.get("properties")
                below = properties.get(token) if isinstance(properties, dict) else None
            if isinstance(below, dict):
                return below
        return {}

    def _described(self, schema: dict[str, Any]) -> dict[str, Any]:
        for each in self._branches(schema):
            if "title" in each or "description" in each:
                return each
        return {}

    def _branches(self, schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The schema, what it refers to, and the members of its unions; cycles end."""
        waiting, seen = [schema], 0
        while waiting and seen < _MAX_REFERENCES:
            each = waiting.pop(0)
            seen += 1
            yield each
            if isinstance(each.get("$ref"), str):
                waiting.append(self._resolve(each["$ref"]))
            for union in ("allOf", "anyOf", "oneOf"):
                members = each.get(union)
                if isinstance(members, list):
                    waiting += [member for member in members if isinstance(member, dict)]

    def _resolve(self, reference: str) -> dict[str, Any]:
        found: Any = self._schema
        if not reference.startswith("#"):
            return {}
        for part in reference[1:].split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}


def nearness(labels: Labels, candidate: Candidate, source: Source) -> float:
    """How well the words around a candidate name its field: 0 not at all, 1.3 at most.

    Words left of it on its line count most, then those above it (the nearer its column the
    more), then those right of it. Words beyond another number count half.
    """
    if not labels.all:
        return 0.0
    around = _around(candidate, source)
    own = max(
        _share(labels.name, around),
        _share(labels.title, around),
        _DESCRIBED * _share(labels.description, around),
    )
    return round(own + _PARENT * _share(labels.parent, around), 2)


def _share(wanted: frozenset[str], around: dict[str, float]) -> float:
    return sum(around.get(word, 0.0) for word in wanted) / len(wanted) if wanted else 0.0


def _around(candidate: Candidate, source: Source) -> dict[str, float]:
    """Words near the candidate with their weight, from 0 to 1."""
    line = bisect_right(source.lines, candidate.start) - 1
    weights: dict[str, float] = {}
    first = source.words.from_offset(candidate.start)
    _weigh_left(weights, first, source.lines[line], source)
    _weigh_right(weights, candidate, line, source)
    _weigh_above(weights, candidate, line, source)
    return weights


def _put(weights: dict[str, float], word: str, weight: float) -> None:
    weights[word] = max(weight, weights.get(word, 0.0))


def _weigh_left(weights: dict[str, float], first: int, start: int, source: Source) -> None:
    words, weight = source.words, 1.0
    at = first - 1
    while at >= max(0, first - _REACH) and words.original_starts[at] >= start:
        word = words.words[at]
        if any(map(str.isdigit, word)):
            weight /= 2
        elif at and words.words[at - 1] == "sub":
            word, at = f"sub{word}", at - 1  # a sub-total is no total
        _put(weights, word, weight)
        weight *= 0.95
        at -= 1


def _weigh_right(
    weights: dict[str, float], candidate: Candidate, line: int, source: Source
) -> None:
    words = source.words
    end = _line_end(line, source)
    first = words.from_offset(candidate.end)
    for at in range(first, min(first + 3, len(words.words))):
        if words.original_starts[at] < end:
            _put(weights, words.words[at], _RIGHT)


def _weigh_above(
    weights: dict[str, float], candidate: Candidate, line: int, source: Source
) -> None:
    if not line:
        return
    words, start = source.words, source.lines[line - 1]
    column = candidate.start - source.lines[line]
    width = candidate.end - candidate.start
    first = words.from_offset(start)
    for at in range(first, min(first + 4 * _REACH, len(words.words))):
        offset = words.original_starts[at]
        if offset >= source.lines[line]:
            break
        word, left = words.words[at], offset - start
        gap = max(0, left - (column + width), column - (left + len(word)))
        _put(weights, word, _ABOVE / (1 + gap / _COLUMN))


def _line_end(line: int, source: Source) -> int:
    following = source.lines[line + 1 : line + 2]
    return following[0] if following else len(source.text)
