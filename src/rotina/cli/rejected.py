"""`rotina rejected`."""

import asyncio
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rotina.triggers import Rejected

SHOWN = 200
"""Characters of a payload in the table; `--json` shows all."""


@click.command()
@click.option("--limit", default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, payloads whole.")
def rejected(limit: int, as_json: bool) -> None:
    """List messages of queues that no run could be made of, with the reason, latest first."""
    found = asyncio.run(_list(limit))
    if as_json:
        for one in found:
            click.echo(one.model_dump_json())
        return
    for one in found:
        click.echo(f"{one.at:%Y-%m-%d %H:%M:%S}  {one.source}  {one.reference}")
        click.echo(f"  {one.reason}")
        cut = "…" if len(one.payload) > SHOWN else ""
        click.echo(f"  {one.payload[:SHOWN]}{cut}")
    if not found:
        click.echo("no message was refused")


async def _list(limit: int) -> "list[Rejected]":
    from rotina.settings import load_settings
    from rotina.triggers import RejectedStore
    from rotina.worker import Client

    async with Client.open(load_settings()) as client:
        store = RejectedStore(client.pool, tenant=client.tenant)
        return await store.list_rejected(limit=limit)
