"""Structured output: the schema on the wire or in the prompt, and the check of what came back.

Whatever a server promises, every answer is parsed and validated here against the whole schema
(JSON Schema, Draft 2020-12): servers ignore keywords that they cannot turn into a grammar.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError as InvalidSchema
from referencing import Registry
from referencing.exceptions import Unresolvable

from rotina.errors import ModelOutputError, SchemaError
from rotina.gateway.answer import Message

Json = Any
Mode = Literal["json_schema", "prompt"]

_FENCED = re.compile(r"\A\s*```[\w+-]*[ \t]*\n(?P<body>.*?)\n?[ \t]*```\s*\Z", re.DOTALL)
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_INSTRUCTION = (
    "Answer with one JSON value that is valid against this JSON Schema, and with nothing else: "
    "no explanation, no code fence.\n"
)
# The keywords of OpenAI's strict mode ("Supported schemas" in its Structured Outputs guide).
_STRICT_KEYWORDS = frozenset(
    {
        *("type", "properties", "required", "additionalProperties", "items", "enum", "const"),
        *("anyOf", "$ref", "$defs", "definitions", "title", "description", "pattern", "format"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minItems", "maxItems"),
    }
)


class Contract:
    """A JSON Schema that answers are held to."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Raises `SchemaError` when `schema` is not a valid Draft 2020-12 schema."""
        self._validator = _compile(json.dumps(schema, sort_keys=True))

    def read(self, text: str, mode: Mode) -> Json:
        """The JSON value in a model's text; code fences are tolerated in `prompt` mode only.

        Raises `ModelOutputError` naming the first place that is wrong, never the text itself.
        """
        fenced = _FENCED.match(text) if mode == "prompt" else None
        try:
            value = json.loads(fenced["body"] if fenced else text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise ModelOutputError(f"is not JSON ({reason})") from None
        self._check(value)
        return value

    def _check(self, value: Json) -> None:
        try:
            problem = min(self._validator.iter_errors(value), key=_depth, default=None)
        except Unresolvable as error:
            raise SchemaError(
                f"The schema refers to {error.ref!r}, which is not in it: only references into "
                "the schema itself are followed"
            ) from None
        except RecursionError:
            raise SchemaError(
                "The schema refers to itself without end: let each $ref cycle pass through a "
                "property or an item"
            ) from None
        except re.error as error:
            raise SchemaError(
                f"The schema has a pattern that Python's `re` cannot read ({error.msg}): rewrite it"
            ) from None
        if problem is not None:
            raise ModelOutputError(
                f"does not follow the schema at {problem.json_path}: {problem.message}"
            )


@functools.lru_cache(maxsize=256)
def _compile(schema: str) -> Draft202012Validator:
    parsed = json.loads(schema)
    try:
        Draft202012Validator.check_schema(parsed)
    except InvalidSchema as error:
        raise SchemaError(
            f"Not a valid JSON Schema (Draft 2020-12) at {error.json_path}: {error.message[:200]}"
        ) from None
    # An empty registry: the default one would fetch a remote $ref from the network.
    return Draft202012Validator(parsed, registry=Registry())


def response_format(schema: Mapping[str, Any], name: str) -> dict[str, Json]:
    """The `response_format` of the OpenAI protocol.

    `strict` is asked for only where OpenAI would accept the schema as it is. The schema is never
    rewritten to fit: making every property required changes what an answer means. Other servers
    (vLLM, SGLang, llama.cpp) constrain the output either way.
    """
    return {
        "type": "json_schema",
        "json_schema": {
            "name": _NOT_IN_A_NAME.sub("_", name)[:64] or "output",
            "schema": schema,
            "strict": fits_strict_mode(schema),
        },
    }


def fits_strict_mode(schema: Mapping[str, Any]) -> bool:
    """Whether OpenAI's strict mode takes the schema: closed objects, all properties required,
    an object at the root, and none of the keywords that the mode lacks."""
    return schema.get("type") == "object" and _is_strict(schema)


def _is_strict(schema: Json) -> bool:
    if not isinstance(schema, Mapping) or not _STRICT_KEYWORDS.issuperset(schema):
        return False
    if "object" in _types(schema):
        closed = schema.get("additionalProperties") is False
        if not closed or set(schema.get("required", ())) != set(schema.get("properties", {})):
            return False
    return all(_is_strict(sub) for sub in _subschemas(schema))


def _types(schema: Mapping[str, Json]) -> Sequence[str]:
    kind = schema.get("type", ())
    return (kind,) if isinstance(kind, str) else kind


def _subschemas(schema: Mapping[str, Json]) -> list[Json]:
    found: list[Json] = []
    for keyword in ("properties", "$defs", "definitions"):
        found += schema.get(keyword, {}).values()
    found += schema.get("anyOf", ())
    if "items" in schema:
        found.append(schema["items"])
    return found


def with_schema_in_prompt(messages: Sequence[Message], schema: Mapping[str, Any]) -> list[Message]:
    """The messages with the schema at the end of the system message, which is made if missing.

    There it is part of the constant prefix of many calls, which servers cache.
    """
    text = _INSTRUCTION + json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    if messages and messages[0]["role"] == "system" and isinstance(messages[0]["content"], str):
        extended = {**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}
        return [cast("Message", extended), *messages[1:]]
    return [Message(role="system", content=text), *messages]


def _depth(problem: Any) -> int:
    return len(problem.absolute_path)


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not a JSON number")
