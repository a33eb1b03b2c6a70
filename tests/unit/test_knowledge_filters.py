"""Filters: everything malformed is refused by name, and nothing given becomes SQL text."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotina.errors import FilterError
from rotina.knowledge.filters import compile_filter

INJECTION = "x' or true; drop table rotina.run; --"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("team=billing", "'team=billing' is no filter"),
        (["a"], "is no filter"),
        ({1: "a"}, "1 is no metadata key"),
        ({"": "a"}, "no metadata key"),
        ({"a\x00": "a"}, "no metadata key"),
        ({"a": {}}, "'a' has an empty condition"),
        ({"a": {"$like": "b"}}, r"'\$like' is no filter operator: use \$eq, \$ne"),
        ({"a": {"gt": 1}}, r"'gt' is no filter operator"),
        ({"$xor": []}, r"'\$xor' is no filter operator here: use \$and"),
        ({"$or": {}}, r"\$or takes a list of filters"),
        ({"$and": []}, r"\$and takes a list of filters"),
        ({"$and": ["a"]}, "'a' is no filter"),
        ({"$not": 3}, "3 is no filter"),
        ({"a": {"$in": "abc"}}, r"\$in takes a list"),
        ({"a": {"$gt": None}}, r"\$gt compares numbers or texts, not None"),
        ({"a": {"$lte": True}}, r"\$lte compares numbers or texts, not True"),
        ({"a": {"$exists": "yes"}}, r"\$exists takes true or false"),
        ({"a": [1]}, r"\[1\] cannot be compared"),
        ({"a": float("nan")}, "nan cannot be compared"),
        ({"a": {"$gt": float("inf")}}, "inf cannot be compared"),
        ({"a": "b\x00"}, "NUL or a lone surrogate"),
        ({"a": "\ud800"}, "NUL or a lone surrogate"),
    ],
)
def test_a_malformed_filter_is_refused(given: Any, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        compile_filter(given)


def test_a_filter_without_end_is_refused() -> None:
    nested: dict[str, Any] = {"a": 1}
    for _ in range(30):
        nested = {"$and": [nested]}
    with pytest.raises(FilterError, match="nested more than 20 deep"):
        compile_filter(nested)


@pytest.mark.parametrize("empty", [None, {}])
def test_no_filter_is_none(empty: Any) -> None:
    assert compile_filter(empty) is None


def test_a_filter_without_end_in_breadth_is_refused() -> None:
    with pytest.raises(FilterError, match="characters long, and 100000 are allowed"):
        compile_filter({"a": {"$in": [f"value {number}" for number in range(10_000)]}})


def test_operators_and_keys_are_not_mixed() -> None:
    with pytest.raises(FilterError, match="'a' mixes operators and keys"):
        compile_filter({"a": {"$gt": 1, "b": 2}})


TOKENS = re.compile(r"(\$|\.|==|>=|<=|>|<|&&|\|\||!|\(|\)|is unknown|exists| |\d+)*")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1))
def test_keys_and_values_stay_inside_their_quotes(text: str) -> None:
    text = f"k{text}{INJECTION}"
    compiled = compile_filter({text: {"$in": [text, 3], "$gt": text}, "$not": {text: text}})
    assert compiled is not None
    outside, place = "", 0
    while place < len(compiled):
        if compiled[place] == '"':
            value, place = json.JSONDecoder().raw_decode(compiled, place)
            assert value in text
        else:
            outside += compiled[place]
            place += 1
    assert TOKENS.fullmatch(outside), outside
