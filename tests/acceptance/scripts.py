"""Scripts for the scripted model server: what a good model would answer."""

import re
from typing import Any

from tests.scripted_model import Request


def document(index: int) -> str:
    """An invoice as text; every number in it depends on `index`."""
    price, quantity = 10 + index, index + 1
    return (
        f"Supplier: Acme {index} Ltd.\nInvoice No. INV-{index:04d}\n"
        f"Date: 2025-03-{index % 28 + 1:02d}\n"
        f"Buyer: Shop {index}\nCurrency: EUR\n\n"
        f"Item           Qty   Price    Amount\n"
        f"Gadget type {index}  {quantity}  {price}.50  {quantity * (price + 0.5):.2f}\n"
        f"Total {quantity * (price + 0.5):.2f}\n"
    )


def invoice(request: Request) -> dict[str, Any]:
    """Reads a `document` as the wire schema of the invoice agent wants it."""
    text = request.last_message
    return {
        "number": _after("Invoice No.", text),
        "issue_date": _after("Date:", text),
        "due_date": None,
        "currency": _after("Currency:", text),
        "supplier": {"name": _after("Supplier:", text), "tax_id": None},
        "buyer": {"name": _after("Buyer:", text), "tax_id": None},
        "lines": [_line(line) for line in text.splitlines() if line.startswith("Gadget")],
        "subtotal": None,
        "tax": None,
        "total": _after("Total", text),
    }


def _line(line: str) -> dict[str, str]:
    description, quantity, price, total = re.split(r"  +", line)
    return {"description": description, "quantity": quantity, "unit_price": price, "total": total}


def _after(label: str, text: str) -> str | None:
    found = re.search(rf"^{re.escape(label)} +(.+)$", text, re.MULTILINE)
    return found.group(1) if found else None
