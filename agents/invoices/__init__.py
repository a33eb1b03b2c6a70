"""Reads invoices, notas fiscais and purchase orders, in English and Portuguese."""

from agents.invoices.checks import check_arithmetic
from agents.invoices.examples import EXAMPLES
from agents.invoices.invoice import Invoice, Line, Party
from rotina.graphs.extraction import Extraction

INVOICES = Extraction(
    shape=Invoice,
    instructions="The document is an invoice, a nota fiscal, a receipt or a purchase order.",
    examples=EXAMPLES,
    checks=(check_arithmetic,),
)

__all__ = ["EXAMPLES", "INVOICES", "Invoice", "Line", "Party", "check_arithmetic"]
