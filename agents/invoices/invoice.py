"""What an invoice says. Every field may be absent: documents leave out what they like."""

from datetime import date
from decimal import Decimal

from pydantic import BaseModel, Field


class Party(BaseModel):
    """A company or person on the invoice."""

    name: str | None = None
    tax_id: str | None = Field(default=None, description="CNPJ, CPF, VAT or EIN number")


class Line(BaseModel):
    """One item."""

    description: str | None = None
    quantity: Decimal | None = None
    unit_price: Decimal | None = None
    total: Decimal | None = Field(default=None, description="total of this item")


class Invoice(BaseModel):
    """An invoice, nota fiscal, receipt or purchase order."""

    number: str | None = Field(default=None, description="number of the invoice or order")
    issue_date: date | None = Field(default=None, description="issue date, data de emissão")
    due_date: date | None = Field(default=None, description="due date, vencimento")
    currency: str | None = Field(default=None, description="ISO code, e.g. USD, BRL, EUR")
    supplier: Party = Field(default_factory=Party, description="who sells, emitente, fornecedor")
    buyer: Party = Field(default_factory=Party, description="who pays, destinatário, cliente")
    lines: list[Line] = Field(default_factory=list)
    subtotal: Decimal | None = Field(default=None, description="sum of the items before tax")
    tax: Decimal | None = Field(default=None, description="sum of taxes")
    total: Decimal | None = Field(default=None, description="amount to pay, valor total da nota")
