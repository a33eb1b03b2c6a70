"""Tables for people: what `rotina embeddings` found."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rotina.knowledge.analysis import (
        Anomalies,
        Classified,
        Clusters,
        Diversity,
        Drift,
        Recommended,
        Rows,
    )

WIDTH = 140
"""Columns where the output is no terminal."""
SHOWN = 70
"""Characters of a text in a table."""

console = Console(width=None if sys.stdout.isatty() else WIDTH)


def print_classified(rows: "Rows", known: "Rows", found: Sequence["Classified"]) -> None:
    """A line a row, with the nearest labelled text."""
    table = _table("row", "text", "label", "confidence", "nearest", "cosine")
    for each in found:
        near = _text(known, each.neighbours[0].row)
        scores = (f"{each.confidence:.2f}", near, f"{each.similarity:.2f}")
        label = escape(each.label) if each.label is not None else "[dim]none[/]"
        table.add_row(escape(rows.ids[each.row]), _text(rows, each.row), label, *scores)
    console.print(table)


def print_topics(rows: "Rows", found: "Clusters") -> None:
    """A line a topic, and what the number was chosen from."""
    table = _table("topic", "rows", "cohesion", "terms", "for example")
    for topic in found.topics:
        texts = "\n".join(_text(rows, row) for row in topic.rows)
        sizes = (str(topic.number), str(topic.size), f"{topic.cohesion:.2f}")
        table.add_row(*sizes, escape(", ".join(topic.terms)), texts)
    console.print(table)
    apart = "not defined" if found.silhouette is None else f"{found.silhouette:.3f}"
    console.print(f"{len(found.topics)} topics, silhouette {apart}")
    if found.tried:
        tried = ", ".join(f"{trial.k}: {trial.silhouette:.3f}" for trial in found.tried)
        console.print(f"tried {tried}")
    if -1 in found.labels:
        console.print(f"{found.labels.count(-1)} of {len(rows)} rows in no topic")


def print_recommended(rows: "Rows", found: Sequence["Recommended"]) -> None:
    """A line a row, best first."""
    table = _table("row", "score", "text")
    for each in found:
        table.add_row(escape(rows.ids[each.row]), f"{each.score:.3f}", _text(rows, each.row))
    console.print(table)


def print_anomalies(rows: "Rows", found: "Anomalies") -> None:
    """A line a row that stands out."""
    if found.found:
        table = _table("row", "score", "text")
        for each in found.found:
            table.add_row(escape(rows.ids[each.row]), f"{each.score:.3f}", _text(rows, each.row))
        console.print(table)
    console.print(
        f"{len(found.found)} of {len(rows)} rows stand out: above {found.threshold:.3f} "
        f"({found.rule})"
    )


def print_drift(after: "Rows", found: "Drift") -> None:
    """The verdict, its figures and the newest texts."""
    first, second = found.compared
    console.print(
        f"[bold]{'they differ' if found.drifted else 'no difference shown'}[/]  "
        f"p {found.p_value:.3f}  MMD² {found.mmd:.4f}  AUC {found.auc:.2f}  "
        f"({first} rows before, {second} after)"
    )
    if found.drifted:
        table = _table("most unlike before", "text")
        for row in found.newest:
            table.add_row(escape(after.ids[row]), _text(after, row))
        console.print(table)


def print_diversity(rows: "Rows", found: "Diversity") -> None:
    """The figures, and a line a pair of near copies."""
    console.print(
        f"{found.rows} rows are as varied as {found.vendi:.1f} entirely different ones "
        f"(Vendi score); mean cosine {found.mean_similarity:.3f}"
    )
    if found.pairs:
        table = _table("first", "second", "cosine", "first text", "second text")
        for pair in found.pairs:
            ids = (escape(rows.ids[pair.first]), escape(rows.ids[pair.second]))
            texts = (_text(rows, pair.first), _text(rows, pair.second))
            table.add_row(*ids, f"{pair.similarity:.3f}", *texts)
        console.print(table)
    more = f", {len(found.pairs)} shown" if found.near_pairs > len(found.pairs) else ""
    console.print(f"{found.near_pairs} pairs with a cosine of at least {found.near:g}{more}")


def _text(rows: "Rows", row: int) -> str:
    text = " ".join(rows.texts[row][: 4 * SHOWN].split())
    return escape(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
