"""Scripts for the scripted model server: what a good model would answer."""

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.scripted_model import Request

TICKET = {"topic": "product", "message": "A torradeira não liga.", "number": None}


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


async def held(request: Request) -> dict[str, Any] | None:
    """All three agents' model. It notes which agent asks in the folder `HELD_MODEL`, and answers
    once there is no file `hold` in it."""
    properties = (request.schema or {}).get("properties", {})
    answer: dict[str, Any]
    if "lines" in properties:
        agent, answer = "invoice_intake", invoice(request)
    elif "label" in properties:
        agent, answer = "ticket_triage", {"label": _label(properties["label"]["enum"])}
    elif request.schema is not None:
        agent, answer = "support_desk", {"action": "open_ticket", "arguments": TICKET}
    else:
        return None
    await _hold(Path(os.environ["HELD_MODEL"]), agent)
    return answer


async def _hold(folder: Path, agent: str) -> None:
    (folder / f"{agent}.asked").touch()
    while (folder / "hold").exists():
        await asyncio.sleep(0.02)


def _label(names: list[str]) -> str:
    """Of a damaged product, whichever classifier asks."""
    return next(name for name in ("damaged_product", "negative", "normal") if name in names)


def _line(line: str) -> dict[str, str]:
    description, quantity, price, total = re.split(r"  +", line)
    return {"description": description, "quantity": quantity, "unit_price": price, "total": total}


def _after(label: str, text: str) -> str | None:
    found = re.search(rf"^{re.escape(label)} +(.+)$", text, re.MULTILINE)
    return found.group(1) if found else None


def cites(number: int, *texts: str) -> dict[str, Any]:
    """An answer whose sentences all cite the sentence of that number."""
    return {"found": True, "sentences": [{"source": number, "text": text} for text in texts]}


def proven_answer(prompt: str, answers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The answer whose words stand in a numbered sentence of the prompt; on gnomes an invention."""
    for number, sentence in re.findall(r"^\[(\d+)\] (.*)$", prompt, flags=re.MULTILINE):
        for words, text in answers:
            if words in sentence and "gnomes" not in prompt:
                return cites(int(number), text)
    return cites(1, "Yes, we sell garden gnomes.")
