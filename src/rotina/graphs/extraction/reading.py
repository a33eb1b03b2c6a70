"""From copied strings to typed values: code reads numbers and dates, knowing the document."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from rotina.graphs.extraction.extraction import Problem
from rotina.graphs.extraction.schema import JsonSchema, kind_of, main_option
from rotina.grounding import Source, read_date, read_number

EXACT_FLOAT_DIGITS = 15


def merge(answers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One answer from those of the pieces: the first stated value counts, lists add up."""
    merged: dict[str, Any] = {}
    for answer in answers:
        merged = _merge(merged, answer)
    return merged


def read(
    value: Any, schema: JsonSchema, source: Source, path: str = ""
) -> tuple[Any, list[Problem]]:
    """The typed value for a wire value, and what could not be read (which becomes null)."""
    kind, option = kind_of(schema), main_option(schema)
    if kind == "object":
        return _read_object(value, option, source, path)
    if kind == "array":
        return _read_array(value, option, source, path)
    if isinstance(value, str):
        return _read_text(value.strip(), kind, source, path)
    return value, []


def pointer(path: str, key: object) -> str:
    """`path` extended by a key, as RFC 6901 escapes it."""
    return f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}"


def _merge(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {
            key: _merge(one.get(key), other.get(key)) for key in (*one, *(set(other) - set(one)))
        }
    if isinstance(one, list) and isinstance(other, list):
        return [*one, *other]
    return other if one is None else one


def _read_object(
    value: Any, schema: JsonSchema, source: Source, path: str
) -> tuple[Any, list[Problem]]:
    if not isinstance(value, Mapping):
        return None, []
    result, problems = {}, []
    for name, part in schema.get("properties", {}).items():
        result[name], wrong = read(value.get(name), part, source, pointer(path, name))
        problems += wrong
    return result, problems


def _read_array(
    value: Any, schema: JsonSchema, source: Source, path: str
) -> tuple[Any, list[Problem]]:
    result: list[Any] = []
    problems: list[Problem] = []
    for item in value if isinstance(value, list) else []:
        found, wrong = read(item, schema.get("items", {}), source, pointer(path, len(result)))
        if not _is_empty(found):
            result.append(found)
            problems += wrong
    return result, problems


def _read_text(text: str, kind: str, source: Source, path: str) -> tuple[Any, list[Problem]]:
    if not text:
        return None, []
    if kind in {"number", "integer"}:
        number = read_number(text, source)
        if number is None or (kind == "integer" and number.value % 1):
            return _unreadable(text, kind, path)
        return _as_json(number.value), _doubt(text, number.certain, path)
    if kind == "date":
        day = read_date(text, source)
        if day is None:
            return _unreadable(text, kind, path)
        return day.value.isoformat(), _doubt(text, day.certain, path)
    return text, []


def _is_empty(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_empty(part) for part in value.values())
    return value is None or value == []


def _as_json(number: Decimal) -> float | int | str:
    """A JSON number where it is exact, a string for more digits than a float holds."""
    if number % 1 == 0:
        return int(number)
    digits = len(number.normalize().as_tuple().digits)
    return float(number) if digits <= EXACT_FLOAT_DIGITS else str(number)


def _doubt(text: str, certain: bool, path: str) -> list[Problem]:  # noqa: FBT001
    if certain:
        return []
    message = f"{text!r} can be read in two ways, and the document does not tell which"
    return [Problem(path=path, message=message)]


def _unreadable(text: str, kind: str, path: str) -> tuple[None, list[Problem]]:
    return None, [Problem(path=path, message=f"{text!r} cannot be read as a {kind}")]
