"""Structured output: the schema on the wire or in the prompt, and the check of what came back.

Whatever a server promises, every answer is parsed and validated here against the whole schema:
servers ignore keywords that they cannot turn into a grammar.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError as InvalidSchema
from jsonschema.exceptions import best_match
from jsonschema.validators import validator_for
from jsonschema_specifications import REGISTRY as SPECIFICATIONS
from pydantic import BaseModel, ValidationError
from referencing.exceptions import Unresolvable

from rotina.errors import SchemaError
from rotina.gateway.answer import Message

Json = Any
Schema = Mapping[str, Any] | type[BaseModel]
"""A JSON Schema, or a Pydantic model."""

FENCED = re.compile(r"\A\s*```[\w+-]*[ \t]*\n(?P<body>.*?)\n?[ \t]*```\s*\Z", re.DOTALL)
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_DATA = frozenset({"enum", "const", "default", "examples", "example"})
"""Keywords that hold values, not schemas."""
INSTRUCTION = (
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


MOST_PROBLEMS = 10
"""Told to a model that is asked again."""
_PROBLEM = 300
"""Characters of one of them."""


@dataclass(frozen=True)
class Examined:
    """What a text is, held to a contract."""

    data: Json
    """The value; None when the text is not JSON."""
    is_json: bool
    problems: tuple[str, ...]
    """What is wrong, the outermost first, at most `MOST_PROBLEMS`; none: it is valid."""


class Contract:
    """A JSON Schema, or a Pydantic model, that answers are held to."""

    def __init__(self, schema: Schema) -> None:
        """The dialect is that of `$schema` (Draft 4 to 2020-12), without one Draft 2020-12.

        Raises `SchemaError` when `schema` is not valid in it.
        """
        self.model = schema if isinstance(schema, type) else None
        self.schema = schema.model_json_schema() if isinstance(schema, type) else schema
        self.text = json.dumps(self.schema, sort_keys=True)
        self._validator = _compile(self.text)

    @property
    def name(self) -> str:
        """What the schema is called on the wire unless the caller says."""
        return self.model.__name__ if self.model else "output"

    def examine(self, text: str, *, fenced: bool) -> Examined:
        """The JSON value in a model's text, and what is wrong with it.

        `fenced`: a code fence around it is tolerated.
        """
        fence = FENCED.match(text) if fenced else None
        try:
            value = json.loads(fence["body"] if fence else text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            return Examined(None, is_json=False, problems=(f"is not JSON ({reason})",))
        problems = self._problems(value) or self._model_problems(value)
        return Examined(value, is_json=True, problems=tuple(problems))

    def takes(self, data: Json) -> bool:
        """Whether data that follows the schema also passes the model's own validators."""
        return not self._model_problems(data)

    def _problems(self, value: Json) -> list[str]:
        try:
            found = list(islice(self._validator.iter_errors(value), 10 * MOST_PROBLEMS))
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
        return [_told(problem) for problem in sorted(found, key=_depth)[:MOST_PROBLEMS]]

    def _model_problems(self, value: Json) -> list[str]:
        """What the model's own validators say: they know more than its schema."""
        if self.model is None:
            return []
        try:
            self.model.model_validate_json(json.dumps(value))
        except ValidationError as error:
            return [
                f"does not follow the schema at {_path(each['loc'])}: {each['msg'][:_PROBLEM]}"
                for each in error.errors(include_url=False, include_input=False)[:MOST_PROBLEMS]
            ]
        return []


def _told(problem: Any) -> str:
    # Of an anyOf it is the alternative that came closest which tells what to mend.
    closest = best_match([problem])
    shown = problem if closest is None else closest
    message = shown.message if len(shown.message) <= _PROBLEM else shown.message[:_PROBLEM] + "…"
    return f"does not follow the schema at {shown.json_path}: {message}"


def _path(location: tuple[int | str, ...]) -> str:
    return "$" + "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in location)


@functools.lru_cache(maxsize=256)
def _compile(schema: str) -> Any:
    parsed = json.loads(schema)
    kind = validator_for(parsed, default=Draft202012Validator)
    try:
        kind.check_schema(parsed)
    except InvalidSchema as error:
        raise SchemaError(
            f"Not a valid JSON Schema ({_dialect(kind)}) at {error.json_path}: "
            f"{error.message[:200]}"
        ) from None
    _check_patterns(parsed)
    # The meta-schemas and nothing else: the default registry would fetch a remote $ref.
    return kind(parsed, registry=SPECIFICATIONS)


def _dialect(kind: Any) -> str:
    number = kind.__name__.removeprefix("Draft").removesuffix("Validator")
    return f"Draft {number[:4]}-{number[4:]}" if len(number) > 1 else f"Draft {number}"


def _check_patterns(node: Json) -> None:
    """Raises `SchemaError` for a pattern that no answer could be held to."""
    if isinstance(node, list):
        for each in node:
            _check_patterns(each)
    if not isinstance(node, dict):
        return
    patterns = [node.get("pattern"), *_keys(node.get("patternProperties"))]
    for pattern in patterns:
        if isinstance(pattern, str):
            _check_pattern(pattern)
    for keyword, value in node.items():
        if keyword not in _DATA:
            _check_patterns(value)


def _keys(value: Json) -> list[str]:
    return list(value) if isinstance(value, dict) else []


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise SchemaError(
            f"The schema has a pattern that Python's `re` cannot read ({error.msg}): rewrite it"
        ) from None


def constraint(schema: Mapping[str, Any], name: str, mode: str) -> dict[str, Json]:
    """The part of a request in the OpenAI protocol that holds the answer to a schema.

    `mode` is a deployment's `structured_output`; for `prompt` there is none.
    """
    if mode == "tool":
        called = _NOT_IN_A_NAME.sub("_", name)[:64] or "output"
        function = {"name": called, "parameters": schema}
        return {
            "tools": [{"type": "function", "function": function}],
            "tool_choice": {"type": "function", "function": {"name": called}},
        }
    if mode == "grammar":
        return {"structured_outputs": {"json": schema}}
    return {"response_format": response_format(schema, name)}


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
    text = INSTRUCTION + json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    return with_instruction(messages, text)


def with_instruction(messages: Sequence[Message], text: str) -> list[Message]:
    """The messages with a text at the end of the system message, which is made if missing."""
    if messages and messages[0]["role"] == "system" and isinstance(messages[0]["content"], str):
        extended = {**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}
        return [cast("Message", extended), *messages[1:]]
    return [Message(role="system", content=text), *messages]


def _depth(problem: Any) -> int:
    return len(problem.absolute_path)


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not a JSON number")
