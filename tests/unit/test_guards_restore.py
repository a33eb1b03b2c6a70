"""Placeholders: a value goes, a placeholder comes, and the value is back wherever it stood."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotina.gateway.guards.chain import joined
from rotina.gateway.guards.finding import Found, disjoint, replaced
from rotina.gateway.guards.vault import Restorer, Vault
from rotina.gateway.guards.walk import in_json, in_message

KINDS = st.sampled_from(["CPF", "EMAIL", "PHONE"])
LIKE = st.sampled_from(["<CPF_1>", "<CPF_2>", "<EMAIL_1>", "<CPF_", "<", ">", "\\", '"', "ção 🙂"])
TEXTS = st.lists(st.one_of(LIKE, st.text(max_size=8)), max_size=8).map("".join)


def held(pairs: dict[str, str], texts: list[str] | None = None) -> Vault:
    vault = Vault(texts or [])
    for value, kind in pairs.items():
        vault.placeholder(kind, value)
    return vault


def test_one_value_has_one_placeholder() -> None:
    vault = Vault(["<CPF_2> is in the text"])
    told = [vault.placeholder("CPF", value) for value in ("a", "b", "a", "c")]
    assert told == ["<CPF_1>", "<CPF_3>", "<CPF_1>", "<CPF_4>"]
    assert vault.placeholder("EMAIL", "a") == "<EMAIL_1>"
    assert vault.restored("<CPF_1> <CPF_2> <CPF_9> <cpf_1>") == "a <CPF_2> <CPF_9> <cpf_1>"


def test_a_value_is_not_restored_again() -> None:
    vault = held({"<CPF_2>": "CPF", "x": "CPF"})
    assert vault.restored("<CPF_1>|<CPF_2>") == "<CPF_2>|x"


@given(TEXTS, st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12), KINDS), max_size=6))
def test_what_was_taken_out_comes_back(text: str, places: list[tuple[int, int, str]]) -> None:
    """Whatever stands in the text, and however places overlap."""
    found = [
        Found(start, min(start + length, len(text)), kind)
        for start, length, kind in places
        if start < len(text)
    ]
    vault = Vault([text])
    sent = replaced(text, disjoint(found), vault.placeholder)
    assert vault.restored(sent) == text


@given(
    st.dictionaries(st.text(min_size=1, max_size=12), KINDS, max_size=4),
    TEXTS,
    st.booleans(),
    st.lists(st.integers(0, 80), max_size=80),
)
def test_a_stream_restores_as_the_whole_does(
    values: dict[str, str], around: str, in_json: bool, cuts: list[int]
) -> None:
    vault = held(values)
    names = [vault.placeholder(kind, value) for value, kind in values.items()]
    text = around.join(["", *names, ""])
    if in_json:
        text = text.replace("\\", "/")
    points = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    restorer = Restorer(vault, in_json=in_json)
    pieces = [restorer.feed(text[a:b]) for a, b in itertools.pairwise(points)]
    whole = vault.restored_json(text) if in_json else vault.restored(text)
    assert "".join([*pieces, restorer.end()]) == whole


@pytest.mark.parametrize("form", ["<CPF_12>", "\\u003cCPF_12\\u003e", "\\u003CCPF_12>"])
@pytest.mark.parametrize("value", ["529.982.247-25", 'a "b" \\ ção\n🙂'])
def test_a_placeholder_split_anywhere_comes_back_in_json(form: str, value: str) -> None:
    vault = held({**{str(number): "CPF" for number in range(11)}, value: "CPF"})
    text = f'{{"cpf": "{form}"}}'
    for cut in range(len(text) + 1):
        restorer = Restorer(vault, in_json=True)
        found = restorer.feed(text[:cut]) + restorer.feed(text[cut:]) + restorer.end()
        assert json.loads(found) == {"cpf": value}
    restorer = Restorer(vault, in_json=True)
    assert json.loads("".join(map(restorer.feed, text)) + restorer.end()) == {"cpf": value}


def test_only_what_may_be_a_placeholder_is_kept_back() -> None:
    restorer = Restorer(held({"x": "CPF"}), in_json=False)
    fed = [restorer.feed(piece) for piece in ("a < b", " <C", "PF", "_1", "> <b", "> <CPF")]
    assert fed == ["a < b", " ", "", "", "x <b", "> "]
    assert restorer.end() == "<CPF"


def test_what_is_shown_has_placeholders() -> None:
    vault = held({"ana": "EMAIL", "ana@x.org": "EMAIL", 'a"b': "CPF"})
    assert vault.masked('ana@x.org, ana: "a\\"b"') == '<EMAIL_2>, <EMAIL_1>: "<CPF_1>"'


# ── where texts stand ─────────────────────────────────────────────────────────────────────────


def test_texts_of_a_message() -> None:
    message: Any = {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "one"},
            {"type": "image_url", "image_url": {"url": "data:one"}},
        ],
        "tool_calls": [
            {"id": "one", "function": {"name": "one", "arguments": '{"one": ["one", 1, true]}'}}
        ],
    }
    changed: Any = in_message(message, str.upper)
    assert [part.get("text") for part in changed["content"]] == ["ONE", None]
    assert changed["content"][1] == message["content"][1]
    assert changed["tool_calls"][0]["function"] == {
        "name": "one",
        "arguments": '{"ONE": ["ONE", 1, true]}',
    }
    assert in_message({"role": "assistant", "content": None}, str.upper)["content"] is None


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ('{ "n" :  52998224725 }', '{"n": "<CPF>"}'),
        ('{ "n" :  1.50, "m": null}', '{ "n" :  1.50, "m": null}'),
        ("not json 52998224725", "not json <CPF>"),
        ("", ""),
    ],
)
def test_json_is_written_anew_only_where_it_changes(text: str, changed: str) -> None:
    assert in_json(text, lambda one: one.replace("52998224725", "<CPF>")) == changed


def test_pieces_of_tool_calls_are_joined() -> None:
    pieces = [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{"}},
        {"index": 0, "function": {"arguments": '{"x"'}},
        {"index": 1, "function": {"arguments": "}"}},
        {"index": 0, "function": {"arguments": ": 1}"}},
    ]
    found = [(call["id"], call["function"]) for call in joined(pieces)]
    assert found == [
        ("a", {"name": "f", "arguments": '{"x": 1}'}),
        ("b", {"name": "g", "arguments": "{}"}),
    ]
