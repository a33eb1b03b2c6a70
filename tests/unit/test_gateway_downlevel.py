"""What is left of a schema for servers that lack keywords, and that what is dropped is named."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rotina.gateway.downlevel import in_words, merges_without_end, reduced

TEXT = {"type": "string"}

TABLE: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    (
        "bounds, patterns and formats go",
        {"type": "string", "pattern": "^a", "minLength": 1, "format": "date", "title": "T"},
        TEXT,
        ["format", "minLength", "pattern"],
    ),
    (
        "structure stays",
        {
            "type": "object",
            "properties": {"a": {"enum": [1, "x"]}, "b": {"const": None}},
            "required": ["a"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"a": {"enum": [1, "x"]}, "b": {"const": None}},
            "required": ["a"],
            "additionalProperties": False,
        },
        [],
    ),
    (
        "if, not and dependencies go",
        {"type": "object", "if": {}, "then": {}, "not": {}, "dependentRequired": {}},
        {"type": "object"},
        ["dependentRequired", "if", "not", "then"],
    ),
    (
        "oneOf becomes anyOf",
        {"oneOf": [TEXT, {"type": "null"}]},
        {"anyOf": [TEXT, {"type": "null"}]},
        ["oneOf"],
    ),
    (
        "alternatives take what stands beside them",
        {
            "type": "object",
            "properties": {"a": TEXT, "b": TEXT},
            "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        {
            "anyOf": [
                {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "required": [name]}
                for name in "ab"
            ]
        },
        [],
    ),
    (
        "alternatives that differ by what is dropped are one",
        {"type": "string", "anyOf": [{"format": "date"}, {"format": "time"}]},
        TEXT,
        ["format", "format"],
    ),
    (
        "allOf is merged",
        {
            "allOf": [
                {"$ref": "#/$defs/named"},
                {"properties": {"b": TEXT}, "required": ["b"], "additionalProperties": False},
            ],
            "$defs": {"named": {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}},
        },
        {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "required": ["a", "b"]},
        [],
    ),
    (
        "references into the schema are kept, from wherever they point",
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/components/a~1b"}, "c": {"$ref": "#/properties/d"}},
            "components": {"a/b": {"type": "integer", "minimum": 3}},
        },
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/a_1b"}, "c": {}},
            "$defs": {"a_1b": {"type": "integer"}},
        },
        ["$ref", "components", "minimum"],
    ),
    (
        "recursion is kept",
        {
            "$ref": "#/definitions/node",
            "definitions": {
                "node": {
                    "type": "object",
                    "properties": {"next": {"$ref": "#/definitions/node"}},
                }
            },
        },
        {
            "type": "object",
            "properties": {"next": {"$ref": "#/$defs/node"}},
            "$defs": {
                "node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
            },
        },
        [],
    ),
    (
        "a type is told where it is meant",
        {"properties": {"a": {"items": TEXT}}},
        {"type": "object", "properties": {"a": {"type": "array", "items": TEXT}}},
        [],
    ),
    (
        "names by pattern become open names",
        {"type": "object", "patternProperties": {"^S_": TEXT}, "additionalProperties": False},
        {"type": "object", "additionalProperties": TEXT},
        ["patternProperties"],
    ),
    (
        "what is required exists",
        {"type": "object", "required": ["a"]},
        {"type": "object", "properties": {"a": {}}, "required": ["a"]},
        [],
    ),
    (
        "tuples and remote references go",
        {"type": "array", "items": [TEXT], "contains": {"$ref": "http://x/y"}},
        {"type": "array"},
        ["contains", "items"],
    ),
    ("true, false and nothing", {"properties": {"a": True, "b": False}},
     {"type": "object", "properties": {"a": {}}}, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "expected", "dropped"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_table(schema: dict[str, Any], expected: dict[str, Any], dropped: list[str]) -> None:
    before = json.dumps(schema)
    found = reduced(schema)
    assert found.schema == expected
    assert sorted(each.keyword for each in found.dropped) == dropped
    assert json.dumps(schema) == before
    Draft202012Validator.check_schema(found.schema)
    assert reduced(found.schema).schema == found.schema, "nothing more to leave out"


def test_endless_and_huge_schemas_end() -> None:
    endless = {"allOf": [{"$ref": "#"}, {"properties": {"a": {"allOf": [{"$ref": "#"}, TEXT]}}}]}
    assert reduced(endless).schema["type"] == "object"
    wide: dict[str, Any] = {"anyOf": [{"properties": {str(at): TEXT}} for at in range(200)]}
    nested = {"type": "object", "properties": {"a": wide, "b": wide}, "anyOf": [wide] * 20}
    found = reduced(nested)
    assert len(json.dumps(found.schema)) < 200_000
    assert "anyOf" in {each.keyword for each in found.dropped}


def test_what_is_dropped_is_told_in_words_within_a_limit() -> None:
    schema = {"properties": {"código": {"pattern": "^ã", "not": False}, "b": {"minimum": 3}}}
    told = in_words(reduced(schema).dropped)
    assert told.splitlines() == [
        '#/properties/código: pattern "^ã"',
        "#/properties/código: not false",
        "#/properties/b: minimum 3",
    ]
    many = {"properties": {f"p{at}": {"pattern": "x" * 1000} for at in range(100)}}
    assert 3000 < len(in_words(reduced(many).dropped)) <= 4000


@pytest.mark.parametrize(
    ("schema", "endless"),
    [
        ({"properties": {"a": {"allOf": [{"$ref": "#"}]}}}, True),
        ({"properties": {"a": {"$ref": "#"}}, "allOf": [{"type": "object"}]}, False),
        (
            {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}},
            False,
        ),
        (
            {
                "properties": {"a": {"$ref": "#/$defs/a"}},
                "$defs": {
                    "a": {"items": {"$ref": "#/$defs/b"}},
                    "b": {"anyOf": [{"allOf": [{"title": "t"}, {"$ref": "#/$defs/a"}]}]},
                },
            },
            True,
        ),
        ({"allOf": [{"$ref": "http://x/y"}, {"$ref": "#/nowhere"}]}, False),
        ({}, False),
    ],
)
def test_merging_without_end_is_seen(schema: dict[str, Any], *, endless: bool) -> None:
    assert merges_without_end(schema) is endless
    assert not merges_without_end(reduced(schema).schema)
