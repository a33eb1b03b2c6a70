"""Copied numbers and dates, read by the conventions of their source."""

from datetime import date
from decimal import Decimal

import pytest
from babel.numbers import format_decimal
from hypothesis import given
from hypothesis import strategies as st

from rotina.grounding import Source, ground, read_date, read_number

ENGLISH = Source(
    "The total amount due is 1,234.56 and the order is 9,999.00 of the date 03/25/2025"
)
PORTUGUESE = Source("O valor total da nota fiscal é de 1.234,56 e o vencimento em 25/03/2025")
SILENT = Source("nothing here")


@pytest.mark.parametrize(
    ("text", "source", "value", "certain"),
    [
        ("12.500,00", SILENT, "12500", True),
        ("12,500.00", SILENT, "12500", True),
        ("1.234", PORTUGUESE, "1234", True),
        ("1.234", ENGLISH, "1.234", True),
        ("1.234", SILENT, "1234", False),
        ("3,000", PORTUGUESE, "3", True),
        ("3,000", ENGLISH, "3000", True),
        ("2,0000", PORTUGUESE, "2", True),
        ("R$ 1.026,00", PORTUGUESE, "1026", True),
        ("£32.00", ENGLISH, "32", True),
        ("17 %", ENGLISH, "17", True),
        ("(5.00)", ENGLISH, "-5", True),
        ("-5,00", PORTUGUESE, "-5", True),
        ("5.00-", ENGLISH, "-5", True),
        ("10 un", PORTUGUESE, "10", True),
        ("1 234,56", SILENT, "1234.56", True),
        (".50", ENGLISH, "0.50", True),
    ],
)
def test_numbers(text: str, source: Source, value: str, certain: bool) -> None:
    found = read_number(text, source)
    assert found is not None
    assert (found.value, found.certain) == (Decimal(value), certain)


@pytest.mark.parametrize("text", ["", "n/a", "ten", "10 x 20", "12.34.56,7", "1" * 500, "10 of 20"])
def test_what_is_not_one_number(text: str) -> None:
    assert read_number(text, SILENT) is None


@pytest.mark.parametrize(
    ("text", "source", "value", "certain"),
    [
        ("25/03/2025", SILENT, date(2025, 3, 25), True),
        ("03/04/2025", PORTUGUESE, date(2025, 4, 3), True),
        ("03/04/2025", ENGLISH, date(2025, 3, 4), True),
        ("03/04/2025", SILENT, date(2025, 4, 3), False),
        ("5 de maio de 2024", PORTUGUESE, date(2024, 5, 5), True),
        ("June 5th, 2024", ENGLISH, date(2024, 6, 5), True),
        ("2024-06-05", SILENT, date(2024, 6, 5), True),
        ("12-Mar-25", SILENT, date(2025, 3, 12), True),
    ],
)
def test_dates(text: str, source: Source, value: date, certain: bool) -> None:
    assert read_date(text, source) == (value, certain)


@pytest.mark.parametrize("text", ["", "soon", "30/02/2025", "2025", "5/3/2025 and 6/3/2025"])
def test_what_is_not_one_date(text: str) -> None:
    assert read_date(text, SILENT) is None


@pytest.mark.parametrize("text", ["maio de 2024", "May 2024", "5 de maio de 2024"])
def test_a_month_and_year_are_no_day(text: str) -> None:
    assert ground("2024-05-20", text)[0].evidence is None


@given(
    number=st.decimals(min_value=0, max_value=10**9, places=2),
    locale=st.sampled_from([("pt_BR", PORTUGUESE), ("en_US", ENGLISH)]),
)
def test_what_a_locale_writes_is_read_back(number: Decimal, locale: tuple[str, Source]) -> None:
    name, source = locale
    written = format_decimal(number, "#,##0.00", locale=name)
    found = read_number(written, source)
    assert found is not None
    assert found.value == number
