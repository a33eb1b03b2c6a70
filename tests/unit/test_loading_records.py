"""JSON and JSON lines as text."""

import json

import pytest

from rotina.errors import CorruptDocumentError, DocumentTooLargeError, EmptyDocumentError
from rotina.knowledge.loading import Limits, load


def text_of(content: str | bytes, name: str = "a.json", limits: Limits | None = None) -> str:
    given = content.encode() if isinstance(content, str) else content
    return load(given, name=name, limits=limits).text


def test_every_value_stands_under_its_path() -> None:
    order = {
        "order": {"id": 12, "items": [{"name": "Pão", "price": 1.5}, {"name": "שלום 👍🏽"}]},
        "a key": {"": True},
        "none": None,
        "tags": [],
        "more": {},
    }
    assert text_of(json.dumps(order)).splitlines() == [
        "order.id: 12",
        "order.items[0].name: Pão",
        "order.items[0].price: 1.5",
        "order.items[1].name: שלום 👍🏽",
        '["a key"][""]: true',
        "none: null",
        "tags: []",
        "more: {}",
    ]


def test_numbers_stay_as_written_and_no_key_is_lost() -> None:
    text = text_of('{"a": 12.50, "a": 1e400, "b": 12345678901234567890123, "c": NaN}')
    assert text == "a: 12.50\na: 1e400\nb: 12345678901234567890123\nc: NaN"


def test_records_are_parted_by_empty_lines() -> None:
    expected = "[0].a: 1\n[0].b: x\n\n[1].a: 2"
    assert text_of('[{"a": 1, "b": "x"}, {"a": 2}]') == expected
    lines = '{"a": 1, "b": "x"}\r\n\n{"a": 2}\n'
    for name in ("a.jsonl", "a.ndjson", "a.json"):
        assert text_of(lines, name) == expected
    assert text_of("[1, 2]") == "[0]: 1\n[1]: 2"
    assert text_of('"alone"') == "alone"


def test_media_types_and_charsets() -> None:
    document = load('{"a": "ção"}'.encode("utf-16"), name="x", media_type="application/json")
    assert (document.text, document.media_type) == ("a: ção", "application/json")
    assert load(b"1\n2", name="x", media_type="application/x-ndjson").media_type == (
        "application/jsonl"
    )


@pytest.mark.parametrize("content", ["", "[]", "{}", " \n"])
def test_nothing(content: str) -> None:
    with pytest.raises(EmptyDocumentError, match=r"'a\.json'"):
        text_of(content)


def test_damage_says_where() -> None:
    with pytest.raises(CorruptDocumentError, match=r"'a\.json'.*line 2, column 7.*correct it"):
        text_of('{"a": 1,\n "b": }')
    with pytest.raises(CorruptDocumentError, match=r"line 2, column 1"):
        text_of('{"a": 1}\nnot JSON', "a.jsonl")


def test_bombs() -> None:
    for opening in ("[", '{"a":'):
        with pytest.raises(CorruptDocumentError, match="nested too deep"):
            text_of(opening * 100_000)
    long_key = json.dumps({"k" * 10_000: list(range(5000))})
    with pytest.raises(DocumentTooLargeError, match="max_text_chars"):
        text_of(long_key)
    with pytest.raises(DocumentTooLargeError, match="max_text_chars"):
        text_of('{"a": "123456"}', limits=Limits(max_text_chars=5))
