"""Numbers in every convention, and the wrong readings that must not pass."""

from decimal import Decimal

import pytest

from rotina.grounding import Source, find
from rotina.grounding.numbers import decimal_of, mark_of, readings


def quotes(value: object, text: str) -> list[str]:
    return [each.quote for each in find(value, text)]


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        (1234.56, "1.234,56", ["1.234,56"]),
        (1234.56, "1,234.56", ["1,234.56"]),
        (1234.56, "1 234,56", ["1 234,56"]),
        (1234.56, "1\u202f234,56", ["1\u202f234,56"]),
        (1234.56, "1'234.56", ["1'234.56"]),
        (1234.56, "1\u2019234.56", ["1\u2019234.56"]),
        (1234.56, "R$1.234,56.", ["1.234,56"]),
        (1234567, "1.234.567", ["1.234.567"]),
        (1234567.5, "12,34,567.50", ["12,34,567.50"]),
        (1234567.5, "1 234 567,5", ["1 234 567,5"]),
        (10, "10", ["10"]),
        (10, "10,00", ["10,00"]),
        (10.0, "10", ["10"]),
        (10, "10kg, 10 kg, 10x", ["10", "10", "10"]),
        (10, "EUR10 10EUR", ["10", "10"]),
        (10, "٠١٠ １０", ["٠١٠", "１０"]),
        (-10, "-10", ["-10"]),
        (-10, "\u221210", ["\u221210"]),
        (-10, "10,00-", ["10,00-"]),
        (-10, "(10,00)", ["(10,00)"]),
        (-10, "-R$ 10,00", ["-R$ 10,00"]),
        (-10, "($10.00)", ["($10.00)"]),
        (10, "- 10", ["10"]),
        (0.1, "10%", ["10%"]),
        (10, "10%", ["10"]),
        (0.075, "7,5 %", ["7,5 %"]),
        (0.5, "costs .50", [".50"]),
        (50, "Total.....50", ["50"]),
        (0, "0,00", ["0,00"]),
        (7, "No. 007", ["007"]),
        (0.1, "0.1", ["0.1"]),
        (1e-7, "0.0000001", ["0.0000001"]),
        (10**31 + 7, f"id {10**31 + 7}", [str(10**31 + 7)]),
        ("1234.56", "R$ 1.234,56", ["1.234,56"]),
        ("1,234.56", "1.234,56", ["1.234,56"]),
        ("10.0", "10,00", ["10,00"]),
    ],
)
def test_found(value: object, text: str, expected: list[str]) -> None:
    assert quotes(value, text) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12.5, "12.500,00"),
        (12.5, "Total 12.500,00; frete 12.500"),
        (12500, "12.50"),
        (1.234, "2,50 1.234"),
        (1234, "2.50 1.234"),
        (10, "2010"),
        (10, "10.50"),
        (10, "A10"),
        (10, "10²"),
        (10, "10A"),
        (10, "10-20"),
        (10, "10/20"),
        (10, "10:30"),
        (10, "NF-10"),
        (12, "12/03/2025"),
        (12, "12 de março de 2025"),
        (2025, "12 de março de 2025"),
        (10, "-10"),
        (-10, "10"),
        (10, "-$10.00"),
        (50, "costs .50"),
        (34, "1.2.34"),
        (192, "192.168.0.1"),
        (500, "10\u00a0500"),
        (123456, "1.234,56"),
        ("123456", "1.234,56"),
        (1234, "12 34"),
        (float("nan"), "nan NaN"),
        (float("inf"), "inf Infinity"),
        (1e300, "1e300"),
        pytest.param(10**5000, "1" * 5001, id="huge"),
        (True, "True 1"),
        (False, "False 0"),
        (0.30000000000000004, "0.3"),
    ],
)
def test_never_proven(value: object, text: str) -> None:
    assert quotes(value, text) == []


def test_an_ambiguous_number_keeps_both_readings_until_the_source_decides() -> None:
    assert quotes(1234, "1.234") == quotes(1.234, "1.234") == ["1.234"]
    assert quotes(1234, "1.234 and 99,90") == ["1.234"]
    assert quotes(1.234, "1.234 and 99,90") == []
    assert quotes(1.234, "1.234 and 99.90") == ["1.234"]
    assert quotes(1234, "1.234 and 99.90") == []
    assert quotes(1.234, "1.234 and 99.90 and 99,90") == ["1.234"]


def test_language_decides_when_the_numbers_do_not() -> None:
    assert quotes(1.234, "Valor da nota: 1.234") == []
    assert quotes(1234, "Valor da nota: 1.234") == ["1.234"]
    assert find(1.234, Source("1.234", language="pt-BR")) == []
    assert find(1234, Source("1.234", language="en")) == []


def test_columns_parted_by_a_space_stay_numbers_of_their_own() -> None:
    text = "Parafuso 1 234,56 1.234,56"
    assert quotes(1, text) == ["1"]
    assert quotes(234.56, text) == ["234,56"]
    assert quotes(1234.56, text) == ["1.234,56"]


def test_method_is_exact_only_letter_by_letter() -> None:
    assert [each.method for each in find(10.5, "10.5 10,5 10.50")] == ["exact", "number", "number"]


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        ("1.234", {"1234", "1.234"}),
        ("0.123", {"0.123"}),
        ("1234.567", {"1234.567"}),
        ("1.23.4", set()),
        ("1,234,56", set()),
        ("12.345.678", {"12345678"}),
        ("1" * 41, set()),
    ],
)
def test_readings(digits: str, expected: set[str]) -> None:
    assert readings(digits) == {Decimal(each) for each in expected}


@pytest.mark.parametrize(
    ("digits", "mark"),
    [("1.234", None), ("1.234,5", ","), ("1,234,567", "."), ("12,5", ","), ("1000", None)],
)
def test_decimal_mark(digits: str, mark: str | None) -> None:
    assert mark_of(digits) == mark


def test_values_are_exact_beyond_the_precision_of_decimal_contexts() -> None:
    long = "-1234567890123456789012345678901234.56"
    assert quotes(long[1:], f"total {long[1:].replace('.', ',')} x") == [long[1:].replace(".", ",")]
    assert str(decimal_of(long)) == long
    assert decimal_of("1.234") is None
    assert decimal_of("1e5") is None
