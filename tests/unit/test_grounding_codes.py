"""Currencies and identifiers."""

import pytest

from rotina.grounding import find


def quotes(value: object, text: str) -> list[tuple[str, str]]:
    return [(each.quote, each.method) for each in find(value, text)]


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        ("USD", "US$ 10", ["US$"]),
        ("USD", "$10", ["$"]),
        ("USD", "ten dollars", ["dollars"]),
        ("USD", "dez dólares americanos", ["dólares americanos"]),
        ("BRL", "R$ 10,00", ["R$"]),
        ("BRL", "10 reais", ["reais"]),
        ("BRL", "1 real", ["real"]),
        ("EUR", "€ 10 or 10 euros", ["€", "euros"]),
        ("GBP", "£10", ["£"]),
        ("GBP", "dez libras esterlinas", ["libras esterlinas"]),
        ("JPY", "¥1000", ["¥"]),
        ("CAD", "CA$ 5", ["CA$"]),
        ("INR", "₹5", ["₹"]),
    ],
)
def test_currency_found(value: str, text: str, expected: list[str]) -> None:
    found = quotes(value, text)
    assert [quote for quote, _ in found] == expected
    assert {method for _, method in found} == {"currency"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("USD", "R$ 10"),
        ("USD", "CA$ 10"),
        ("USD", "XY$ 10"),
        ("USD", "Canadian dollars"),
        ("USD", "dólares canadenses"),
        ("USD", "All amounts in CAD: $10"),
        ("USD", "Canadian dollars: $10"),
        ("USD", "echo $home"),
        ("USD", "10"),
        ("BRL", "US$ 10"),
        ("BRL", "$ 10"),
        ("BRL", "Real Estate"),
        ("EUR", "$10"),
    ],
)
def test_currency_never_proven(value: str, text: str) -> None:
    assert quotes(value, text) == []


def test_a_code_itself_is_exact() -> None:
    assert quotes("BRL", "Moeda: BRL (R$)") == [("BRL", "exact"), ("R$", "currency")]
    assert quotes("$", "US$ 5 or $ 5") == [("$", "exact")]


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        ("12345678000195", "CNPJ:12.345.678/0001-95.", "12.345.678/0001-95"),
        ("12.345.678/0001-95", "12345678000195", "12345678000195"),
        ("12345678909", "CPF 123.456.789-09", "123.456.789-09"),
        (12345678909, "CPF 123.456.789-09", "123.456.789-09"),
        ("DE89370400440532013000", "IBAN DE89 3704 0044 0532 0130 00", None),
        ("PT123456789", "VAT PT 123 456 789", "PT 123 456 789"),
        ("+55 11 98765-4321", "Tel. +55 (11) 98765-4321", "55 (11) 98765-4321"),
        ("INV0042", "INV-0042", "INV-0042"),
        ("inv-0042", "INV0042", "INV0042"),
        ("01310-100", "CEP 01310100", "01310100"),
    ],
)
def test_code_found(value: object, text: str, expected: str | None) -> None:
    expected = expected or text.removeprefix("IBAN ")
    assert quotes(value, text) == [(expected, "code")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("123456", "1.234,56"),
        ("12.50", "1250"),
        ("-1234", "1234 A"),
        ("1234", "12 34"),
        ("1234", "12-34"),
        ("10-20", "1020"),
        ("A123", "a 123 items"),
        ("12345678", "12.345.678/0001-95"),
        ("0001-95", "12.345.678/0001-95"),
        ("12345678", "AB-1234/5678-X"),
        ("12345678", "1234  5678"),
        ("12345678", "1234\n5678"),
        ("12032025", "12/03/2025"),
        ("ABCD", "AB-CD"),
        ("A1B", "A-1-B"),
        ("1" * 65, "1-" * 65),
    ],
)
def test_code_never_proven(value: str, text: str) -> None:
    assert quotes(value, text) == []
