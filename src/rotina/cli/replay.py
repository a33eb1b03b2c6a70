"""`rotina replay` and `rotina test record`: what a run did, done again from its record."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rotina.settings import load_settings

if TYPE_CHECKING:
    from rotina.runs import Record, Replay


@click.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def replay(run: str, as_json: bool) -> None:
    """Drive the graph of RUN (an id, or its beginning) again with today's code, and compare.

    Models, steps, searches, effects and people answer from the record; nothing is asked or done.
    Ends with status 1 at the first divergence.
    """
    found = asyncio.run(_replay(run))
    if as_json:
        click.echo(json.dumps(asdict(found), ensure_ascii=False))
    elif found.divergence is None:
        click.echo(
            f"the same: {found.answers} answers and {found.effects} receipts from the record"
        )
    else:
        click.echo(str(found.divergence))
    if found.divergence is not None:
        sys.exit(1)


@click.group()
def test() -> None:
    """Tests made of runs."""


@test.command()
@click.argument("run")
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("tests/replays"),
    show_default=True,
    help="The folder that the case goes into.",
)
def record(run: str, to: Path) -> None:
    """Write a pytest case that replays RUN without database and models.

    Its record holds the run's input, files, prompts and answers in clear.
    """
    from rotina.testing import write_case

    click.echo(str(write_case(asyncio.run(_load(run)), to)))


async def _replay(run: str) -> "Replay":
    from rotina.testing import replay_record

    return await replay_record(await _load(run), load_settings())


async def _load(prefix: str) -> "Record":
    from rotina.runs import load_record
    from rotina.worker import Client

    async with Client.open(load_settings()) as client:
        found = await client.store.find(prefix)
        return await load_record(client.pool, tenant=client.tenant, run_id=found.id)
