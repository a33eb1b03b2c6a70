"""From the user's schema to the wire, and back to typed values."""

from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from rotina.errors import SchemaError
from rotina.graphs.extraction import Extraction
from rotina.graphs.extraction.prompts import system_prompt
from rotina.graphs.extraction.reading import merge, pointer, read
from rotina.graphs.extraction.schema import empty_value, schema_of, wire_schema
from rotina.graphs.splitting import halve, split
from rotina.grounding import Source


class Kind(Enum):
    """A choice."""

    GOODS = "goods"
    SERVICES = "services"


class Item(BaseModel):
    """A part of the shape."""

    name: str
    amount: Decimal | None = None


class Shape(BaseModel):
    """A model with every kind of leaf."""

    title: str
    day: date | None
    count: int
    ratio: float | None = None
    paid: bool | None = None
    kind: Kind | None = None
    items: list[Item]
    best: Item | None = None


WIRE = wire_schema(schema_of(Shape))


def test_every_leaf_is_copied_and_may_be_absent() -> None:
    text = {"type": ["string", "null"]}
    properties = WIRE["properties"]
    assert properties["title"] == properties["day"] == properties["count"] == text
    assert properties["ratio"] == properties["best"]["properties"]["amount"] == text
    assert properties["paid"] == {"type": ["boolean", "null"]}
    assert properties["kind"] == {"enum": ["goods", "services", None]}
    assert properties["items"]["items"]["required"] == ["name", "amount"]
    assert WIRE["required"] == list(properties)
    assert WIRE["additionalProperties"] is False


def test_the_empty_answer_fits_the_wire() -> None:
    Draft202012Validator(WIRE).validate(empty_value(schema_of(Shape)))


def test_a_wire_answer_becomes_typed_values() -> None:
    answer = {
        "title": " Nota ",
        "day": "25/03/2025",
        "count": "1.200",
        "ratio": "2,5",
        "paid": True,
        "kind": "goods",
        "items": [{"name": "a", "amount": "12.500,00"}, {"name": None, "amount": None}],
        "best": {"name": None, "amount": None},
    }
    source = Source(
        "O valor total da nota é de 12.500,00, com quantidade 1.200 e 2,5 em 25/03/2025"
    )
    data, problems = read(answer, schema_of(Shape), source)
    assert problems == []
    assert data == {
        "title": "Nota",
        "day": "2025-03-25",
        "count": 1200,
        "ratio": 2.5,
        "paid": True,
        "kind": "goods",
        "items": [{"name": "a", "amount": 12500}],
        "best": {"name": None, "amount": None},
    }


@pytest.mark.parametrize(
    ("answer", "path"),
    [
        ({"count": "2,5"}, "/count"),
        ({"count": "many"}, "/count"),
        ({"day": "tomorrow"}, "/day"),
        ({"items": [{"name": "x", "amount": "1 of 2"}]}, "/items/0/amount"),
    ],
)
def test_what_cannot_be_read_is_null_and_told(answer: dict[str, Any], path: str) -> None:
    data, problems = read(answer, schema_of(Shape), Source("total 2,50"))
    assert [problem.path for problem in problems] == [path]
    assert "cannot be read" in problems[0].message
    assert data["count"] is None


def test_a_date_with_two_readings_is_told() -> None:
    data, problems = read({"day": "03/04/2025"}, schema_of(Shape), Source("03/04/2025"))
    assert data["day"] == "2025-04-03"
    assert "two ways" in problems[0].message


def test_long_decimals_stay_exact() -> None:
    data, _ = read({"ratio": "0.12345678901234567890"}, schema_of(Shape), Source(""))
    assert data["ratio"] == "0.12345678901234567890"


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, "Not a JSON Schema"),
        ({"type": "string"}, "an object with properties"),
        ({"type": "object", "properties": {}}, "an object with properties"),
        ({"$ref": "#/$defs/Gone"}, "'#/\\$defs/Gone', which is not there"),
        ({"$ref": "https://example.com/x.json"}, "only references inside"),
        (
            {
                "$ref": "#/$defs/Node",
                "$defs": {
                    "Node": {
                        "type": "object",
                        "properties": {"next": {"$ref": "#/$defs/Node"}},
                    }
                },
            },
            "refers to itself through #/\\$defs/Node",
        ),
        (
            {
                "$ref": "#/$defs/a",
                "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
            },
            "refers to itself",
        ),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        _ = Extraction(shape=schema).wire


def test_references_are_followed_and_their_neighbours_win() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/definitions/T", "description": "mine"}},
        "definitions": {"T": {"type": "number", "description": "theirs"}},
    }
    assert schema_of(schema)["properties"] == {"a": {"type": "number", "description": "mine"}}


def test_all_of_is_merged() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {
                "allOf": [
                    {"type": "object", "properties": {"x": {"type": "string"}}},
                    {"properties": {"y": {"type": "integer"}}},
                ]
            }
        },
    }
    assert set(wire_schema(schema)["properties"]["a"]["properties"]) == {"x", "y"}


def test_the_prompt_explains_the_fields() -> None:
    schema = {
        "type": "object",
        "properties": {
            "lines": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"price": {"type": "number", "description": "net price"}},
                },
            }
        },
    }
    prompt = system_prompt(schema, "Be careful.")
    assert "- lines[].price: net price" in prompt
    assert 'Shape: {"lines":[]}' in prompt
    assert "Be careful." in prompt


def test_answers_of_pieces_are_merged_in_order() -> None:
    first = {"number": None, "total": "1", "lines": [{"a": "x"}], "party": {"name": None}}
    second = {"number": "7", "total": "2", "lines": [{"a": "y"}], "party": {"name": "Z"}}
    assert merge([first, second]) == {
        "number": "7",
        "total": "1",
        "lines": [{"a": "x"}, {"a": "y"}],
        "party": {"name": "Z"},
    }


def test_pointers_are_escaped() -> None:
    assert pointer("/a", "b/c~d") == "/a/b~1c~0d"


@given(text=st.text(max_size=400), limit=st.integers(1, 60))
def test_pieces_cover_the_text_in_order(text: str, limit: int) -> None:
    pieces = split(text, [], limit)
    assert all(0 < piece["end"] - piece["start"] <= limit for piece in pieces)
    assert [piece["index"] for piece in pieces] == list(range(len(pieces)))
    kept = "".join(text[piece["start"] : piece["end"]] for piece in pieces)
    assert "".join(kept.split()) == "".join(text.split())


def test_pieces_end_at_pages_then_paragraphs_then_lines() -> None:
    text = "a" * 30 + "\n\n" + "b" * 10 + "\n" + "c" * 40
    assert split(text, [43], 50)[0]["end"] == 43
    assert split(text, [], 40)[0]["end"] == 32
    assert split(text, [], 50)[0]["end"] == 32


def test_halves() -> None:
    one, two = "one " * 60 + "\n", "two " * 60 + "\n"
    assert halve(one + two) == (one, two)
    assert halve("x") is None
    assert halve("x" + " " * 1000) is None
    assert halve("one\ntwo\n") is None, "too small to be worth another call"
