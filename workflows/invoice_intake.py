"""invoice_intake: a document in; the invoice, its proofs and its problems out, and registered.

An invoice above an amount waits for a person before it is registered.
"""

from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from pydantic import BaseModel, Field

from agents.invoices import INVOICES
from rotina.graphs import Context
from rotina.graphs.extraction import (
    ExtractedField,
    ExtractionResult,
    ExtractionState,
    build_extraction,
)
from rotina.runs import FileReference, Workflow, review

Status = Literal["proven", "to_check", "approved", "rejected"]
"""`proven` and `to_check` are what code found; a person's decision replaces them."""

DECISIVE = ("/number", "/issue_date", "/supplier/name", "/currency", "/total")
"""Fields that must be proven before an invoice may go on without a person."""


class IntakeInput(BaseModel):
    """What starts a run."""

    document: FileReference
    approve_above: Decimal | None = Decimal(10_000)
    """A total above this, in the invoice's own currency, waits for a person; null: none does."""


class Approval(BaseModel):
    """What the person who decides fills in."""

    approve: bool = Field(description="register this invoice for payment")
    comment: str = Field(default="", max_length=500)


class IntakeOutput(BaseModel):
    """What a run ends with."""

    extraction: ExtractionResult
    status: Status
    comment: str = ""
    """What the person who decided wrote."""


class IntakeState(ExtractionState, total=False):
    """State of the workflow: that of the extraction, and what became of the invoice."""

    approve_above: str | None
    status: Status
    comment: str


def decide(state: IntakeState) -> IntakeState:
    """`proven` when every decisive field is proven and nothing contradicts; else `to_check`."""
    result = ExtractionResult.model_validate(state["extraction"])
    proven = {field.path for field in result.fields if field.proven}
    enough = proven.issuperset(DECISIVE) and not result.problems
    return {"status": "proven" if enough else "to_check"}


def next_step(state: IntakeState) -> Literal["approve", "register"]:
    """`approve` above the amount, proven or not: a misread total must not slip through."""
    limit = state.get("approve_above")
    total = _total(ExtractionResult.model_validate(state["extraction"]))
    if limit is None or total is None or total <= Decimal(limit):
        return "register"
    return "approve"


def approve(state: IntakeState) -> IntakeState:
    """Ask a person, for as long as it takes."""
    result = ExtractionResult.model_validate(state["extraction"])
    shown = {field.path: field.value for field in result.fields if field.path in DECISIVE}
    decision = review(
        f"Register {result.document.name} for payment? Its total is above the limit.",
        Approval,
        data={
            "document": result.document.name,
            "limit": state["approve_above"],
            "found": state["status"],
            **{path.strip("/"): value for path, value in shown.items()},
            "problems": [problem.message for problem in result.problems],
        },
        assignee="finance",
    )
    status: Status = "approved" if decision.approve else "rejected"
    return {"status": status, "comment": decision.comment}


async def register(state: IntakeState, runtime: Runtime[Context]) -> IntakeState:
    """Put the invoice into the register: once, whatever happens to this worker."""
    result = ExtractionResult.model_validate(state["extraction"])
    row = _row(result, state["status"]) | {"run_id": runtime.context.run_id}

    async def insert(connection: AsyncConnection[DictRow]) -> dict[str, Any]:
        await connection.execute(
            """
            insert into invoice_register
                (run_id, document, supplier, number, issued_on, currency, total, status)
            values (%(run_id)s, %(document)s, %(supplier)s, %(number)s, %(issued_on)s,
                    %(currency)s, %(total)s, %(status)s)
            """,
            row,
        )
        return {"registered": str(runtime.context.run_id)}

    await runtime.context.effects.transact("register_invoice", insert)
    return {}


def _total(result: ExtractionResult) -> Decimal | None:
    try:
        return Decimal(str(result.data.get("total")))
    except InvalidOperation:
        return None


def _row(result: ExtractionResult, status: Status) -> dict[str, Any]:
    """Only what is proven enters the register; the rest waits for a person as null."""
    value = {field.path: _proven_value(field) for field in result.fields}
    return {
        "document": result.document.name,
        "supplier": value.get("/supplier/name"),
        "number": value.get("/number"),
        "issued_on": value.get("/issue_date"),
        "currency": value.get("/currency"),
        "total": value.get("/total"),
        "status": status,
    }


def _proven_value(field: ExtractedField) -> Any:
    return field.value if field.proven else None


def build() -> StateGraph[IntakeState, Context, Any, Any]:
    """extract → decide → (approve) → register."""
    graph = StateGraph(IntakeState, context_schema=Context)
    graph.add_node("extraction_graph", build_extraction(INVOICES).compile())
    graph.add_node("decide", decide)
    graph.add_node("approve", approve)
    graph.add_node("register", register)
    graph.add_edge(START, "extraction_graph")
    graph.add_edge("extraction_graph", "decide")
    graph.add_conditional_edges("decide", next_step)
    graph.add_edge("approve", "register")
    graph.add_edge("register", END)
    return graph


INVOICE_INTAKE = Workflow(
    name="invoice_intake",
    description="Read an invoice, prove every field, check its sums, and register it.",
    input=IntakeInput,
    output=IntakeOutput,
    build=build,
)
