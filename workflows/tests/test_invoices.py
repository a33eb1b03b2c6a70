"""The invoice agent's arithmetic, and the graph of the workflow."""

from copy import deepcopy
from typing import Any

import pytest

from agents.invoices import INVOICES, check_arithmetic
from workflows.invoice_intake import INVOICE_INTAKE, decide

GOOD: dict[str, Any] = {
    "lines": [
        {"quantity": 2, "unit_price": 10.5, "total": 21},
        {"quantity": 3, "unit_price": 0.3333, "total": 1.0},
    ],
    "subtotal": 22,
    "tax": 4.4,
    "total": 26.4,
}


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    data: Any = deepcopy(GOOD)
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert isinstance(data, dict)
    return data


def test_sums_that_add_up_are_no_problem() -> None:
    assert check_arithmetic(GOOD) == []
    assert check_arithmetic({}) == []


def test_a_total_may_include_the_tax_already() -> None:
    assert check_arithmetic(changed(("total",), 22)) == []


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("lines", 0, "total"), 210, "/lines/0/total"),
        (("subtotal",), 220, "/subtotal"),
        (("total",), 264, "/total"),
    ],
)
def test_sums_that_do_not_add_up_are_told(
    path: tuple[str | int, ...], value: Any, where: str
) -> None:
    assert where in [problem.path for problem in check_arithmetic(changed(path, value))]


@pytest.mark.parametrize("absent", [("lines", 0, "quantity"), ("subtotal",), ("total",)])
def test_what_is_not_stated_is_not_checked(absent: tuple[str | int, ...]) -> None:
    assert check_arithmetic(changed(absent, None)) == []


def test_examples_fit_the_schema() -> None:
    for text, answer in INVOICES.examples:
        assert set(answer) == set(INVOICES.wire["properties"])
        for line in answer["lines"]:
            assert all(value in text for value in line.values())


def test_nothing_unproven_goes_on_alone() -> None:
    extraction = {
        "data": {},
        "fields": [],
        "problems": [],
        "document": {
            "name": "a.txt",
            "sha256": "0" * 64,
            "media_type": "text/plain",
            "pages": 0,
            "text": "x",
        },
    }
    assert decide({"extraction": extraction}) == {"status": "to_check"}


def test_the_graph_compiles() -> None:
    nodes = set(INVOICE_INTAKE.graph.nodes)
    assert {"extraction_graph", "decide", "register"} <= nodes
    assert INVOICE_INTAKE.file_field == "document"
