"""What holds for every text and value."""

import datetime as dt
import unicodedata
from decimal import Decimal
from typing import Any

from babel.dates import format_date
from babel.numbers import format_decimal
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rotina.grounding import Source, find, ground

SCALARS = st.one_of(
    st.text(max_size=12),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=True, allow_infinity=True),
    st.booleans(),
    st.none(),
)
VALUES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below)
)
TRICKY = st.text(
    alphabet=st.sampled_from(
        "aA1 .,-/:%()$R€\n\u00a0\u0301ßﬁİ½²º\u200d\ufe0f👩💻🏽אب東क\u093f\u00ad\ud800"
    ),
    max_size=40,
)
WORD = st.text(alphabet="abcdefghijklmnopqrstuvwxyzáçãé", min_size=1, max_size=10)
LATIN = ["lorem", "ipsum", "dolor", "sit", "amet", "xyz"]
FILLER = st.lists(st.sampled_from(LATIN), max_size=8).map(" ".join)
DECIMALS = st.decimals(-(10**9), 10**9, allow_nan=False, allow_infinity=False, places=2)


@given(VALUES, st.text(max_size=60) | TRICKY)
def test_a_quote_is_its_slice(value: Any, text: str) -> None:
    source = Source(text)
    for field in ground(value, source):
        if field.evidence is not None:
            each = field.evidence
            assert each.start < each.end
            assert text[each.start : each.end] == each.quote
            assert not isinstance(field.value, bool)


@given(TRICKY, TRICKY)
@example("$", "$\u0301")
@settings(max_examples=300)
def test_adversarial_text_never_breaks_and_never_splits_a_letter_from_its_accent(
    value: str, text: str
) -> None:
    for each in find(value, text):
        assert text[each.start : each.end] == each.quote
        following = text[each.end : each.end + 1]
        assert not following or unicodedata.combining(following) == 0


@given(st.text(alphabet="uvwxyz", min_size=1, max_size=8), st.text(alphabet="abcde \n.,0123456789"))
def test_an_absent_value_is_never_proven(value: str, text: str) -> None:
    assert find(value, text) == []


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**9), max_size=10))
def test_an_absent_number_is_never_proven(value: int, others: list[int]) -> None:
    text = " ; ".join(str(other) for other in others)
    assert bool(find(value, text)) == (value in others)
    assert bool(find(str(value), text)) == (value in others)


@given(FILLER, st.lists(WORD, min_size=1, max_size=4).map(" ".join), FILLER)
def test_an_embedded_phrase_is_found_where_it_was_put(before: str, value: str, after: str) -> None:
    text = f"{before} | {value} | {after}"
    start = len(before) + 3
    assert (start, start + len(value)) in [(each.start, each.end) for each in find(value, text)]


@given(FILLER, st.lists(WORD, min_size=1, max_size=4), FILLER, st.sampled_from(["NFC", "NFD"]))
def test_case_accents_and_white_space_do_not_matter(
    before: str, words: list[str], after: str, form: Any
) -> None:
    shown = unicodedata.normalize(form, "\n  ".join(words).upper())
    text = f"{before} | {shown} | {after}"
    plain = unicodedata.normalize("NFD", " ".join(words))
    bare = "".join(each for each in plain if not unicodedata.combining(each))
    assert shown in [each.quote for each in find(bare, text)]


@given(FILLER, DECIMALS, FILLER, st.sampled_from(["en_US", "pt_BR", "de_DE", "fr_FR"]))
@settings(max_examples=300)
def test_a_number_formatted_for_any_locale_is_found(
    before: str, value: Decimal, after: str, locale: str
) -> None:
    shown = format_decimal(value, locale=locale, decimal_quantization=False)
    text = f"{before}: {shown} {after}"
    start = len(before) + 2
    spans = [(each.start, each.end) for each in find(float(value), text)]
    assert (start, start + len(shown)) in spans
    assert find(str(value), text)


@given(DECIMALS, DECIMALS, st.sampled_from(["en_US", "pt_BR", "de_DE", "fr_FR"]))
def test_another_number_is_not_proven(value: Decimal, other: Decimal, locale: str) -> None:
    shown = format_decimal(value.quantize(Decimal("0.01")), "#,##0.00", locale=locale)
    assert bool(find(float(other), f"total {shown}")) == (other == value)


@given(
    FILLER,
    st.dates(dt.date(1970, 1, 1), dt.date(2067, 12, 31)),
    FILLER,
    st.sampled_from(["en", "en_GB", "pt", "pt_PT"]),
    st.sampled_from(["short", "medium", "long", "full"]),
)
@settings(max_examples=300)
def test_a_date_formatted_in_english_or_portuguese_is_found(
    before: str, value: dt.date, after: str, locale: str, length: Any
) -> None:
    shown = format_date(value, format=length, locale=locale)
    found = find(value.isoformat(), f"{before} {shown} {after}")
    assert any(each.quote in shown and each.method == "date" for each in found)
    following = (value + dt.timedelta(days=400)).isoformat()
    assert find(following, f"{before} {shown} {after}") == []
