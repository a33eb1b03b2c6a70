"""`rotina serve` and `rotina keys`."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from rotina.settings import load_settings

if TYPE_CHECKING:
    from rotina.server.keys import KeyStore


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=8000, show_default=True, help="0 takes a free one.")
def serve(host: str, port: int) -> None:
    """Serve runs, threads, reviews and models over HTTP until Ctrl-C or SIGTERM."""
    import logging

    from rotina.server.serving import serve as run

    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(run(load_settings(), host, port))


@click.group()
def keys() -> None:
    """Make, list and revoke the API keys that `rotina serve` asks for."""


@keys.command()
@click.argument("name")
@click.option("--tenant", help="Whose runs it sees and starts; default: the setting `tenant`.")
def create(name: str, tenant: str | None) -> None:
    """Make a key called NAME and print it: the only time it can be seen."""
    asyncio.run(_create(name, tenant))


@keys.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_keys(as_json: bool) -> None:
    """List keys, oldest first; their secrets are not stored."""
    asyncio.run(_list(as_json=as_json))


@keys.command()
@click.argument("prefix")
def revoke(prefix: str) -> None:
    """Refuse the key with that PREFIX (as `rotina keys list` shows it) from now on."""
    asyncio.run(_revoke(prefix))


async def _create(name: str, tenant: str | None) -> None:
    async with _store() as store:
        made = await store.create(name, tenant or load_settings().tenant)
    click.echo(made.token.get_secret_value())
    click.echo(
        f"key {made.key.prefix} of tenant {made.key.tenant!r}: keep it, it is not shown again",
        err=True,
    )


async def _list(*, as_json: bool) -> None:
    async with _store() as store:
        found = await store.list_keys()
    for key in found:
        if as_json:
            click.echo(json.dumps(key.model_dump(mode="json"), ensure_ascii=False))
            continue
        used = f"used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never used"
        state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else used
        click.echo(f"{key.prefix}  {key.tenant}  {key.name}  {state}")


async def _revoke(prefix: str) -> None:
    async with _store() as store:
        key = await store.revoke(prefix)
    click.echo(f"revoked {key.prefix} ({key.name}, tenant {key.tenant!r})")


@asynccontextmanager
async def _store() -> AsyncIterator["KeyStore"]:
    from rotina.database import open_pool
    from rotina.server.keys import KeyStore

    async with open_pool(load_settings().require_database_url(), size=1) as pool:
        yield KeyStore(pool)
