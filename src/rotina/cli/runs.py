"""`rotina run`, `rotina runs` and `rotina show`."""

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from rotina.cli.objects import json_object
from rotina.cli.waiting import warn_without_worker
from rotina.errors import InvalidInputError, RotinaError
from rotina.settings import load_settings

if TYPE_CHECKING:
    from rotina.runs import Run, RunState, RunSummary, Upload
    from rotina.worker import Client

UPLOADS = 8
"""Files read and stored at the same time."""


@dataclass(frozen=True)
class _Order:
    """What the command line asks for."""

    workflow: str
    value: dict[str, Any]
    key: str | None
    detach: bool
    as_json: bool
    timeout: float | None
    priority: int | None


@click.command()
@click.argument("workflow")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--input", "value", default="{}", help="JSON object, or @FILE with one.")
@click.option("--key", help="Idempotency key: the same key and input give the same run.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, in input order.")
@click.option("--detach", is_flag=True, help="Print the run's id and do not wait.")
@click.option("--timeout", type=float, help="Seconds to wait for each run.")
@click.option(
    "--priority", type=int, help="-100 to 100, higher goes first; default: the workflow's."
)
def run(
    workflow: str,
    files: tuple[Path, ...],
    value: str,
    key: str | None,
    as_json: bool,
    detach: bool,
    timeout: float | None,
    priority: int | None,
) -> None:
    """Run WORKFLOW once for each of FILES (or once for --input) and wait for the results.

    Ends with status 1 when a run failed or a file was refused.
    """
    if key is not None and len(files) > 1:
        raise click.UsageError("--key names one run: give one file with it")
    order = _Order(workflow, json_object(value, "--input"), key, detach, as_json, timeout, priority)
    if not asyncio.run(_run_all(order, files)):
        sys.exit(1)


@click.command()
@click.option("--workflow", help="Only runs of this workflow.")
@click.option("--state", type=str, help="queued, running, waiting, succeeded, failed, cancelled")
@click.option("--limit", default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def runs(workflow: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """List runs, newest first."""
    asyncio.run(_list(workflow, _state(state), limit, as_json=as_json))


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--json", "as_json", is_flag=True)
def show(run_id: str, as_json: bool) -> None:
    """Show one RUN (its id, or how the id begins): timeline, fields, quotes, tokens, cost."""
    asyncio.run(_show(run_id, as_json=as_json))


def _state(text: str | None) -> "RunState | None":
    from rotina.runs import RunState

    for known in get_args(RunState):
        if known == text:
            return known  # type: ignore[no-any-return]
    if text is not None:
        raise InvalidInputError(f"No state {text!r}. States: {', '.join(get_args(RunState))}.")
    return None


async def _run_all(order: _Order, files: tuple[Path, ...]) -> bool:
    from psycopg import Error as PostgresError
    from psycopg_pool import PoolTimeout

    from rotina.worker import Client

    good = True
    uploads = asyncio.Semaphore(UPLOADS)
    async with Client.open(load_settings()) as client:
        pending = [
            (path, asyncio.create_task(_run_one(client, order, path, uploads)))
            for path in _jobs(files)
        ]
        told = asyncio.create_task(warn_without_worker(client, "runs"))
        for path, task in pending:
            try:
                ended = await task
            except (RotinaError, OSError, PostgresError, PoolTimeout) as error:
                _print_refusal(order, path, error)
                good = False
                continue
            _print_run(order, path, ended)
            good = good and (order.detach or ended.state in {"succeeded", "waiting"})
        told.cancel()
    return good


def _jobs(files: tuple[Path, ...]) -> Iterator[Path | None]:
    yield from files or (None,)


async def _run_one(
    client: "Client", order: _Order, path: Path | None, uploads: asyncio.Semaphore
) -> "Run":
    async with uploads:
        upload = None if path is None else _upload(path)
        if upload is not None and client.registry[order.workflow].file_field is None:
            raise InvalidInputError(f"{order.workflow!r} takes no file: use --input")
        accepted = await client.start(
            order.workflow, order.value, key=order.key, upload=upload, priority=order.priority
        )
    if order.detach:
        return await client.store.get(accepted.id)
    return await client.wait(accepted.id, timeout=order.timeout, or_review=True)


def _upload(path: Path) -> "Upload":
    from rotina.runs import Upload

    # A file name may be bytes that are no Unicode; PostgreSQL stores only what is.
    name = path.name.encode("utf-8", "replace").decode()
    return Upload(name, path.read_bytes())


def _print_refusal(order: _Order, path: Path | None, error: Exception) -> None:
    shown = {"type": type(error).__name__, "message": str(error)}
    if order.as_json:
        click.echo(json.dumps({"file": path and str(path), "state": "refused", "error": shown}))
    else:
        name = f"{path}: " if path else ""
        click.echo(f"{name}{shown['type']}: {shown['message']}", err=True)


def _print_run(order: _Order, path: Path | None, ended: "Run") -> None:
    if order.as_json:
        click.echo(json.dumps({"file": path and str(path), **_as_json(ended)}, ensure_ascii=False))
    elif order.detach:
        click.echo(str(ended.id))
    else:
        from rotina.cli.tables import print_run

        print_run(ended, title=path.name if path else None)


def _as_json(run: "RunSummary") -> dict[str, Any]:
    shown = {"id", "workflow", "state", "result", "error", "attempts", "created_at"}
    row = run.model_dump(mode="json", include=shown)
    return {**row, "seconds": run.seconds}


async def _list(
    workflow: str | None, state: "RunState | None", limit: int, *, as_json: bool
) -> None:
    from rotina.worker import Client

    async with Client.open(load_settings()) as client:
        found = await client.store.list_runs(workflow=workflow, state=state, limit=limit)
    if as_json:
        for one in found:
            click.echo(json.dumps(_as_json(one), ensure_ascii=False))
        return
    from rotina.cli.tables import print_runs

    print_runs(found)


async def _show(prefix: str, *, as_json: bool) -> None:
    from rotina.worker import Client

    async with Client.open(load_settings()) as client:
        found = await client.store.find(prefix)
        events = await client.store.events(found.id)
        calls = await client.store.model_calls(found.id)
    if as_json:
        timeline = [event.model_dump(mode="json") for event in events]
        spent = [call.model_dump(mode="json") for call in calls]
        whole = {**_as_json(found), "timeline": timeline, "model_calls": spent}
        click.echo(json.dumps(whole, ensure_ascii=False, indent=2))
        return
    from rotina.cli.tables import print_calls, print_run, print_timeline

    print_run(found)
    print_timeline(events)
    print_calls(calls)
