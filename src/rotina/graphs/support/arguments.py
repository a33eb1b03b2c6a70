"""Arguments of tools: copied by a model, read and checked by code.

No argument is believed because a model wrote it: the customer must have written it.
"""

import enum
import types
from datetime import date
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from rotina.graphs.support.days import read_day
from rotina.grounding import Source, find, read_number


class Checked(NamedTuple):
    """What became of the arguments a model gave."""

    values: dict[str, Any] | None
    """JSON values that are valid for the tool; None while something is missing."""
    missing: list[str]
    """Arguments that the customer has not given, or not in a form that can be used."""


def wire_schema(arguments: type[BaseModel]) -> dict[str, Any]:
    """What a model fills in: choices as an enum, everything else copied as text, or null."""
    properties = {name: _wire(field) for name, field in arguments.model_fields.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def check_arguments(
    given: dict[str, Any],
    arguments: type[BaseModel],
    said: str,
    *,
    free: frozenset[str],
    today: date,
) -> Checked:
    """The arguments as the customer gave them.

    `said` is everything the customer wrote in the conversation; a value that is not in it is
    missing, whatever the model says. Dates are read from the customer's words, relative ones
    ("amanhã", "next Friday") counted from `today`.
    """
    source = Source(said)
    values: dict[str, Any] = {}
    for name, field in arguments.model_fields.items():
        value = given.get(name)
        if isinstance(value, str):
            value = value.strip() or None
        if value is not None and not (name in free or choices(field)):
            value = _proven(str(value), field, source, today)
        if value is not None:
            values[name] = value
    try:
        checked = arguments.model_validate(values)
    except ValidationError as error:
        wrong = [str(problem["loc"][0]) for problem in error.errors() if problem["loc"]]
        return Checked(None, list(dict.fromkeys(wrong)) or list(arguments.model_fields))
    return Checked(checked.model_dump(mode="json"), [])


def choices(field: FieldInfo) -> list[Any]:
    """The values a field chooses among; empty for a field that takes any."""
    kind = _plain_type(field)
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [member.value for member in kind]
    return [True, False] if kind is bool else []


def _wire(field: FieldInfo) -> dict[str, Any]:
    allowed = choices(field)
    if not allowed:
        return {"type": ["string", "null"]}
    return {"enum": [*allowed, None]}


def _plain_type(field: FieldInfo) -> Any:
    """The annotation without `| None`."""
    kind = field.annotation
    if get_origin(kind) in {Union, types.UnionType}:
        inner = [each for each in get_args(kind) if each is not type(None)]
        return inner[0] if len(inner) == 1 else kind
    return kind


def _proven(value: str, field: FieldInfo, source: Source, today: date) -> Any:
    """The value in the customer's own characters, read as its type; None when not found."""
    kind = _plain_type(field)
    evidence = find(value, source)
    if not evidence:
        return None
    quote = evidence[0].quote
    if kind is date:
        return read_day(quote, today)
    if kind in {int, float, Decimal}:
        number = read_number(quote, source)
        return None if number is None else str(number.value)
    return quote
