"""Exact and normalised matching: boundaries, accents, white space, hyphens, any script."""

import pytest

from rotina.grounding import Source, find


def quotes(value: object, text: str) -> list[tuple[str, str]]:
    return [(each.quote, each.method) for each in find(value, text)]


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        ("Ana", "Banana Ana ana ÁNA", [("Ana", "exact"), ("ana", "text"), ("ÁNA", "text")]),
        ("ACME Ltda.", "da ACME Ltda. em", [("ACME Ltda.", "exact")]),
        ("São Paulo", "SAO\n  PAULO", [("SAO\n  PAULO", "text")]),
        ("Rua A, 10 Centro", "Rua A, 10\r\nCentro", [("Rua A, 10\r\nCentro", "text")]),
        ('"it\'s"', "\u201cit\u2019s\u201d", [("\u201cit\u2019s\u201d", "text")]),
        ("A - B", "a \u2013 b", [("a \u2013 b", "text")]),
        ("information", "infor-\nmation", [("infor-\nmation", "text")]),
        ("well-known", "well-\nknown", [("well-\nknown", "text")]),
        ("information", "infor\u00admation", [("infor\u00admation", "text")]),
        ("straße", "STRASSE", [("STRASSE", "text")]),
        ("strasse", "Straße 1", [("Straße", "text")]),
        ("fine", "a \ufb01ne day", [("\ufb01ne", "text")]),
        ("istanbul", "İSTANBUL", [("İSTANBUL", "text")]),
        ("cafe", "cafe\u0301 ok", [("cafe\u0301", "text")]),
        ("café", "cafe\u0301 ok", [("cafe\u0301", "text")]),
        ("10", "x ١٠ y", [("١٠", "text")]),
        ("👍🏽", "ok 👍🏽!", [("👍🏽", "exact")]),
        ("👩", "👩\u200d💻 👩", [("👩", "exact")]),
        ("❤", "I ❤\ufe0f it", [("❤\ufe0f", "text")]),
        ("שלום", "אמר שלום לך", [("שלום", "exact")]),
        ("שלום", "\u202bשָׁלוֹם\u202c", [("שָׁלוֹם", "text")]),
        ("東京", "東京都", [("東京", "exact")]),
        ("A/B~C", "x A/B~C y", [("A/B~C", "exact")]),
        ("Nº 123", "N° 123", [("N° 123", "text")]),
        ("123", "Nº123", [("123", "exact")]),
        ("123", "NF-123", [("123", "exact")]),
    ],
)
def test_found(value: str, text: str, expected: list[tuple[str, str]]) -> None:
    assert quotes(value, text) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("10", "2010"),
        ("10", "10.50"),
        ("10", "10,50"),
        ("10", "5.10"),
        ("10", "10/03"),
        ("10", "10:30"),
        ("10", "-10"),
        ("10", "x 10\u00a0500 y"),
        ("500", "x 10\u00a0500 y"),
        ("50", "costs .50"),
        ("Ana", "Banana"),
        ("Ana", "Anabela"),
        ("Ana", "Ana_2"),
        ("nana", "Ba\u00adnana"),
        ("national", "inter-\nnational"),
        ("f", "\ufb01"),
        ("s", "ß"),
        ("क", "कु"),
        ("か", "か\u3099"),
        ("102", "10²"),
        ("👩", "👩\u200d💻"),
        ("👍", "👍🏽"),
        ("", ""),
        ("", "text"),
        ("   ", "a   b"),
        ("\n", "a\nb"),
        ("-", "a - b"),
        ("\u0301", "e\u0301"),
        ("\ud800", "a \ud800 b"),
        ("two lines", "two | x\nlines"),
        ("hello", ""),
    ],
)
def test_never_proven(value: str, text: str) -> None:
    assert quotes(value, text) == []


def test_an_address_with_another_column_between_is_not_proven() -> None:
    text = "Rua das Flores, 10   Invoice 55\nCentro, Recife       Page 1\n"
    assert quotes("Rua das Flores, 10 Centro, Recife", text) == []


def test_a_source_answers_many_values_from_the_same_indexes() -> None:
    source = Source("Ana paid 10")
    assert find("Ana", source) == find("Ana", source.text)
    assert source.normalised is source.normalised


def test_repetitive_text_ends() -> None:
    text = "a" * 200_000 + " a" * 100_000 + "-" * 200_000 + "(" * 200_000
    assert quotes("a" * 50_000, text) == []
    assert len(quotes("a a", text)) > 1
