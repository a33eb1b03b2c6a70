"""`rotina kb follow`, `sources`, `sync` and `unfollow`."""

import asyncio
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rotina.cli.knowledge import kb, open_knowledge
from rotina.cli.waiting import wait_with_progress
from rotina.errors import SourceError
from rotina.settings import load_settings

if TYPE_CHECKING:
    from rotina.knowledge.sources import FollowedSource, Sources
    from rotina.knowledge.sources.model import Gone
    from rotina.runs import Run

WORKFLOW = "knowledge_sync"
_NAMED = {"folder": "path", "sitemap": "url", "sql": "query", "mailbox": "folder"}
"""Which setting of a kind WHAT is."""


@kb.command()
@click.argument("collection")
@click.argument("kind", type=click.Choice(["folder", "url", "sitemap", "sql", "s3", "mailbox"]))
@click.argument("what", nargs=-1, required=True)
@click.option("--name", help="Of the source; default: its kind.")
@click.option("--pattern", help="folder: which files.")
@click.option("--match", help="sitemap: a regular expression for its URLs.")
@click.option("--most", type=int, help="sitemap: URLs at most.")
@click.option("--database", metavar="VARIABLE", help="sql: environment variable with the URL.")
@click.option("--endpoint", metavar="URL", help="s3: a server that is not Amazon's.")
@click.option("--region", help="s3: of the bucket.")
@click.option("--profile", help="s3: of the workers' AWS configuration.")
@click.option("--public", is_flag=True, default=None, help="s3: read without credentials.")
@click.option("--host", help="mailbox: of the IMAP server.")
@click.option("--port", type=int, help="mailbox: default 993, or 143 without TLS from the start.")
@click.option("--user", help="mailbox: who logs in.")
@click.option("--password", metavar="VARIABLE", help="mailbox: environment variable with it.")
@click.option("--security", type=click.Choice(["tls", "starttls", "none"]), help="mailbox.")
@click.option("--since", metavar="DATE", help="mailbox: messages of this day and later.")
@click.option("--keep-gone", is_flag=True, help="Keep documents whose original is gone.")
def follow(
    *,
    collection: str,
    kind: str,
    what: tuple[str, ...],
    name: str | None,
    keep_gone: bool,
    **given: Any,
) -> None:
    """Have COLLECTION follow WHAT; sync fetches it.

    WHAT is a folder, URLs, a sitemap's URL, a query, s3://bucket/prefix, or a mailbox's folder.
    """
    own: dict[str, Any] = {"kind": kind}
    if kind == "url":
        own["urls"] = list(what)
    elif len(what) > 1:
        raise click.UsageError(f"a source of kind {kind} follows one thing, not {len(what)}")
    elif kind == "s3":
        own["bucket"], _, own["prefix"] = what[0].removeprefix("s3://").partition("/")
    else:
        own[_NAMED[kind]] = str(Path(what[0]).absolute()) if kind == "folder" else what[0]
    own |= {key: value for key, value in given.items() if value is not None}
    made = asyncio.run(_follow(collection, own, name, "keep" if keep_gone else "delete"))
    click.echo(f"{collection} follows {made.name}: `rotina kb sync {collection}` fetches it")


@kb.command()
@click.argument("collection")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a source.")
def sources(collection: str, as_json: bool) -> None:
    """What COLLECTION follows, and what of it failed."""
    asyncio.run(_list(collection, as_json=as_json))


@kb.command()
@click.argument("collection")
@click.option("--source", help="Default: all that the collection follows.")
@click.option("--retry-failed", is_flag=True, help="Try again what failed.")
@click.option("--timeout", type=float, help="Seconds to wait for each source.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a source.")
def sync(
    collection: str, source: str | None, retry_failed: bool, timeout: float | None, as_json: bool
) -> None:
    """Fetch what is new or has changed in what COLLECTION follows: a run a source.

    Ends with status 1 when a run or a document failed.
    """
    if not asyncio.run(_sync(collection, source, retry_failed, timeout, as_json)):
        sys.exit(1)


@kb.command()
@click.argument("collection")
@click.argument("source")
def unfollow(collection: str, source: str) -> None:
    """Forget SOURCE; its documents stay in COLLECTION."""
    asyncio.run(_unfollow(collection, source))
    click.echo(f"{collection} no longer follows {source}")


async def _follow(
    collection: str, settings: dict[str, Any], name: str | None, gone: "Gone"
) -> "FollowedSource":
    from rotina.knowledge.sources import Sources

    async with open_knowledge() as knowledge:
        return await Sources(knowledge).follow(collection, settings, name=name, gone=gone)


async def _unfollow(collection: str, source: str) -> None:
    from rotina.knowledge.sources import Sources

    async with open_knowledge() as knowledge:
        await Sources(knowledge).unfollow(collection, source)


async def _list(collection: str, *, as_json: bool) -> None:
    from rotina.knowledge.sources import Sources

    async with open_knowledge() as knowledge:
        found = await Sources(knowledge).all(collection)
        for each in found:
            failed = await Sources(knowledge).failed(each)
            if as_json:
                click.echo(json.dumps({**each.model_dump(mode="json"), "errors": failed}))
                continue
            synced = f"{each.synced_at:%Y-%m-%d %H:%M}" if each.synced_at else "never"
            click.echo(
                f"{each.name}: {each.kind}, {each.documents} documents, {each.failed} failed, "
                f"{each.due} due, synced {synced}"
            )
            _show_failed(failed)
    if not found and not as_json:
        click.echo(f"{collection} follows nothing: `rotina kb follow {collection} …`")


async def _sync(
    collection: str,
    source: str | None,
    retry_failed: bool,
    timeout: float | None,
    as_json: bool,
) -> bool:
    from rotina.knowledge.sources import Sources
    from rotina.worker import Client

    good = True
    async with Client.open(load_settings()) as client:
        known = Sources(client.knowledge)
        wanted = [await known.get(collection, source)] if source else await known.all(collection)
        if not wanted:
            raise SourceError(
                f"{collection!r} follows nothing: `rotina kb follow {collection} …` names a source"
            )
        for each in wanted:
            value = {"collection": collection, "source": each.name, "retry_failed": retry_failed}
            accepted = await client.start(WORKFLOW, value)
            look = partial(_progress, known, collection, each.name)
            run = await wait_with_progress(client, accepted.id, each.name, look, timeout)
            failed = await known.failed(each)
            good = good and run.state == "succeeded" and not failed
            _show(each.name, run, failed, as_json=as_json)
    return good


async def _progress(known: "Sources", collection: str, name: str) -> tuple[int, int]:
    told = await known.get(collection, name)
    total = told.documents + told.failed
    return total - told.due, total


def _show(name: str, run: "Run", failed: list[dict[str, Any]], *, as_json: bool) -> None:
    synced = (run.result or {}).get("synced")
    if as_json:
        told = {"source": name, "run": str(run.id), "state": run.state, "error": run.error}
        click.echo(json.dumps({**told, "synced": synced, "errors": failed}))
        return
    if synced is None:
        error = run.error or {"type": run.state, "message": f"run {run.id}"}
        click.echo(f"{name}: {error['type']}: {error['message']}", err=True)
        return
    counts = ("added", "changed", "unchanged", "deleted", "failed")
    click.echo(f"{name}: " + ", ".join(f"{synced[each]} {each}" for each in counts))
    _show_failed(failed)


def _show_failed(failed: list[dict[str, Any]]) -> None:
    for each in failed:
        error = each["error"]
        click.echo(f"  {each['uri']}: {error['type']}: {error['message']}", err=True)
