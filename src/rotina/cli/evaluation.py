"""`rotina kb eval`."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rotina.cli.knowledge import kb, open_knowledge

if TYPE_CHECKING:
    from rotina.knowledge.evaluation import ChunkSize, Evaluation
    from rotina.knowledge.metrics import Estimate


@kb.command(name="eval")
@click.argument("collection")
@click.argument("questions", type=click.Path(path_type=Path))
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 100), help="Passages.")
@click.option("--rerank", metavar="ROUTE", help="Measure this reranker, too.")
@click.option("--sweep", is_flag=True, help="Choose the vectors' weight on half of the questions.")
@click.option(
    "--chunks",
    type=int,
    multiple=True,
    metavar="CHARACTERS",
    help="Also cut the documents so; may be repeated.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="Also write a page with charts and what was not found (extra plots).",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def evaluate(
    collection: str, questions: Path, report: Path | None, as_json: bool, **options: Any
) -> None:
    """Search COLLECTION for QUESTIONS whose answers are known, and say how well that went.

    QUESTIONS is a JSON Lines file: {"question": …, "uri": …}, with "start" and "end" of the answer
    if you know them, or {"question": …, "passage": …}.
    """
    options["chunk_limits"] = options.pop("chunks")
    if report is not None:
        from rotina.knowledge.evaluation_report import check_report

        check_report(report)
    told = asyncio.run(_evaluate(collection, questions, options))
    if report is not None:
        from rotina.knowledge.evaluation_report import save_report

        save_report(told, report)
    if as_json:
        click.echo(told.model_dump_json())
    else:
        _show(told)


async def _evaluate(collection: str, questions: Path, options: dict[str, Any]) -> "Evaluation":
    from rotina.knowledge.evaluation import evaluate as measure
    from rotina.knowledge.evaluation import read_questions

    asked = await asyncio.to_thread(read_questions, questions)
    async with open_knowledge() as knowledge:
        return await measure(knowledge, collection, asked, **options)


def _show(told: "Evaluation") -> None:
    from rich.table import Table

    from rotina.cli.tables import console

    metrics = list(told.components[0].all)
    title = f"{told.collection}: {told.questions} questions, the first {told.k} passages"
    table = Table(title=title, title_justify="left")
    for heading in ("search", "questions", *metrics):
        table.add_column(heading)
    for component in told.components:
        rows = {"all": component.all, **component.languages}
        for of, values in rows.items():
            name = component.name if of == "all" else ""
            table.add_row(name, of, *(_interval(values[metric]) for metric in metrics))
    console.print(table)
    for component in told.components:
        if component.behind_fused:
            console.print(f"fused beats {component.name} by {_differences(component.behind_fused)}")
    if told.sweep is not None:
        best = told.sweep.vectors
        weight = "vectors alone" if best is None else f"vectors at {best} beside words at 1"
        console.print(
            f"chosen on one half: {weight}, ndcg {_interval(told.sweep.chosen['ndcg'])}; on the "
            f"other half {_interval(told.sweep.checked['ndcg'])}, where the default weights have "
            f"{_interval(told.sweep.default['ndcg'])}"
        )
    if told.chunk_sizes:
        _show_sizes(told.chunk_sizes, metrics)
    console.print(f"{told.misses} questions find nothing right")
    for question in told.worst:
        console.print(f"answered badly: {question}", markup=False)


def _show_sizes(sizes: "list[ChunkSize]", metrics: list[str]) -> None:
    from rich.table import Table

    from rotina.cli.tables import console

    title = "the fused search in chunks of other sizes, and passages that hold as much text"
    table = Table(title=title, title_justify="left")
    for heading in ("characters", "chunks", "passages", *metrics):
        table.add_column(heading)
    for size in sizes:
        values = [_interval(size.all[metric]) if metric in size.all else "" for metric in metrics]
        table.add_row(str(size.limit), str(size.chunks), str(size.k), *values)
    console.print(table)
    for size in sizes:
        console.print(f"the collection's own beat {size.limit} by {_differences(size.behind)}")


def _interval(value: "Estimate") -> str:
    return f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})"


def _differences(values: "dict[str, Estimate]") -> str:
    return ", ".join(f"{name} {_interval(value)}" for name, value in values.items())
