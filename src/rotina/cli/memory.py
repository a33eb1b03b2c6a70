"""`rotina memory`: what agents remember, to look at and to delete."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from rotina.cli.knowledge import open_knowledge
from rotina.cli.objects import json_object, key_values
from rotina.errors import InvalidInputError, KnowledgeError

if TYPE_CHECKING:
    from langgraph.store.base import Item

    from rotina.knowledge.memory import RotinaStore

PAGE = 100
"""Values that are deleted in one transaction."""


class _Namespace(click.ParamType[tuple[str, ...]]):
    """`customers/42`, or a JSON list where a part has a slash."""

    name = "namespace"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if not isinstance(value, str):
            return tuple(value)
        parts: Any = value.strip("/").split("/")
        if value.startswith("["):
            try:
                parts = json.loads(value)
            except ValueError:
                parts = None
        whole = isinstance(parts, list) and all(isinstance(each, str) and each for each in parts)
        if not parts or not whole:
            self.fail(f'{value!r} is no namespace: write customers/42, or ["a/b", "c"]', param, ctx)
        return tuple(parts)


NAMESPACE = _Namespace()


@click.group()
def memory() -> None:
    """What agents remember: values under a namespace, as customers/42, and a key."""


@memory.command(name="list")
@click.argument("namespace", type=NAMESPACE, required=False)
@click.option("--limit", default=PAGE, show_default=True, type=click.IntRange(min=1))
def list_namespaces(namespace: tuple[str, ...] | None, limit: int) -> None:
    """Name the namespaces, or those below NAMESPACE."""
    for found in asyncio.run(_namespaces(namespace, limit)):
        click.echo(_told(found))


@memory.command()
@click.argument("namespace", type=NAMESPACE, required=False)
@click.option("--query", help="Those that mean this first.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only values so.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a value.")
def search(namespace: tuple[str, ...] | None, as_json: bool, **asked: Any) -> None:
    """Show the values below NAMESPACE, or all."""
    found = asyncio.run(_search(namespace or (), **asked))
    for item in found:
        _show(item, as_json=as_json)
    if not found and not as_json:
        click.echo("nothing is remembered there")


@memory.command()
@click.argument("namespace", type=NAMESPACE)
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="With its place and times.")
def get(namespace: tuple[str, ...], key: str, as_json: bool) -> None:
    """Show the value at NAMESPACE and KEY."""
    _show(asyncio.run(_get(namespace, key)), as_json=as_json)


@memory.command()
@click.argument("namespace", type=NAMESPACE)
@click.argument("key")
@click.argument("value", metavar="JSON|@FILE")
@click.option("--ttl", type=float, help="Minutes until it is forgotten; default: never.")
def put(namespace: tuple[str, ...], key: str, value: str, ttl: float | None) -> None:
    """Remember the JSON object VALUE at NAMESPACE and KEY, in the place of what is there."""
    asyncio.run(_put(namespace, key, json_object(value, "the value"), ttl))


@memory.command()
@click.argument("namespace", type=NAMESPACE)
@click.argument("key", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(namespace: tuple[str, ...], key: str | None, yes: bool) -> None:
    """Forget the value at NAMESPACE and KEY, or all that is at NAMESPACE and below."""
    what = f"{key!r} at {_told(namespace)}" if key else f"all at {_told(namespace)} and below"
    if not yes:
        click.confirm(f"Forget {what}?", abort=True)
    click.echo(f"forgot {asyncio.run(_delete(namespace, key))} values")


@asynccontextmanager
async def _store() -> "AsyncIterator[RotinaStore]":
    from rotina.knowledge.memory import RotinaStore

    async with open_knowledge() as knowledge:
        yield RotinaStore(knowledge)


async def _namespaces(prefix: tuple[str, ...] | None, limit: int) -> list[tuple[str, ...]]:
    async with _store() as store:
        return await store.alist_namespaces(prefix=prefix, limit=limit)


async def _search(
    namespace: tuple[str, ...], query: str | None, filters: tuple[str, ...], limit: int
) -> "list[Item]":
    async with _store() as store:
        wanted = key_values(filters) or None
        return [*await store.asearch(namespace, query=query, filter=wanted, limit=limit)]


async def _get(namespace: tuple[str, ...], key: str) -> "Item":
    async with _store() as store:
        found = await store.aget(namespace, key)
    if found is None:
        raise KnowledgeError(
            f"Nothing is remembered at {_told(namespace)} under {key!r}: `rotina memory search "
            f"{_told(namespace)}` shows what is"
        )
    return found


async def _put(
    namespace: tuple[str, ...], key: str, value: dict[str, Any], ttl: float | None
) -> None:
    if ttl is not None and ttl <= 0:
        raise InvalidInputError(f"--ttl is {ttl:g}: give minutes, more than 0")
    async with _store() as store:
        await store.aput(namespace, key, value, ttl=ttl)


async def _delete(namespace: tuple[str, ...], key: str | None) -> int:
    from langgraph.store.base import PutOp

    if key is not None:
        await _get(namespace, key)
    async with _store() as store:
        if key is not None:
            await store.adelete(namespace, key)
            return 1
        forgotten = 0
        while found := await store.asearch(namespace, limit=PAGE):
            await store.abatch([PutOp(item.namespace, item.key, None) for item in found])
            forgotten += len(found)
        return forgotten


def _told(namespace: tuple[str, ...]) -> str:
    if any("/" in part or part.startswith("[") for part in namespace):
        return json.dumps(list(namespace), ensure_ascii=False)
    return "/".join(namespace)


def _show(item: "Item", *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(item.dict(), ensure_ascii=False, default=str))
    else:
        value = json.dumps(item.value, ensure_ascii=False)
        click.echo(f"{_told(item.namespace)} {item.key}  {value}")
