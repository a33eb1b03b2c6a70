"""Down-levelling: what is left of a JSON Schema for a server that does not take all of it.

The structure stays (types, properties, items, alternatives, references); what is left out is named,
so that it can be told in words and logged. A reduced schema is for the server only: every answer is
validated against the whole one.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

Json = Any
Schema = Mapping[str, Any]

_STRUCTURE = frozenset(
    {
        *("type", "properties", "required", "additionalProperties", "items", "enum", "const"),
        *("anyOf", "oneOf", "allOf", "$ref", "description", "patternProperties"),
    }
)
_ANNOTATIONS = frozenset(
    {
        *("title", "default", "examples", "example", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "id", "$comment", "$defs", "definitions", "$anchor", "$vocabulary"),
        *("discriminator", "nullable", "contentMediaType", "contentEncoding"),
    }
)
"""They ask nothing of an answer, so nothing is lost without them."""
_OF_A_VALUE = frozenset({"type", "properties", "required", "additionalProperties", "items"})
_MOST_NODES = 3000
_MOST_DEPTH = 40
_MOST_COPIED = 20_000
"""Characters of what an alternative shares with its siblings, copied into each of them."""
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True)
class Dropped:
    """A keyword that a reduced schema lacks."""

    at: str
    """Where it stood, as a JSON Pointer into the schema; in merged schemas about there."""
    keyword: str
    value: Json


@dataclass(frozen=True)
class Reduced:
    """A schema without the keywords that servers lack."""

    schema: dict[str, Json]
    dropped: tuple[Dropped, ...]


def reduced(schema: Schema) -> Reduced:
    """The structure of a schema: see the table in docs/reference/gateway.md."""
    return _reduced(json.dumps(schema))


def merges_without_end(schema: Schema) -> bool:
    """Whether a chain of references leads through an `allOf` back to where it began.

    llama.cpp copies what an `allOf` refers to, so such a schema ends its process, for everybody.
    """
    return _merges_without_end(json.dumps(schema))


@functools.lru_cache(maxsize=256)
def _merges_without_end(schema: str) -> bool:
    if '"allOf"' not in schema or '"$ref"' not in schema:
        return False
    reducer, edges = _Reducer(json.loads(schema)), dict[str, set[tuple[str, bool]]]()
    waiting = ["#"]
    while waiting:
        pointer = waiting.pop()
        if pointer not in edges:
            edges[pointer] = set(_references(reducer.target(pointer), merged=False))
            waiting += [target for target, _ in edges[pointer]]
    merged = [(start, end) for start, found in edges.items() for end, through in found if through]
    return any(_leads(edges, end, start) for start, end in merged)


def _references(node: Json, *, merged: bool) -> Iterator[tuple[str, bool]]:
    """The references in a schema, and whether each is a part of an `allOf`."""
    if isinstance(node, list):
        for each in node:
            yield from _references(each, merged=merged)
    if not isinstance(node, Mapping):
        return
    if isinstance(node.get("$ref"), str):
        yield node["$ref"], merged
    for keyword, value in node.items():
        if keyword not in {"$defs", "definitions", "enum", "const", "default", "examples"}:
            yield from _references(value, merged=keyword == "allOf")


def _leads(edges: Mapping[str, set[tuple[str, bool]]], start: str, end: str) -> bool:
    seen, waiting = set[str](), [start]
    while waiting:
        pointer = waiting.pop()
        if pointer == end:
            return True
        if pointer not in seen:
            seen.add(pointer)
            waiting += [target for target, _ in edges.get(pointer, ())]
    return False


@functools.lru_cache(maxsize=64)
def _reduced(schema: str) -> Reduced:
    return _Reducer(json.loads(schema)).run()


class _Reducer:
    """One schema on its way."""

    def __init__(self, root: dict[str, Json]) -> None:
        self._root = root
        self._dropped: list[Dropped] = []
        self._names: dict[str, str] = {}
        self._nodes = 0

    def run(self) -> Reduced:
        body = self._reduce(self._root, "#", 0)
        definitions: dict[str, Json] = {}
        # Reducing a definition may find further ones.
        while len(definitions) < len(self._names):
            pointer, name = list(self._names.items())[len(definitions)]
            definitions[name] = self._reduce(self.target(pointer), pointer, 0)
        if "$ref" in body:
            # Servers want a type at the root.
            body = dict(definitions[body["$ref"].removeprefix("#/$defs/")])
        if definitions:
            body["$defs"] = definitions
        distinct = {(each.at, each.keyword): each for each in self._dropped}
        return Reduced(body, tuple(distinct.values()))

    def _drop(self, at: str, keyword: str, value: Json) -> None:
        self._dropped.append(Dropped(at, keyword, value))

    def _reduce(self, node: Json, at: str, depth: int) -> dict[str, Json]:
        self._nodes += 1
        if not isinstance(node, Mapping):
            if node is False:
                self._drop(at, "false", node)
            return {}
        if depth > _MOST_DEPTH or self._nodes > _MOST_NODES:
            self._drop(at, "everything", "too much of it")
            return {}
        node = _unwrapped(node)
        if "$ref" in node:
            found = self._reference(node, at)
            if found is not None:
                return found
        flat = self._merged(node, at)
        for keyword, value in flat.items():
            if keyword not in _STRUCTURE and keyword not in _ANNOTATIONS:
                self._drop(at, keyword, value)
        found = self._alternatives(flat, at, depth)
        found = self._value(flat, at, depth) if found is None else found
        if isinstance(flat.get("description"), str):
            found["description"] = flat["description"]
        return found

    def _reference(self, node: Schema, at: str) -> dict[str, Json] | None:
        pointer = node["$ref"]
        if self.target(pointer) is None:
            self._drop(at, "$ref", pointer)
            return None
        for keyword in sorted(node.keys() - _ANNOTATIONS - {"$ref", "description", "allOf"}):
            self._drop(at, keyword, node[keyword])
        return {"$ref": f"#/$defs/{self._name(pointer)}"}

    def _name(self, pointer: str) -> str:
        if pointer not in self._names:
            plain = _NOT_IN_A_NAME.sub("_", pointer.rpartition("/")[2].strip("#")) or "root"
            taken = set(self._names.values())
            name, number = plain, 2
            while name in taken:
                name, number = f"{plain}_{number}", number + 1
            self._names[pointer] = name
        return self._names[pointer]

    def target(self, pointer: Json) -> Schema | None:
        """What a reference into the schema itself points at; None when it leads elsewhere."""
        if not isinstance(pointer, str) or not (pointer == "#" or pointer.startswith("#/")):
            return None
        found: Json = self._root
        for part in unquote(pointer).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, Sequence) and key.isdigit() and int(key) < len(found):
                found = found[int(key)]
            else:
                return None
        return found if isinstance(found, Mapping) else None

    def _followed(self, node: Json) -> dict[str, Json]:
        """A schema, or what its reference points at."""
        for _ in range(_MOST_DEPTH):
            if not isinstance(node, Mapping):
                return {}
            if "$ref" not in node:
                return dict(node)
            node = self.target(node["$ref"])
        return {}

    def _merged(self, node: Schema, at: str) -> dict[str, Json]:
        """The schema with the parts of its `allOf` in it."""
        found = {keyword: value for keyword, value in node.items() if keyword != "allOf"}
        found.pop("$ref", None)
        parts, seen = list(node.get("allOf", ())), 0
        while parts and seen < _MOST_DEPTH:
            seen += 1
            part = self._followed(parts.pop(0))
            parts += part.pop("allOf", ())
            found = self._both(found, part, at)
        return found

    def _both(self, one: Schema, other: Schema, at: str) -> dict[str, Json]:
        """A schema that asks for what both ask for, as far as it can."""
        found = {**other, **one}
        properties = dict(other.get("properties", {}))
        for name, schema in one.get("properties", {}).items():
            known = properties.get(name, schema)
            properties[name] = schema if known == schema else {"allOf": [schema, known]}
        if properties:
            found["properties"] = properties
        if "required" in one or "required" in other:
            names = [*_names(one.get("required")), *_names(other.get("required"))]
            found["required"] = list(dict.fromkeys(names))
        closed = [each.get("additionalProperties") for each in (one, other)]
        if "properties" in one and "properties" in other and closed[0] != closed[1]:
            # A closed part would forbid what the other one asks for.
            found.pop("additionalProperties", None)
        for union in ("anyOf", "oneOf"):
            if union in one and union in other and one[union] != other[union]:
                self._drop(at, union, other[union])
        return found

    def _alternatives(self, flat: Schema, at: str, depth: int) -> dict[str, Json] | None:
        """The `anyOf` or `oneOf` of a schema, with what stands beside it in each of them."""
        union = next((name for name in ("anyOf", "oneOf") if flat.get(name)), None)
        if union is None or "enum" in flat or "const" in flat:
            return None
        if union == "anyOf" and "oneOf" in flat:
            self._drop(at, "oneOf", flat["oneOf"])
        options = flat[union]
        shared = {k: v for k, v in flat.items() if k in _OF_A_VALUE or k == "patternProperties"}
        if shared and len(json.dumps(shared)) * len(options) > _MOST_COPIED:
            self._drop(at, union, options)
            return None
        if union == "oneOf":
            self._drop(at, "oneOf", "at least one of these instead of exactly one")
        found: list[dict[str, Json]] = []
        for index, option in enumerate(options):
            place = f"{at}/{union}/{index}"
            whole = self._both(self._followed(option), shared, place) if shared else option
            each = self._reduce(whole, place, depth + 1)
            if each not in found:
                found.append(each)
        return found[0] if len(found) == 1 else {"anyOf": found}

    def _value(self, flat: Schema, at: str, depth: int) -> dict[str, Json]:
        """What a schema says of one value."""
        found: dict[str, Json] = {}
        if "type" in flat:
            found["type"] = flat["type"]
        elif not {"enum", "const"} & flat.keys():
            # Without a type these would ask nothing of other values, which nobody means.
            if "properties" in flat or "required" in flat:
                found["type"] = "object"
            elif "items" in flat:
                found["type"] = "array"
        for keyword in ("enum", "const"):
            if keyword in flat:
                return {**found, keyword: flat[keyword]}
        kinds = _names(found.get("type"))
        if "object" in kinds:
            found |= self._object(flat, at, depth)
        if "array" in kinds and isinstance(flat.get("items"), Mapping | bool):
            found["items"] = self._reduce(flat["items"], f"{at}/items", depth + 1)
        elif "items" in flat and "array" in kinds:
            self._drop(at, "items", flat["items"])
        return found

    def _object(self, flat: Schema, at: str, depth: int) -> dict[str, Json]:
        found: dict[str, Json] = {}
        properties = {
            name: self._reduce(schema, f"{at}/properties/{name}", depth + 1)
            for name, schema in flat.get("properties", {}).items()
            if schema is not False
        }
        rest = flat.get("additionalProperties")
        patterns = flat.get("patternProperties")
        if patterns:
            self._drop(at, "patternProperties", patterns)
            # Closed, the object could hold none of the names that the patterns allow.
            rest = next(iter(patterns.values())) if len(patterns) == 1 and rest is False else True
        for name in _names(flat.get("required")):
            if rest is not False:
                properties.setdefault(name, {})
        if properties or "properties" in flat:
            found["properties"] = properties
        required = [name for name in _names(flat.get("required")) if name in properties]
        if required:
            found["required"] = required
        if isinstance(rest, Mapping):
            inner = self._reduce(rest, f"{at}/additionalProperties", depth + 1)
            found["additionalProperties"] = inner
        elif rest is not None:
            found["additionalProperties"] = rest
        return found


def _unwrapped(node: Schema) -> Schema:
    """A reference that stands in an `allOf` only to be described, as a reference."""
    parts = [part for part in node.get("allOf", ()) if not _only_describes(part)]
    if len(parts) != 1 or not isinstance(parts[0], Mapping) or "$ref" not in parts[0]:
        return node
    return {**node, **parts[0]} if _only_describes(node, "allOf") else node


def _only_describes(node: Json, *more: str) -> bool:
    return isinstance(node, Mapping) and (_ANNOTATIONS | {"description", *more}).issuperset(node)


def _names(value: Json) -> list[str]:
    """`required` or `type` as a list; a draft 4 `required: true` is none."""
    if isinstance(value, str):
        return [value]
    return list(value) if isinstance(value, list) else []


def in_words(dropped: Sequence[Dropped], limit: int = 4000) -> str:
    """The rules that a reduced schema lacks, a line each, at most `limit` characters."""
    lines, room = list[str](), limit
    for each in dropped:
        if each.keyword in {"false", "everything"}:
            continue
        value = json.dumps(each.value, ensure_ascii=False)
        line = f"{each.at}: {each.keyword} {value if len(value) <= 300 else value[:300] + '…'}"  # noqa: PLR2004
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
    return "\n".join(lines)
