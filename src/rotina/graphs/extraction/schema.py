"""From the user's schema to the one a model fills in.

A model copies well and converts badly: asked for a number, a small one reads `12.500,00` as 12.5.
So on the wire every number and date is a string, copied letter by letter; code reads it, knowing
the document's conventions, and can point at the very characters. Every leaf may be null, so that
a model never has to invent what the document does not state.
"""

import copy
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError as InvalidSchemaError
from pydantic import BaseModel

from rotina.errors import SchemaError

JsonSchema = Mapping[str, Any]

COPIED_FORMATS = frozenset({"date", "date-time", "time", "duration"})
MAX_DEPTH = 12


def schema_of(shape: type[BaseModel] | JsonSchema) -> dict[str, Any]:
    """A self-contained JSON Schema: references resolved, checked against the meta-schema.

    Raises `SchemaError` when it is invalid, recursive, too deep, or no object.
    """
    if isinstance(shape, type):
        schema = shape.model_json_schema(mode="validation")
    else:
        schema = copy.deepcopy(dict(shape))
    try:
        Draft202012Validator.check_schema(schema)
    except InvalidSchemaError as error:
        where = "/".join(str(part) for part in error.absolute_path) or "the top"
        raise SchemaError(f"Not a JSON Schema: at {where}: {error.message[:300]}") from None
    resolved = _resolve(schema, schema, ())
    assert isinstance(resolved, dict)
    if resolved.get("type") != "object" or not resolved.get("properties"):
        raise SchemaError(
            "A schema for extraction is an object with properties: "
            'wrap it, as in {"type": "object", "properties": {"items": …}}'
        )
    resolved.pop("$defs", None)
    resolved.pop("definitions", None)
    return resolved


def wire_schema(schema: JsonSchema) -> dict[str, Any]:
    """What the model has to fill in: strings to copy, every leaf nullable, nothing else allowed."""
    wire = _wire(schema)
    assert isinstance(wire, dict)
    return wire


def field_guide(schema: JsonSchema) -> list[str]:
    """A line a leaf: its path and what the schema says of it."""
    return list(_guide(schema, ""))


def empty_value(schema: JsonSchema) -> Any:
    """The shape of an answer that found nothing."""
    kind, option = kind_of(schema), main_option(schema)
    if kind == "object":
        return {name: empty_value(part) for name, part in option.get("properties", {}).items()}
    return [] if kind == "array" else None


def kind_of(schema: JsonSchema) -> str:
    """`object`, `array`, `number`, `integer`, `boolean`, `date` or `string` of a resolved schema.

    Of several alternatives the first that is not null counts, except that a number beats the
    string beside it: Pydantic's `Decimal` is `number | string`.
    """
    options = [part for part in _options(schema) if part.get("type") != "null"]
    types = [_type_of(option) for option in options] or ["string"]
    for preferred in ("object", "array", "number", "integer"):
        if preferred in types:
            return preferred
    return types[0]


def main_option(schema: JsonSchema) -> JsonSchema:
    """The alternative that `kind_of` decided for."""
    kind = kind_of(schema)
    return next((part for part in _options(schema) if _type_of(part) == kind), schema)


def _options(schema: JsonSchema) -> list[JsonSchema]:
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if alternatives:
        return [option for part in alternatives for option in _options(part)]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": name} for name in schema["type"]]
    merged = schema.get("allOf")
    if merged:
        combined: dict[str, Any] = {key: schema[key] for key in schema if key != "allOf"}
        for part in merged:
            properties = {**combined.get("properties", {}), **part.get("properties", {})}
            combined = {**combined, **part}
            if properties:
                combined["properties"] = properties
        return _options(combined)
    return [schema]


def _type_of(schema: JsonSchema) -> str:
    declared = schema.get("type")
    if declared is None:
        if "properties" in schema:
            return "object"
        return "array" if "items" in schema else "string"
    if declared == "string" and schema.get("format") in COPIED_FORMATS:
        return "date" if schema["format"] == "date" else "string"
    return str(declared)


def _resolve(part: Any, root: JsonSchema, trail: tuple[str, ...]) -> Any:
    if len(trail) > MAX_DEPTH * 4:
        raise SchemaError(f"The schema nests deeper than {MAX_DEPTH} levels: flatten it")
    if isinstance(part, list):
        return [_resolve(item, root, trail) for item in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("$ref")
    if isinstance(reference, str):
        if reference in trail:
            raise SchemaError(
                f"The schema refers to itself through {reference}: a recursive shape has no "
                "largest answer. Write out as many levels as a document may have."
            )
        target = _resolve(_look_up(root, reference), root, (*trail, reference))
        rest = {key: value for key, value in part.items() if key != "$ref"}
        return {**target, **_resolve(rest, root, trail)} if isinstance(target, dict) else target
    return {
        key: _resolve(value, root, (*trail, "")) if key not in {"$defs", "definitions"} else value
        for key, value in part.items()
    }


def _look_up(root: JsonSchema, reference: str) -> Any:
    if not reference.startswith("#"):
        raise SchemaError(
            f"The schema refers to {reference!r}: only references inside the schema are followed"
        )
    found: Any = root
    for token in reference.lstrip("#").strip("/").split("/"):
        key = token.replace("~1", "/").replace("~0", "~")
        if key == "":
            continue
        try:
            found = found[int(key)] if isinstance(found, list) else found[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise SchemaError(f"The schema refers to {reference!r}, which is not there") from None
    return found


def _wire(schema: JsonSchema) -> dict[str, Any]:
    kind, option = kind_of(schema), main_option(schema)
    if kind == "object":
        properties = {name: _wire(part) for name, part in option.get("properties", {}).items()}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    if kind == "array":
        return {"type": "array", "items": _wire(option.get("items", {"type": "string"}))}
    if kind == "boolean":
        return {"type": ["boolean", "null"]}
    choices = option.get("enum", [option["const"]] if "const" in option else None)
    if choices is not None:
        return {"enum": [*[choice for choice in choices if choice is not None], None]}
    return {"type": ["string", "null"]}


def _guide(schema: JsonSchema, path: str) -> "list[str]":
    kind, option = kind_of(schema), main_option(schema)
    said = schema.get("description") or option.get("description") or ""
    lines = [f"- {path}: {said}"] if path and said else []
    if kind == "object":
        for name, part in option.get("properties", {}).items():
            lines += _guide(part, f"{path}.{name}" if path else name)
    elif kind == "array":
        lines += _guide(option.get("items", {}), f"{path}[]")
    return lines
