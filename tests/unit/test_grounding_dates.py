"""Dates in digits and words, English and Portuguese."""

import pytest

from rotina.grounding import Source, find


def quotes(value: object, text: str) -> list[str]:
    return [each.quote for each in find(value, text)]


@pytest.mark.parametrize(
    "text",
    [
        "12/03/2025",
        "03/12/2025",
        "12.03.2025",
        "12-3-2025",
        "12/03/25",
        "12 03 2025",
        "12 / 03 / 2025",
        "2025/03/12",
        "2025-03-12",
        "2025.3.12",
        "12 de março de 2025",
        "12 DE MARÇO DE 2025",
        "12 de marco de 2025",
        "12 de\nmarc\u0327o de 2025",
        "12 de mar. de 2025",
        "12/mar/2025",
        "12-Mar-25",
        "12MAR2025",
        "12 March 2025",
        "12th of March, 2025",
        "March 12, 2025",
        "March 12th 2025",
        "Mar. 12, 2025",
        "Mar-12-2025",
        "2025-Mar-12",
        "12 Mar '25",
    ],
)
def test_found(text: str) -> None:
    found = find("2025-03-12", f"On {text}, paid.")
    assert [each.quote for each in found] == [text]
    assert found[0].method == ("exact" if text == "2025-03-12" else "date")


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        ("2025-05-01", "1º de maio de 2025", ["1º de maio de 2025"]),
        ("2025-05-01", "1o de maio de 2025", ["1o de maio de 2025"]),
        ("2025-05-01", "May 1st, 2025", ["May 1st, 2025"]),
        ("2025-09-03", "3 Sept 2025", ["3 Sept 2025"]),
        ("2025-09-03", "3 set. 2025", ["3 set. 2025"]),
        ("1999-12-31", "31/12/99", ["31/12/99"]),
        ("2025-03-12T14:30:00", "12/03/2025 14:30", ["12/03/2025 14:30"]),
        ("2025-03-12T14:30:00", "2025-03-12T14:30Z", ["2025-03-12T14:30"]),
        ("2025-03-12T14:30:05", "12/03/2025 às 14:30:05h", ["12/03/2025 às 14:30:05"]),
        ("2025-03-12T14:30:00-03:00", "12/03/2025, 2:30 PM", ["12/03/2025, 2:30 PM"]),
        ("2025-03-12T00:00:00", "12/03/2025", ["12/03/2025"]),
        ("2025-03-12", "2025-03-12T14:30", ["2025-03-12"]),
    ],
)
def test_found_in_other_forms(value: str, text: str, expected: list[str]) -> None:
    assert quotes(value, text) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2025-03-12", "13/03/2025"),
        ("2025-02-30", "30/02/2025"),
        ("2025-03-12", "12 March"),
        ("2025-03-12", "112/03/2025"),
        ("2025-03-12", "12/03/20255"),
        ("2025-03-12", "12/03-2025"),
        ("2025-03-12", "12  03  25"),
        ("2025-03-12", "12\n03\n2025"),
        ("2025-03-12", "12 Marching 2025"),
        ("2025-03-12", "12 March 2025.5"),
        ("2025-12-03", "12.03.2025"),
        ("2020-03-12", "12 March 20:30"),
        ("2025-03-12T14:30:00", "12/03/2025"),
        ("2025-03-12T14:30:00", "12/03/2025 14:31"),
        ("2025-03-12T14:30:05", "12/03/2025 14:30"),
        ("2025-3-12", "12/03/2025"),
        ("2025-03-99", "99/03/2025"),
    ],
)
def test_never_proven(value: str, text: str) -> None:
    assert quotes(value, text) == []


def test_another_date_fixes_the_order() -> None:
    assert quotes("2025-04-03", "03/04/2025 25/03/2025") == ["03/04/2025"]
    assert quotes("2025-03-04", "03/04/2025 25/03/2025") == []
    assert quotes("2025-03-04", "03/04/2025 03/25/2025") == ["03/04/2025"]
    assert quotes("2025-04-03", "03/04/2025 03/25/2025") == []


def test_an_unfixed_order_keeps_both_readings() -> None:
    for value in ("2025-03-04", "2025-04-03"):
        assert quotes(value, "03/04/2025") == ["03/04/2025"]
        assert quotes(value, "03/04/2025 25/03/2025 03/25/2025") == ["03/04/2025"]


def test_portuguese_is_day_first() -> None:
    text = "Data de vencimento da nota: 03/04/2025"
    assert quotes("2025-04-03", text) == ["03/04/2025"]
    assert quotes("2025-03-04", text) == []
    assert find("2025-03-04", Source("03/04/2025", language="pt")) == []


def test_columns_that_look_like_a_date_stay_numbers() -> None:
    assert quotes(12, "12 10 2025") == ["12"]
