"""What a command that waits for runs tells who waits."""

import asyncio
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rotina.worker import Client

NO_WORKER_SECONDS = 5.0


async def warn_without_worker(client: "Client", what: str) -> None:
    """After some seconds, say so when no worker is alive to take `what` on; to be cancelled."""
    await asyncio.sleep(NO_WORKER_SECONDS)
    if await client.store.live_workers() == 0:
        click.echo(
            f"no worker is alive: {what} wait until one starts (`rotina up` or `rotina worker io`)",
            err=True,
        )
