"""`rotina kb`: create, add, search, stats, delete. The rest is in `knowledge_upkeep`."""

import asyncio
import hashlib
import itertools
import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rotina.cli.objects import key_values
from rotina.cli.plotting import plotted
from rotina.cli.waiting import warn_without_worker
from rotina.errors import KnowledgeError, RotinaError
from rotina.settings import load_settings

if TYPE_CHECKING:
    from rotina.knowledge import Collection, KnowledgeBase, Passage, StoredDocument
    from rotina.runs import Run, Upload
    from rotina.worker import Client

WORKFLOW = "knowledge_ingest"
PARALLEL = 8
"""Files that are read, and waited for, at the same time."""
SUFFIXES = frozenset(
    {
        ".pdf", ".docx", ".pptx", ".xlsx", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".html",
        ".htm", ".eml", ".msg", ".txt", ".md",
    }
)  # fmt: skip
"""What is taken from a folder; a file named by itself is always tried."""
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"})
"""Taken as well where OCR is installed."""
MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"])
"""A day or a moment; without a zone it is this machine's."""
SHOWN = 300
"""Characters of a passage in a table."""


@click.group()
def kb() -> None:
    """Knowledge base: collections of documents that agents search and cite."""


@kb.command()
@click.argument("collection")
@click.option("--route", default="embed", show_default=True, help="Gateway route that embeds.")
@click.option("--language", type=click.Choice(["en", "pt"]), help="Default: each document's own.")
@click.option("--chunk-limit", default=600, show_default=True, help="Characters of a chunk.")
@click.option("--chunk-overlap", type=int, help="Shared with the one before.  [default: 1/12]")
@click.option("--if-missing", is_flag=True, help="Do nothing when it exists.")
def create(collection: str, **options: Any) -> None:
    """Create COLLECTION."""
    asyncio.run(_create(collection, options))


@kb.command()
@click.argument("collection")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="For every document.")
@click.option("--language", type=click.Choice(["en", "pt"]), help="Default: guessed from the text.")
@click.option("--access", multiple=True, metavar="LABEL", help="Who may see it; default: all.")
@click.option("--valid-from", type=MOMENT, help="From when it holds.")
@click.option("--valid-to", type=MOMENT, help="The first moment when it no longer holds.")
@click.option("--timeout", type=float, help="Seconds to wait for each file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file.")
def add(  # noqa: PLR0913 - one a flag
    *,
    collection: str,
    paths: tuple[Path, ...],
    metadata: tuple[str, ...],
    language: str | None,
    access: tuple[str, ...],
    valid_from: datetime | None,
    valid_to: datetime | None,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Add files, and the documents in folders, to COLLECTION: one run a file.

    What is there already with the same content is left alone. Ends with status 1 when a file
    failed.
    """
    value: dict[str, Any] = {
        "collection": collection, "metadata": key_values(metadata), "language": language,
    }  # fmt: skip
    if access:
        value["access"] = sorted(set(access))
    for name, moment in (("valid_from", valid_from), ("valid_to", valid_to)):
        if moment is not None:
            value[name] = moment.astimezone().isoformat()
    order = _Order(collection, value, timeout, as_json)
    if not asyncio.run(_add_all(order, paths)):
        sys.exit(1)


@kb.command()
@click.argument("collection")
@click.argument("question")
@click.option("-k", default=8, show_default=True, help="Passages.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only documents so.")
@click.option("--access", multiple=True, metavar="LABEL", help="As somebody who has it.")
@click.option("--as-of", type=MOMENT, help="What held then; default: now.")
@click.option("--text", type=float, help="Weight of the words.")
@click.option("--vectors", type=float, help="Weight of the vectors.")
@click.option("--ranks", is_flag=True, help="Fuse ranks instead of scores.")
@click.option("--route", help="Another embedding of the collection.")
@click.option(
    "--rerank", metavar="ROUTE", help="Have a reranker, or a chat model, order the best passages."
)
@click.option("--diversity", type=float, default=0.0, help="0 to 1: leave out what says the same.")
@click.option("--neighbours", type=int, default=0, help="Chunks before and after each passage.")
@click.option("--section", is_flag=True, help="Whole sections.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a passage.")
@plotted
def search(  # noqa: PLR0913 - one a flag
    *,
    collection: str,
    question: str,
    k: int,
    filters: tuple[str, ...],
    access: tuple[str, ...],
    as_of: datetime | None,
    text: float | None,
    vectors: float | None,
    ranks: bool,
    route: str | None,
    rerank: str | None,
    diversity: float,
    neighbours: int,
    section: bool,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Search COLLECTION for the passages that answer QUESTION."""
    from rotina.knowledge import Refinement, Weights

    usual = Weights()
    weights = Weights(
        text=usual.text if text is None else text,
        vectors=usual.vectors if vectors is None else vectors,
        fusion="ranks" if ranks else "scores",
    )
    asked: dict[str, Any] = {
        "k": k,
        "filter": key_values(filters),
        "weights": weights,
        "access": list(access) or None,
        "route": route,
        "refinement": Refinement(
            rerank=rerank, diversity=diversity, neighbours=neighbours, section=section
        ),
    }
    if as_of is not None:
        asked["as_of"] = as_of.astimezone()
    if plot is not None and access:
        raise click.UsageError("--plot draws what everybody has stored: leave --access out")
    asyncio.run(_search(collection, question, asked, as_json=as_json, plot=plot))


@kb.command()
@click.argument("collection", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a collection.")
def stats(collection: str | None, as_json: bool) -> None:
    """How much COLLECTION (or each of them) holds."""
    asyncio.run(_stats(collection, as_json=as_json))


@kb.command()
@click.argument("collection")
@click.argument("uri", required=False)
@click.option("--answers", is_flag=True, help="Also what runs have answered from the document.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(collection: str, uri: str | None, answers: bool, yes: bool) -> None:
    """Delete COLLECTION, or the document URI in it."""
    if answers and not uri:
        raise click.UsageError("--answers goes with a document: name its URI")
    what = f"document {uri!r} of {collection!r}" if uri else f"collection {collection!r}"
    if not yes:
        also = ", and the answers that cite it" if answers else ""
        click.confirm(f"Delete {what} with chunks and vectors{also}?", abort=True)
    asyncio.run(_delete(collection, uri, answers=answers))
    click.echo(f"deleted {what}")


@dataclass
class _Order:
    """What `add` is asked for."""

    collection: str
    value: dict[str, Any]
    timeout: float | None
    as_json: bool
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PARALLEL))

    @property
    def validity(self) -> tuple[datetime | None, datetime | None]:
        """From when to when the documents hold."""
        first, last = (self.value.get(name) for name in ("valid_from", "valid_to"))
        return first and datetime.fromisoformat(first), last and datetime.fromisoformat(last)


@asynccontextmanager
async def open_knowledge() -> AsyncIterator["KnowledgeBase"]:
    """The tenant's knowledge base, with its own pool and gateway."""
    from rotina.database import open_pool
    from rotina.gateway import Gateway
    from rotina.knowledge import KnowledgeBase

    settings = load_settings()
    async with (
        open_pool(settings.require_database_url(), size=PARALLEL) as pool,
        Gateway.with_database(settings, pool) as gateway,
    ):
        yield KnowledgeBase(pool, gateway, settings.tenant)


async def _create(collection: str, options: dict[str, Any]) -> None:
    async with open_knowledge() as knowledge:
        made = await knowledge.create(collection, **options)
    click.echo(f"collection {made.name!r}, embedded by route {made.route!r}")


async def _add_all(order: _Order, paths: tuple[Path, ...]) -> bool:
    from psycopg import Error as PostgresError
    from psycopg_pool import PoolTimeout

    from rotina.worker import Client

    files = list(_files(paths))
    good = True
    async with Client.open(load_settings()) as client:
        collection = await client.knowledge.get(order.collection)
        stored = {each.uri: each for each in await client.knowledge.documents(order.collection)}
        pending = [
            (path, asyncio.create_task(_add_one(client, order, collection, path, stored)))
            for path in files
        ]
        warning = asyncio.create_task(warn_without_worker(client, "files"))
        for number, (path, task) in enumerate(pending, 1):
            try:
                told = await task
            except (RotinaError, OSError, TimeoutError, PostgresError, PoolTimeout) as error:
                told = {"state": "refused", "error": _error(type(error).__name__, str(error))}
            good = good and told["state"] in ("succeeded", "unchanged")
            _print_added(order, path, told, f"[{number}/{len(files)}]")
        warning.cancel()
    return good


def _suffixes() -> frozenset[str]:
    from rotina.knowledge.loading.ocr import is_available

    return SUFFIXES | IMAGE_SUFFIXES if is_available() else SUFFIXES


def _files(paths: tuple[Path, ...]) -> Iterator[Path]:
    suffixes = _suffixes()
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(
            each
            for each in path.rglob("*")
            if each.is_file()
            and each.suffix.lower() in suffixes
            and not any(part.startswith(".") for part in each.relative_to(path).parts)
        )
        if not found:
            raise KnowledgeError(
                f"{str(path)!r} holds no document: files in folders need one of the endings "
                f"{', '.join(sorted(suffixes))}"
            )
        yield from found


async def _add_one(
    client: "Client",
    order: _Order,
    collection: "Collection",
    path: Path,
    stored: Mapping[str, "StoredDocument"],
) -> dict[str, Any]:
    from rotina.runs import Upload

    async with order.slots:
        content = await asyncio.to_thread(path.read_bytes)
        # A file name may be bytes that are no Unicode; PostgreSQL stores only what is.
        uri, name = (part.encode("utf-8", "replace").decode() for part in (str(path), path.name))
        return await _ingest(client, order, collection, uri, Upload(name, content), stored)


async def _ingest(
    client: "Client",
    order: _Order,
    collection: "Collection",
    uri: str,
    upload: "Upload",
    stored: Mapping[str, "StoredDocument"],
) -> dict[str, Any]:
    """Have a run put this content under this URI, and tell what became of it.

    Its key comes from the content: whoever adds the same file at the same moment waits for the
    same run. A run of the past counts only while what it stored is still there, so a file that
    failed, was deleted, or was changed and changed back, is ingested again.
    """
    value = {**order.value, "uri": uri}
    facts = json.dumps([str(collection.id), upload.reference.sha256, value], sort_keys=True)
    key = hashlib.sha256(facts.encode()).hexdigest()
    for attempt in itertools.count():
        accepted = await client.start(WORKFLOW, value, key=f"kb:{key}:{attempt}", upload=upload)
        run = await client.store.get(accepted.id)
        if not run.ended:
            return _told(await client.wait(accepted.id, timeout=order.timeout))
        if accepted.created:
            return _told(run)
        if run.state == "succeeded" and _is_stored(stored.get(uri), order, upload):
            return {**_told(run), "state": "unchanged"}
    raise AssertionError("count() has no end")


def _is_stored(known: "StoredDocument | None", order: _Order, upload: "Upload") -> bool:
    return (
        known is not None
        and known.sha256 == upload.reference.sha256
        and known.metadata == order.value["metadata"]
        and known.access == order.value.get("access", [])
        and (known.valid_from, known.valid_to) == order.validity
        and order.value["language"] in (None, known.language)
    )


def _told(run: "Run") -> dict[str, Any]:
    """What a run that ended did with its file."""
    if run.state != "succeeded":
        return {"state": run.state, "run": str(run.id), "error": run.error}
    ingested = (run.result or {})["ingested"]
    state = "unchanged" if ingested["unchanged"] else "succeeded"
    return {"state": state, "run": str(run.id), **ingested}


def _error(kind: str, message: str) -> dict[str, str]:
    return {"type": kind, "message": message}


def _print_added(order: _Order, path: Path, told: dict[str, Any], progress: str) -> None:
    if order.as_json:
        click.echo(json.dumps({"file": str(path), **told}, ensure_ascii=False))
        return
    if told["state"] == "succeeded":
        click.echo(f"{progress} {path}: {told['chunks']} chunks, version {told['version']}")
    elif told["state"] == "unchanged":
        click.echo(f"{progress} {path}: unchanged")
    else:
        error = told.get("error") or {"type": told["state"], "message": f"run {told.get('run')}"}
        click.echo(f"{progress} {path}: {error['type']}: {error['message']}", err=True)


async def _search(
    collection: str, question: str, asked: dict[str, Any], *, as_json: bool, plot: Path | None
) -> None:
    async with open_knowledge() as knowledge:
        found = await knowledge.search(collection, question, **asked)
        if plot is not None:
            await _plot(knowledge, collection, question, asked["filter"], found, plot)
    if as_json:
        for passage in found:
            click.echo(passage.model_dump_json())
        return
    if not found:
        click.echo("nothing found: the collection is empty, or the filter leaves nothing")
    for number, passage in enumerate(found, 1):
        _print_passage(number, passage)


async def _plot(
    knowledge: "KnowledgeBase",
    collection: str,
    question: str,
    filters: dict[str, Any],
    found: "list[Passage]",
    path: Path,
) -> None:
    from rotina.knowledge.analysis import TextRow, collection_rows, embed_rows
    from rotina.knowledge.analysis.plots import plot_search, save_plot

    rows = await collection_rows(knowledge, collection, filter=filters, by="chunk")
    route = (await knowledge.get(collection)).route
    asked = await embed_rows(
        [TextRow(text=question, id="question")], knowledge.gateway, route=route
    )
    names = {str(passage.chunk_id): passage.document for passage in found}
    save_plot(plot_search(rows, asked, names), path)


def _print_passage(number: int, passage: "Passage") -> None:
    page = "" if passage.page is None else f" page {passage.page}"
    place = f"{passage.document}{page} [{passage.start}:{passage.end}]"
    text = " ".join(passage.text.split())
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    scores = f"text {passage.text_score:.2f}, vectors {passage.vector_score:.2f}"
    click.echo(f"{number}. {place}  {passage.score:.2f} ({scores})\n   {shown}")


async def _stats(collection: str | None, *, as_json: bool) -> None:
    async with open_knowledge() as knowledge:
        names = [collection] if collection else [c.name for c in await knowledge.collections()]
        told = [await knowledge.stats(name) for name in names]
    if not told:
        click.echo("no collections yet: make one with `rotina kb create NAME`")
    for each in told:
        if as_json:
            click.echo(each.model_dump_json())
            continue
        made = each.collection
        model = f"{made.model}, {made.dimension} dimensions" if made.model else "nothing embedded"
        search_kind = "HNSW" if each.indexed else "exact search"
        click.echo(
            f"{made.name}: {each.documents} documents, {each.chunks} chunks, "
            f"{each.characters} characters, languages {', '.join(each.languages) or 'none'}; "
            f"{model}; {search_kind}"
        )


async def _delete(collection: str, uri: str | None, *, answers: bool) -> None:
    async with open_knowledge() as knowledge:
        await knowledge.delete(collection, uri, answers=answers)
