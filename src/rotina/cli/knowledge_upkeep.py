"""`rotina kb reindex` and `rotina kb cited`."""

import asyncio
import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from rotina.cli.knowledge import kb, open_knowledge
from rotina.cli.waiting import wait_with_progress
from rotina.settings import load_settings

if TYPE_CHECKING:
    from rotina.knowledge import CitingRun
    from rotina.runs import Run
    from rotina.worker import Client

WORKFLOW = "knowledge_reindex"


@kb.command()
@click.argument("collection")
@click.option("--route", help="Gateway route that embeds from now on.")
@click.option("--keep", is_flag=True, help="Keep the old vectors beside the new ones.")
@click.option("--drop", metavar="ROUTE", help="Delete the vectors of a route that do not answer.")
@click.option("--timeout", type=float, help="Seconds to wait for the run.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def reindex(
    collection: str,
    route: str | None,
    keep: bool,
    drop: str | None,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Embed COLLECTION by another route, while the old vectors answer; then switch over.

    It is a run, which goes on when the command is interrupted.
    """
    if (route is None) == (drop is None):
        raise click.UsageError("give --route ROUTE to embed by, or --drop ROUTE to delete")
    if route is None:
        asyncio.run(_drop(collection, drop or ""))
        return
    value = {"collection": collection, "route": route, "keep": keep}
    if not _show_reindexed(asyncio.run(_reindex(value, timeout)), value, as_json=as_json):
        sys.exit(1)


@kb.command()
@click.argument("collection")
@click.argument("uri")
@click.option("--version", type=int, help="Of the document; default: all there ever were.")
@click.option("--outdated", is_flag=True, help="Only of versions that are no more.")
@click.option("--rerun", is_flag=True, help="Start these runs again, with the same input.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a run.")
def cited(
    collection: str, uri: str, version: int | None, outdated: bool, rerun: bool, as_json: bool
) -> None:
    """The runs that cite document URI of COLLECTION, or were started with the same file."""
    asyncio.run(_cited(collection, uri, version, outdated, rerun, as_json))


async def _reindex(value: dict[str, Any], timeout: float | None) -> "Run":
    from rotina.knowledge.reindexing import embedded_by
    from rotina.worker import Client

    collection, route = value["collection"], value["route"]
    async with Client.open(load_settings()) as client:
        await client.knowledge.get(collection)
        accepted = await client.start(WORKFLOW, value)
        click.echo(f"{collection}: run {accepted.id}", err=True)
        look = partial(embedded_by, client.knowledge, collection, route)
        return await wait_with_progress(client, accepted.id, collection, look, timeout)


def _show_reindexed(run: "Run", value: dict[str, Any], *, as_json: bool) -> bool:
    """Whether it succeeded."""
    made = (run.result or {}).get("reindexed")
    if as_json:
        told = {"run": str(run.id), "state": run.state, "error": run.error, "reindexed": made}
        click.echo(json.dumps(told))
    elif made is None:
        error = run.error or {"type": run.state, "message": f"run {run.id}"}
        click.echo(f"{value['collection']}: {error['type']}: {error['message']}", err=True)
    else:
        already = " already" if made["unchanged"] else ""
        click.echo(
            f"{made['collection']}: {made['chunks']} chunks embedded by route {made['route']!r}, "
            f"model {made['model']!r}{already}"
        )
    return made is not None


async def _drop(collection: str, route: str) -> None:
    from rotina.knowledge.reindexing import drop_space

    async with open_knowledge() as knowledge:
        await drop_space(knowledge, collection, route)
    click.echo(f"dropped the vectors of route {route!r}")


async def _cited(
    collection: str, uri: str, version: int | None, outdated: bool, rerun: bool, as_json: bool
) -> None:
    from rotina.worker import Client

    async with Client.open(load_settings()) as client:
        found = await client.knowledge.cited_by(collection, uri, version=version)
        shown = [each for each in found if not (outdated and each.present)]
        for each in shown:
            again = await _again(client, each) if rerun else None
            _show(each, again, as_json=as_json)
    if not shown and not as_json:
        click.echo("no run cites it")


async def _again(client: "Client", citing: "CitingRun") -> str:
    """A new run with the input of the old one; asked twice for the same document, one run."""
    run = await client.store.get(citing.run_id)
    key = f"again:{citing.run_id}:{citing.document_id}:{citing.version}"
    return str((await client.start(run.workflow, run.input, key=key)).id)


def _show(citing: "CitingRun", again: str | None, *, as_json: bool) -> None:
    if as_json:
        told = {**citing.model_dump(mode="json"), "again": again}
        click.echo(json.dumps(told))
        return
    how = "cites" if citing.quoted else "read"
    state = "present" if citing.present else "outdated"
    started = f"; again as {again}" if again else ""
    click.echo(
        f"{citing.run_id}  {citing.workflow}  {citing.finished_at:%Y-%m-%d %H:%M}  "
        f"{how} version {citing.version} ({state}){started}"
    )
