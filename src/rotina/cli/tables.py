"""Tables for people: runs, extracted fields with their proofs, timelines, model calls."""

import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rotina.graphs.extraction import ExtractionResult
from rotina.runs import ModelCallRow, Review, Run, RunEvent, RunSummary

WIDTH = 140
"""Columns where the output is no terminal."""

console = Console(width=None if sys.stdout.isatty() else WIDTH)


def print_runs(runs: Sequence[RunSummary]) -> None:
    """A line a run."""
    if not runs:
        console.print("no runs yet: start one with `rotina run WORKFLOW FILE…`")
        return
    table = _table("run", "workflow", "state", "attempts", "accepted", "seconds", "error")
    for run in runs:
        accepted = run.created_at.strftime("%Y-%m-%d %H:%M:%S")
        error = (run.error or {}).get("type", "") if run.state == "failed" else ""
        state = f"{run.state} (limit)" if run.state == "queued" and run.parked else run.state
        row = (str(run.id), run.workflow, state, str(run.attempts), accepted)
        table.add_row(*row, _seconds(run.seconds), error)
    console.print(table)


def print_run(run: Run, title: str | None = None) -> None:
    """One run: how it ended, and its fields or its result."""
    head = f"{title or run.workflow}  run {run.id}  {run.state}"
    console.print(f"\n[bold]{escape(head)}[/]  attempts {run.attempts}  {_seconds(run.seconds)}")
    if run.error is not None and run.state != "succeeded":
        where = f" in {run.error['node']}" if run.error.get("node") else ""
        message = f"{run.error.get('type')}{where}: {run.error.get('message')}"
        console.print(f"[red]{escape(message)}[/]")
    if run.state == "waiting":
        console.print("it waits for a person: see `rotina reviews`, then `rotina answer REVIEW`")
    extraction = extraction_of(run)
    if extraction is not None:
        print_fields(extraction)
    elif run.result is not None:
        console.print_json(data=run.result)


def print_reviews(reviews: Sequence[Review]) -> None:
    """What waits for a person: the question, what to know for it, and the form's fields."""
    if not reviews:
        console.print("nothing waits for an answer")
        return
    table = _table("review", "workflow", "asked", "of", "question", "fields")
    for each in reviews:
        fields = ", ".join(each.form.get("properties", {}))
        known = "\n".join(f"{name}: {value}" for name, value in each.data.items())
        question = escape(f"{each.question}\n{known}".strip())
        asked = each.created_at.strftime("%Y-%m-%d %H:%M")
        table.add_row(str(each.id), each.workflow, asked, each.assignee or "", question, fields)
    console.print(table)


def extraction_of(run: Run) -> ExtractionResult | None:
    """The extraction in a run's result, if there is one."""
    try:
        return ExtractionResult.model_validate((run.result or {}).get("extraction"))
    except ValidationError:
        return None


def print_fields(extraction: ExtractionResult) -> None:
    """Field, value, the quote with its line, proven or not; then the problems."""
    table = _table("field", "value", "quote", "line", "proof")
    for field in extraction.fields:
        place = "" if field.line is None else str(field.line)
        if field.page is not None:
            place = f"p{field.page} {place}"
        proof = f"[green]{field.method}[/]" if field.proven else "[red]not proven[/]"
        quote = "" if field.quote is None else " ".join(field.quote.split())
        table.add_row(field.path, escape(str(field.value)), escape(quote), place, proof)
    console.print(table)
    proven = sum(field.proven for field in extraction.fields)
    console.print(f"{proven} of {len(extraction.fields)} values proven")
    for problem in extraction.problems:
        console.print(f"[yellow]{escape(problem.path)}: {escape(problem.message)}[/]")


def print_timeline(events: Iterable[RunEvent]) -> None:
    """A line an event."""
    table = _table("at", "event", "detail")
    for event in events:
        detail = "  ".join(f"{key}={value}" for key, value in event.data.items())
        table.add_row(event.at.strftime("%H:%M:%S.%f")[:-3], event.kind, escape(detail))
    console.print(table)


def print_calls(calls: Sequence[ModelCallRow]) -> None:
    """A line a model call, and the sum."""
    table = _table("node", "deployment", "model", "outcome", "tokens in", "out", "ms", "cost")
    for call in calls:
        tokens = (_number(call.prompt_tokens), _number(call.completion_tokens))
        place = (call.node or "", call.deployment, call.model, call.outcome)
        table.add_row(*place, *tokens, str(call.latency_ms), _cost(call.cost_usd))
    console.print(table)
    spent = sum((call.prompt_tokens or 0) + (call.completion_tokens or 0) for call in calls)
    costs = [call.cost_usd for call in calls]
    known = all(cost is not None for cost in costs)
    total = sum((cost for cost in costs if cost is not None), Decimal(0))
    console.print(f"{len(calls)} model calls, {spent} tokens, {_cost(total if known else None)}")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _number(number: Any) -> str:
    return "" if number is None else str(number)


def _cost(cost: Decimal | None) -> str:
    return "cost unknown" if cost is None else f"${cost:.6f}"
