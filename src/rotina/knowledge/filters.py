"""Metadata filters: a mapping, compiled to one jsonpath predicate over a document's jsonb.

    {"team": "billing", "year": {"$gte": 2024}, "$or": [{"lang": "pt"}, {"lang": "en"}]}

The predicate goes to PostgreSQL as a parameter, and its equalities use the index over metadata.
jsonpath is described in https://www.postgresql.org/docs/current/functions-json.html
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from rotina.errors import FilterError

_COMPARE = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
OPERATORS = ("$eq", "$ne", "$in", "$nin", "$exists", *_COMPARE)
DEEPEST = 20
LONGEST = 100_000
"""Characters of a compiled filter; PostgreSQL refuses nothing sooner, but takes its time."""
_NEVER = "(1 == 2)"

_Test = Callable[[str], str]
"""From the path of a field to a predicate on it."""


def compile_filter(given: Mapping[str, Any] | None) -> str | None:
    """A jsonpath predicate; None for no filter or an empty one. Raises `FilterError`."""
    if given is None:
        return None
    compiled = _all(given, (), 0)
    if len(compiled) > LONGEST:
        raise FilterError(
            f"The filter is {len(compiled)} characters long, and {LONGEST} are allowed: "
            "put what it lists into the documents' metadata as one field"
        )
    return compiled or None


def _all(given: Any, path: tuple[str, ...], depth: int) -> str:
    if not isinstance(given, Mapping):
        raise FilterError(f"{given!r} is no filter: write a mapping such as {{'team': 'billing'}}")
    if depth > DEEPEST:
        raise FilterError(f"The filter is nested more than {DEEPEST} deep: write it flatter")
    return _joined("&&", [_entry(k, v, path, depth) for k, v in given.items()])


def _entry(key: Any, value: Any, path: tuple[str, ...], depth: int) -> str:
    if not isinstance(key, str) or not key or _unstorable(key):
        raise FilterError(f"{key!r} is no metadata key: keys are texts")
    if key in ("$and", "$or"):
        if not isinstance(value, (list, tuple)) or not value:
            raise FilterError(f"{key} takes a list of filters, not {value!r}")
        parts = [_all(part, path, depth + 1) or "(1 == 1)" for part in value]
        return _joined("&&" if key == "$and" else "||", parts)
    if key == "$not":
        return _not(_all(value, path, depth + 1) or "(1 == 1)")
    if key.startswith("$"):
        raise FilterError(f"{key!r} is no filter operator here: use $and, $or or $not")
    return _field((*path, key), value, depth)


def _field(path: tuple[str, ...], value: Any, depth: int) -> str:
    if not isinstance(value, Mapping):
        return _operator("$eq", path, value)
    if not value:
        raise FilterError(f"{path[-1]!r} has an empty condition: use one of {', '.join(OPERATORS)}")
    operators = [isinstance(key, str) and key.startswith("$") for key in value]
    forgotten = [key for key in value if f"${key}" in OPERATORS]
    if forgotten:
        raise FilterError(f"{forgotten[0]!r} is no filter operator: write '${forgotten[0]}'")
    if not any(operators):
        return _all(value, path, depth + 1)
    if not all(operators):
        raise FilterError(f"{path[-1]!r} mixes operators and keys: write two conditions with $and")
    return _joined("&&", [_operator(name, path, wanted) for name, wanted in value.items()])


def _operator(operator: str, path: tuple[str, ...], value: Any) -> str:
    if operator in ("$eq", "$ne"):
        found = _somewhere(path, _equal(value))
        return found if operator == "$eq" else _not(found)
    if operator in ("$in", "$nin"):
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise FilterError(f"{operator} takes a list, not {value!r}")
        found = _joined("||", [_somewhere(path, _equal(one)) for one in value]) or _NEVER
        return found if operator == "$in" else _not(found)
    if operator == "$exists":
        if not isinstance(value, bool):
            raise FilterError(f"$exists takes true or false, not {value!r}")
        found = _somewhere(path, "(exists({}))".format)
        return found if value else _not(found)
    if operator in _COMPARE:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise FilterError(f"{operator} compares numbers or texts, not {value!r}")
        literal = _literal(value)
        return _somewhere(path, lambda field: f"({field} {_COMPARE[operator]} {literal})")
    raise FilterError(f"{operator!r} is no filter operator: use {', '.join(OPERATORS)}")


def _equal(value: Any) -> _Test:
    literal = _literal(value)
    return lambda field: f"({field} == {literal})"


def _somewhere(path: tuple[str, ...], test: _Test) -> str:
    """A key with dots in it is a key of that name, or the way into nested objects."""
    dotted = tuple(part for key in path for part in key.split("."))
    ways = [path] if dotted == path or not all(dotted) else [path, dotted]
    return _joined("||", [test("$" + "".join(f".{_quoted(key)}" for key in way)) for way in ways])


def _not(predicate: str) -> str:
    """What compares with another type is neither true nor false; a filter takes it as false."""
    return f"(!{predicate} || ({predicate} is unknown))"


def _literal(value: Any) -> str:
    bad = isinstance(value, float) and not math.isfinite(value)
    if bad or not (value is None or isinstance(value, (str, int, float, bool))):
        raise FilterError(
            f"{value!r} cannot be compared with metadata: use a text, number, true, false or null"
        )
    if isinstance(value, str) and _unstorable(value):
        raise FilterError(f"{value!r} holds NUL or a lone surrogate, which no metadata does")
    return _quoted(value)


def _quoted(value: Any) -> str:
    return json.dumps(value)


def _unstorable(text: str) -> bool:
    return "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text)


def _joined(word: str, parts: list[str]) -> str:
    kept = [part for part in parts if part]
    return kept[0] if len(kept) == 1 else f"({f' {word} '.join(kept)})" if kept else ""
