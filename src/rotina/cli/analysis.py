"""`rotina embeddings`: classify, cluster, recommend, anomalies, drift, diversity."""

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rotina.cli.objects import key_values
from rotina.cli.plotting import plotted
from rotina.errors import InvalidInputError, KnowledgeError
from rotina.settings import Settings, load_settings

if TYPE_CHECKING:
    from rotina.gateway import Gateway
    from rotina.knowledge import KnowledgeBase
    from rotina.knowledge.analysis import Classified, Rows
    from rotina.knowledge.analysis.clustering import ClusterMethod
    from rotina.knowledge.analysis.rows import By

POOL_SIZE = 2
"""Connections: one statement at a time."""

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@dataclass(frozen=True)
class Source:
    """Where rows come from: a collection, or a file of texts."""

    collection: str | None
    texts: Path | None
    filters: tuple[str, ...] = ()
    by: "By" = "document"
    route: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if (self.collection is None) == (self.texts is None):
            raise click.UsageError("Give COLLECTION, or --texts FILE with one JSON object a line.")
        if self.texts is not None and (self.filters or self.label):
            raise click.UsageError("--filter and --label are for a collection, not for --texts.")


def _source(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments that name a source, handed to the command as one `Source`."""

    @click.argument("collection", required=False)
    @click.option("--texts", type=FILE, help="A JSON Lines file (text, label, id) instead.")
    @click.option(
        "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only documents so."
    )
    @click.option(
        "--by",
        type=click.Choice(["document", "chunk"]),
        default="document",
        show_default=True,
        help="What a row of a collection is.",
    )
    @click.option("--route", help="Gateway route that embeds; default: the collection's, or embed.")
    @functools.wraps(command)
    def read(
        collection: str | None,
        texts: Path | None,
        filters: tuple[str, ...],
        by: "By",
        route: str | None,
        **others: Any,
    ) -> None:
        label = others.pop("label", None)
        named = collection is not None or texts is not None or not others.get("examples")
        source = Source(collection, texts, filters, by, route, label) if named else None
        command(source=source, **others)

    return read


_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


@click.group()
def embeddings() -> None:
    """Embeddings for more than search: over a collection, or over a file of texts."""


@embeddings.command()
@_source
@click.option("--label", metavar="FIELD", help="Metadata field with the label.")
@click.option("--examples", type=FILE, help="A JSON Lines file with labelled texts.")
@click.option("--text", "asked", multiple=True, help="Classify this text; may be repeated.")
@click.option("--neighbours", type=int, help="Labelled rows that vote.  [default: 5]")
@click.option("--minimum", type=float, default=-1.0, help="Least cosine to the nearest neighbour.")
@click.option("--check", is_flag=True, help="Only say how many labelled rows get their own label.")
@_json
@plotted
def classify(source: Source | None, as_json: bool, **asked: Any) -> None:
    """Label what has no label like its nearest labelled neighbours.

    Labels come from a metadata field (--label), from the `label` of --texts, or from --examples;
    then every row is classified.
    """
    asyncio.run(_classify(source, as_json=as_json, **asked))


@embeddings.command()
@_source
@click.option("-k", type=int, help="Topics; default: the number with the best silhouette.")
@click.option("--method", type=click.Choice(["kmeans", "hdbscan"]), default="kmeans")
@click.option("--most", default=20, show_default=True, help="Most topics to try without -k.")
@click.option("--smallest", default=5, show_default=True, help="Rows of the least hdbscan topic.")
@click.option("--seed", default=0, show_default=True)
@_json
@plotted
def cluster(
    source: Source, method: "ClusterMethod", as_json: bool, plot: Path | None, **options: int
) -> None:
    """Group rows into topics, with the terms and texts that show what each is about."""
    from rotina.cli.analysis_tables import print_topics
    from rotina.knowledge.analysis import cluster as run

    rows = _rows(source)
    found = run(rows.matrix, rows.texts, method=method, **options)
    if as_json:
        _echo({**found.model_dump(exclude={"labels"}), "rows": _labelled(rows, found.labels)})
    else:
        print_topics(rows, found)
    if plot is not None:
        from rotina.knowledge.analysis.plots import plot_topics, save_plot

        save_plot(plot_topics(rows, found), plot)


@embeddings.command()
@_source
@click.option("--like", multiple=True, metavar="ID", help="More like this row; may be repeated.")
@click.option("--unlike", multiple=True, metavar="ID", help="Not like this row.")
@click.option("--like-text", multiple=True, help="More like this text.")
@click.option("--unlike-text", multiple=True, help="Not like this text.")
@click.option("-k", default=10, show_default=True, help="Rows to recommend.")
@click.option("--against", default=0.5, show_default=True, help="How much the unlike count.")
@click.option("--spread", default=0.0, show_default=True, help="Variety, 0 to 1.")
@_json
@plotted
def recommend(source: Source, as_json: bool, **asked: Any) -> None:
    """Find more rows like these and not like those."""
    asyncio.run(_recommend(source, as_json=as_json, **asked))


@embeddings.command()
@_source
@click.option("--neighbours", type=int, help="Nearest rows to measure by.  [default: 10]")
@click.option("--threshold", type=float, help="Score above which a row stands out.")
@click.option("--share", type=float, help="Share of the rows that stand out, 0.01 say.")
@_json
@plotted
def anomalies(source: Source, as_json: bool, plot: Path | None, **options: Any) -> None:
    """Find the rows that are unlike the rest."""
    from rotina.cli.analysis_tables import print_anomalies
    from rotina.knowledge.analysis import anomalies as run

    rows = _rows(source)
    found = run(rows.matrix, **options)
    if as_json:
        shown = [{**_shown(rows, each.row), "score": each.score} for each in found.found]
        told = found.model_dump(exclude={"scores", "found"})
        _echo({**told, "rows": len(rows), "found": shown})
    else:
        print_anomalies(rows, found)
    if plot is not None:
        from rotina.knowledge.analysis.plots import plot_anomalies, save_plot

        save_plot(plot_anomalies(rows, found), plot)


@embeddings.command()
@click.argument("collection", required=False)
@click.option("--before-texts", type=FILE, help="The first set: a JSON Lines file.")
@click.option("--after-texts", type=FILE, help="The second set.")
@click.option("--before-filter", multiple=True, metavar="KEY=VALUE", help="Documents of the first.")
@click.option("--after-filter", multiple=True, metavar="KEY=VALUE", help="Of the second.")
@click.option("--by", type=click.Choice(["document", "chunk"]), default="document")
@click.option("--route", help="Gateway route that embeds; default: the collection's, or embed.")
@click.option("--level", default=0.05, show_default=True, help="Rate of false alarms.")
@click.option("--seed", default=0, show_default=True)
@_json
@plotted
def drift(  # noqa: PLR0913 - one a flag
    *,
    collection: str | None,
    before_texts: Path | None,
    after_texts: Path | None,
    before_filter: tuple[str, ...],
    after_filter: tuple[str, ...],
    by: "By",
    route: str | None,
    as_json: bool,
    plot: Path | None,
    **options: Any,
) -> None:
    """Tell whether two sets differ: two files, or two filters of COLLECTION, or one of each."""
    from rotina.cli.analysis_tables import print_drift
    from rotina.knowledge.analysis import drift as run

    if not (before_texts or after_texts) and not (before_filter and after_filter):
        raise click.UsageError("Say what comes before and what after: a filter or a file of each.")
    before, after = asyncio.run(
        _read(
            Source(None if before_texts else collection, before_texts, before_filter, by, route),
            Source(None if after_texts else collection, after_texts, after_filter, by, route),
        )
    )
    found = run(before.matrix, after.matrix, **options)
    if as_json:
        shown = [_shown(after, row) for row in found.newest]
        _echo({**found.model_dump(exclude={"newest"}), "newest": shown})
    else:
        print_drift(after, found)
    if plot is not None:
        from rotina.knowledge.analysis.plots import plot_drift, save_plot

        save_plot(plot_drift(before, after, found), plot)


@embeddings.command()
@_source
@click.option("--near", default=0.9, show_default=True, help="Cosine of near copies.")
@click.option("--most", default=20, show_default=True, help="Pairs to show.")
@_json
@plotted
def diversity(source: Source, as_json: bool, plot: Path | None, **options: Any) -> None:
    """Measure how varied the rows are (Vendi score), and find near copies."""
    from rotina.cli.analysis_tables import print_diversity
    from rotina.knowledge.analysis import diversity as run

    rows = _rows(source)
    found = run(rows.matrix, **options)
    if as_json:
        pairs = [
            {
                "first": _shown(rows, pair.first),
                "second": _shown(rows, pair.second),
                "similarity": pair.similarity,
            }
            for pair in found.pairs
        ]
        _echo({**found.model_dump(exclude={"pairs"}), "pairs": pairs})
    else:
        print_diversity(rows, found)
    if plot is not None:
        from rotina.knowledge.analysis.plots import plot_diversity, save_plot

        save_plot(plot_diversity(rows, found), plot)


async def _classify(
    source: Source | None,
    *,
    examples: Path | None,
    asked: tuple[str, ...],
    neighbours: int | None,
    minimum: float,
    check: bool,
    as_json: bool,
    plot: Path | None,
) -> None:
    from rotina.cli.analysis_tables import print_classified
    from rotina.knowledge.analysis import classify as run
    from rotina.knowledge.analysis import leave_one_out

    if check and plot is not None:
        raise click.UsageError("--check labels nothing: there is nothing for --plot to draw")
    sources = [source] if source else []
    async with _reader() as reader:
        if examples:
            route = await reader.route(source) if source else None
            sources.append(Source(None, examples, route=route))
        read = [await reader.rows(each) for each in sources]
        known = read[-1].take([row for row, label in enumerate(read[-1].labels) if label])
        if not len(known):
            raise KnowledgeError(
                "No row has a label: name the metadata field with --label, or give --examples"
            )
        labels = [label for label in known.labels if label is not None]
        if check:
            share = leave_one_out(known.matrix, labels, neighbours=neighbours)
            told = {"labelled": len(known), "labels": len(set(labels)), "own_label": share}
            click.echo(
                json.dumps(told) if as_json else f"{share:.1%} of {len(known)} labelled rows"
            )
            return
        rows = await _unlabelled(reader, read, sources, asked)
    found = run(rows.matrix, known.matrix, labels, neighbours=neighbours, minimum=minimum)
    if as_json:
        for each in found:
            _echo(_classified(rows, known, each))
    else:
        print_classified(rows, known, found)
    if plot is not None:
        from rotina.knowledge.analysis.plots import plot_classified, save_plot

        save_plot(plot_classified(rows, known, found), plot)


async def _unlabelled(
    reader: "_Reader", read: "list[Rows]", sources: list[Source], asked: tuple[str, ...]
) -> "Rows":
    """What is to be classified: the texts, and the rows that give no labels themselves."""
    from rotina.knowledge.analysis.rows import join_rows

    first = read[0]
    rows = first
    if len(read) == 1:
        only_examples = bool(asked) and all(first.labels)
        rows = first.take([] if only_examples else [i for i, x in enumerate(first.labels) if not x])
    rows = join_rows(rows, await reader.texts(asked, sources[0]))
    if not len(rows):
        raise KnowledgeError("Every row has a label already: give --text, or rows without one")
    return rows


async def _recommend(
    source: Source,
    *,
    like: tuple[str, ...],
    unlike: tuple[str, ...],
    like_text: tuple[str, ...],
    unlike_text: tuple[str, ...],
    as_json: bool,
    plot: Path | None,
    **options: Any,
) -> None:
    from rotina.cli.analysis_tables import print_recommended
    from rotina.knowledge.analysis import recommend as run
    from rotina.knowledge.analysis.rows import join_rows

    async with _reader() as reader:
        rows = await reader.rows(source)
        given = await reader.texts((*like_text, *unlike_text), source)
    count = len(rows)
    wanted = [rows.find(name) for name in like]
    unwanted = [rows.find(name) for name in unlike]
    wanted += range(count, count + len(like_text))
    unwanted += range(count + len(like_text), count + len(given))
    if not wanted:
        raise click.UsageError("Say what it should be like: --like ID or --like-text TEXT.")
    whole = join_rows(rows, given)
    found = run(whole.matrix, wanted, unwanted, **options)
    if as_json:
        for each in found:
            _echo({**_shown(rows, each.row), "score": each.score})
    else:
        print_recommended(rows, found)
    if plot is not None:
        from rotina.knowledge.analysis.plots import plot_recommended, save_plot

        save_plot(plot_recommended(whole, wanted, unwanted, found), plot)


class _Reader:
    """Reads sources through one gateway; the database is opened for the first collection."""

    def __init__(self, settings: Settings, gateway: "Gateway", stack: AsyncExitStack) -> None:
        self._settings = settings
        self._gateway = gateway
        self._stack = stack
        self._knowledge: KnowledgeBase | None = None

    async def rows(self, source: Source) -> "Rows":
        from rotina.knowledge.analysis import collection_rows, file_rows

        if source.texts is not None:
            return await file_rows(source.texts, self._gateway, route=source.route or "embed")
        assert source.collection is not None
        knowledge = await self._base()
        return await collection_rows(
            knowledge,
            source.collection,
            filter=key_values(source.filters),
            by=source.by,
            label=source.label,
        )

    async def texts(self, texts: Sequence[str], source: Source) -> "Rows":
        """Texts of the command line, embedded as the source's rows are; ids `text 1`, …"""
        from rotina.knowledge.analysis import TextRow, embed_rows

        if any(not text.strip() for text in texts):
            raise InvalidInputError("A text is empty: write something")
        rows = [TextRow(text=text, id=f"text {i}") for i, text in enumerate(texts, start=1)]
        return await embed_rows(rows, self._gateway, route=await self.route(source))

    async def route(self, source: Source) -> str:
        """What embeds the source's rows."""
        if source.route is not None or source.collection is None:
            return source.route or "embed"
        return (await (await self._base()).get(source.collection)).route

    async def _base(self) -> "KnowledgeBase":
        from rotina.database import open_pool
        from rotina.knowledge import KnowledgeBase

        if self._knowledge is None:
            url = self._settings.require_database_url()
            pool = await self._stack.enter_async_context(open_pool(url, size=POOL_SIZE))
            self._knowledge = KnowledgeBase(pool, self._gateway, self._settings.tenant)
        return self._knowledge


@asynccontextmanager
async def _reader() -> AsyncIterator[_Reader]:
    from rotina.database import open_pool
    from rotina.gateway import Gateway

    settings = load_settings()
    async with AsyncExitStack() as stack:
        gateway = Gateway(settings)
        if settings.budgets:
            url = settings.require_database_url()
            pool = await stack.enter_async_context(open_pool(url, size=POOL_SIZE))
            gateway = Gateway.with_database(settings, pool)
        await stack.enter_async_context(gateway)
        yield _Reader(settings, gateway, stack)


async def _read(*sources: Source) -> "list[Rows]":
    async with _reader() as reader:
        return [await reader.rows(source) for source in sources]


def _rows(source: Source) -> "Rows":
    (rows,) = asyncio.run(_read(source))
    return rows


def _shown(rows: "Rows", row: int) -> dict[str, Any]:
    return {"id": rows.ids[row], "text": rows.texts[row]}


def _labelled(rows: "Rows", labels: list[int]) -> list[dict[str, Any]]:
    return [{"id": name, "topic": label} for name, label in zip(rows.ids, labels, strict=True)]


def _classified(rows: "Rows", known: "Rows", each: "Classified") -> dict[str, Any]:
    near = [
        {"id": known.ids[one.row], "label": one.label, "similarity": one.similarity}
        for one in each.neighbours
    ]
    told = each.model_dump(exclude={"row", "neighbours"})
    return {**_shown(rows, each.row), **told, "neighbours": near}


def _echo(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))
