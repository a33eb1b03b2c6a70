"""Metadata filters: a mapping, compiled to parameterised SQL over a document's jsonb.

    {"team": "billing", "year": {"$gte": 2024}, "$or": [{"lang": "pt"}, {"lang": "en"}]}

No value and no key of a filter becomes SQL text.
"""

from collections.abc import Mapping
from typing import Any, LiteralString

from psycopg import sql
from psycopg.types.json import Jsonb

from rotina.errors import FilterError

_COMPARE = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
OPERATORS = ("$eq", "$ne", "$in", "$nin", "$exists", *_COMPARE)
DEEPEST = 20

Values = dict[str, Any]


def compile_filter(given: Mapping[str, Any] | None) -> tuple[sql.Composable, Values]:
    """A condition on `d.metadata` and its parameters, named `filter_0`, `filter_1`, …

    No filter, or an empty one, is `true`. Raises `FilterError`.
    """
    values: Values = {}
    return _all(given or {}, values, 0), values


def _all(given: Any, values: Values, depth: int) -> sql.Composable:
    if not isinstance(given, Mapping):
        raise FilterError(f"{given!r} is no filter: write a mapping such as {{'team': 'billing'}}")
    if depth > DEEPEST:
        raise FilterError(f"The filter is nested more than {DEEPEST} deep: write it flatter")
    return _join(" and ", [_entry(k, v, values, depth) for k, v in given.items()], "true")


def _entry(key: Any, value: Any, values: Values, depth: int) -> sql.Composable:
    if not isinstance(key, str) or not key or _unstorable(key):
        raise FilterError(f"{key!r} is no metadata key: keys are texts")
    if key in ("$and", "$or"):
        if not isinstance(value, (list, tuple)) or not value:
            raise FilterError(f"{key} takes a list of filters, not {value!r}")
        parts = [_all(part, values, depth + 1) for part in value]
        return _join(" and " if key == "$and" else " or ", parts, "true")
    if key == "$not":
        return sql.SQL("not coalesce({}, false)").format(_all(value, values, depth + 1))
    if key.startswith("$"):
        raise FilterError(f"{key!r} is no filter operator here: use $and, $or or $not")
    field = sql.SQL("(d.metadata -> {}::text)").format(_bind(key, values))
    if not isinstance(value, Mapping):
        return _operator("$eq", field, value, values)
    if not value:
        raise FilterError(f"{key!r} has an empty condition: use one of {', '.join(OPERATORS)}")
    return _join(" and ", [_operator(o, field, v, values) for o, v in value.items()], "true")


def _operator(operator: Any, field: sql.Composable, value: Any, values: Values) -> sql.Composable:
    if operator == "$eq":
        return _equal(field, value, values)
    if operator == "$ne":
        return sql.SQL("not coalesce({}, false)").format(_equal(field, value, values))
    if operator in ("$in", "$nin"):
        return _among(operator, field, value, values)
    if operator == "$exists":
        if not isinstance(value, bool):
            raise FilterError(f"$exists takes true or false, not {value!r}")
        return sql.SQL("{} is not null" if value else "{} is null").format(field)
    if operator in _COMPARE:
        return _compared(operator, field, value, values)
    raise FilterError(f"{operator!r} is no filter operator: use {', '.join(OPERATORS)}")


def _equal(field: sql.Composable, value: Any, values: Values) -> sql.Composable:
    """Equal, or contained when the document has a list there."""
    return sql.SQL("{} @> {}").format(field, _bind(_scalar(value), values))


def _among(operator: str, field: sql.Composable, value: Any, values: Values) -> sql.Composable:
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise FilterError(f"{operator} takes a list, not {value!r}")
    found = _join(" or ", [_equal(field, one, values) for one in value], "false")
    if operator == "$in":
        return found
    return sql.SQL("not coalesce({}, false)").format(found)


def _compared(operator: str, field: sql.Composable, value: Any, values: Values) -> sql.Composable:
    """jsonb compares numbers by value and texts by code point; other types never match."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise FilterError(f"{operator} compares numbers or texts, not {value!r}")
    bound = _bind(_scalar(value), values)
    return sql.SQL(
        "(jsonb_typeof({field}) = jsonb_typeof({bound}) and {field} {sign} {bound})"
    ).format(field=field, bound=bound, sign=sql.SQL(_COMPARE[operator]))


def _scalar(value: Any) -> Jsonb:
    bad = isinstance(value, float) and (value != value or value in (float("inf"), -float("inf")))  # noqa: PLR0124 - NaN
    if bad or not (value is None or isinstance(value, (str, int, float, bool))):
        raise FilterError(
            f"{value!r} cannot be compared with metadata: use a text, number, true, false or null"
        )
    if isinstance(value, str) and _unstorable(value):
        raise FilterError(f"{value!r} holds NUL or a lone surrogate, which no metadata does")
    return Jsonb(value)


def _unstorable(text: str) -> bool:
    return "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text)


def _bind(value: Any, values: Values) -> sql.Composable:
    name = f"filter_{len(values)}"
    values[name] = value
    return sql.Placeholder(name)


def _join(word: LiteralString, parts: list[sql.Composable], empty: LiteralString) -> sql.Composable:
    if not parts:
        return sql.SQL(empty)
    return sql.SQL("({})").format(sql.SQL(word).join(parts))
