"""`rotina cancel`, `pause`, `resume`, `retry` and `signal`: what is done to runs under way."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import UUID

import click

from rotina.cli.objects import json_object
from rotina.settings import load_settings

if TYPE_CHECKING:
    from rotina.worker import Client

BY = click.option("--by", help="Who wants it; default: the name of this account.")


@click.command()
@click.argument("run")
@click.option("--reason", default="", help="Why; it stands in the timeline.")
@BY
def cancel(run: str, reason: str, by: str | None) -> None:
    """End RUN (an id, or its beginning): at once, or within a second where a worker drives it."""

    async def change(client: "Client", run_id: UUID) -> None:
        await client.cancel(run_id, by=_who(by), reason=reason)

    asyncio.run(_change(run, change))


@click.command()
@click.argument("run")
@BY
def pause(run: str, by: str | None) -> None:
    """Let nobody drive RUN; one under way stops after its node."""
    asyncio.run(_change(run, lambda client, run_id: client.pause(run_id, by=_who(by))))


@click.command()
@click.argument("run")
@BY
def resume(run: str, by: str | None) -> None:
    """Let the paused RUN go on."""
    asyncio.run(_change(run, lambda client, run_id: client.resume(run_id, by=_who(by))))


@click.command()
@click.argument("run")
@BY
def retry(run: str, by: str | None) -> None:
    """Give the failed or cancelled RUN another set of attempts, from its last checkpoint."""
    asyncio.run(_change(run, lambda client, run_id: client.retry(run_id, by=_who(by))))


@click.command()
@click.argument("name")
@click.argument("key")
@click.argument("payload", default="{}")
def signal(name: str, key: str, payload: str) -> None:
    """Tell the runs that wait for event NAME with KEY; PAYLOAD is a JSON object."""
    woken = asyncio.run(_signal(name, key, payload))
    click.echo(f"{woken} runs woken" if woken else "nobody waits yet: kept for the first who will")


async def _change(prefix: str, change: Callable[["Client", UUID], Awaitable[None]]) -> None:
    from rotina.worker import Client

    async with Client.open(load_settings()) as client:
        found = await client.store.find(prefix)
        await change(client, found.id)
        click.echo(f"{found.id} {(await client.store.get(found.id)).state}")


async def _signal(name: str, key: str, payload: str) -> int:
    from rotina.worker import Client

    async with Client.open(load_settings()) as client:
        return await client.signal(name, key, json_object(payload, "The payload"))


def _who(by: str | None) -> str:
    return by or getpass.getuser()
