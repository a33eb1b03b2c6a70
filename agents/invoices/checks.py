"""Sums that must add up. Nothing is corrected: a person should see what the document says."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from agents.invoices.invoice import Invoice
from rotina.graphs.extraction import Problem

CENT = Decimal("0.01")
HALF_CENT = Decimal("0.005")


def check_arithmetic(data: Mapping[str, Any]) -> list[Problem]:
    """Quantity × unit price = line total, lines = subtotal, subtotal + tax = total.

    A sum is checked only where the document states all of its parts.
    """
    try:
        invoice = Invoice.model_validate(data)
    except ValidationError:
        return []  # the schema's own violations are reported already
    return [*_line_problems(invoice), *_total_problems(invoice)]


def _line_problems(invoice: Invoice) -> list[Problem]:
    problems = []
    for index, line in enumerate(invoice.lines):
        if line.quantity is None or line.unit_price is None or line.total is None:
            continue
        expected = line.quantity * line.unit_price
        # A price of four decimals was rounded when it was printed.
        slack = max(CENT, abs(line.quantity) * HALF_CENT)
        if abs(expected - line.total) > slack:
            message = f"{line.quantity} × {line.unit_price} is {expected}, not {line.total}"
            problems.append(Problem(path=f"/lines/{index}/total", message=message))
    return problems


def _total_problems(invoice: Invoice) -> list[Problem]:
    totals = [line.total for line in invoice.lines]
    stated = [total for total in totals if total is not None]
    slack = CENT * max(1, len(stated))
    whole = stated and len(stated) == len(totals)
    subtotal, tax, total = invoice.subtotal, invoice.tax, invoice.total
    if whole and subtotal is not None and abs(sum(stated) - subtotal) > slack:
        message = f"the lines add up to {sum(stated)}, not {subtotal}"
        return [Problem(path="/subtotal", message=message)]
    base = subtotal if subtotal is not None else (sum(stated) if whole else None)
    if base is None or total is None:
        return []
    # Prices may include the tax (as in Brazil) or not: both readings are right somewhere.
    candidates = {base, base + (tax or 0)}
    if all(abs(candidate - total) > slack for candidate in candidates):
        sums = " or ".join(str(candidate) for candidate in sorted(candidates))
        return [Problem(path="/total", message=f"the parts add up to {sums}, not {total}")]
    return []
