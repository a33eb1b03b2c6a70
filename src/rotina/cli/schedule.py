"""`rotina schedule add|list|remove|pause|resume|fires`."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeVar
from zoneinfo import ZoneInfo

import click

from rotina.cli.objects import json_object

if TYPE_CHECKING:
    from rotina.triggers import Schedule, ScheduleStore

T = TypeVar("T")


@click.group()
def schedule() -> None:
    """Start workflows at set times: rows in PostgreSQL that any worker or beat fires."""


@schedule.command()
@click.argument("name")
@click.argument("workflow")
@click.option("--cron", required=True, help="minute hour day month weekday, as in '0 8 * * 1-5'.")
@click.option("--zone", default="UTC", show_default=True, help="IANA name: America/Sao_Paulo.")
@click.option("--input", "value", default="{}", help="JSON object, or @FILE with one.")
@click.option(
    "--catch-up",
    type=click.Choice(["latest", "all", "skip"]),
    default="latest",
    show_default=True,
    help="After a downtime: fire the latest missed time, all of them (the last 100), or none.",
)
def add(name: str, workflow: str, cron: str, zone: str, value: str, catch_up: str) -> None:
    """Start WORKFLOW by the schedule NAME; the same command again changes nothing."""
    given = json_object(value, "--input")
    chosen: Literal["latest", "all", "skip"] = catch_up  # type: ignore[assignment]  # by click

    async def work(store: "ScheduleStore") -> "Schedule":
        return await store.add(name, workflow, given, cron=cron, time_zone=zone, catch_up=chosen)

    added = _with_store(work)
    click.echo(f"{added.name} starts {added.workflow} next at {_next(added)}")


@schedule.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_schedules(as_json: bool) -> None:
    """List the schedules and when they fire next."""
    found = _with_store(lambda store: store.list_schedules())
    for one in found:
        if as_json:
            click.echo(one.model_dump_json())
        else:
            click.echo(f"{one.name}  {one.workflow}  [{one.cron}] {one.time_zone}  {_next(one)}")
    if not found and not as_json:
        click.echo("no schedules yet: `rotina schedule add NAME WORKFLOW --cron '0 8 * * *'`")


@schedule.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget the schedule NAME; the runs it started stay."""
    _with_store(lambda store: store.remove(name))
    click.echo(f"removed {name}")


@schedule.command()
@click.argument("name")
def pause(name: str) -> None:
    """Stop firing NAME until it is resumed; nothing is made up for."""
    _with_store(lambda store: store.pause(name))
    click.echo(f"paused {name}")


@schedule.command()
@click.argument("name")
def resume(name: str) -> None:
    """Let NAME go on with its next time from now."""
    resumed = _with_store(lambda store: store.resume(name))
    click.echo(f"{resumed.name} starts {resumed.workflow} next at {_next(resumed)}")


@schedule.command()
@click.argument("name", required=False)
@click.option("--limit", default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def fires(name: str | None, limit: int, as_json: bool) -> None:
    """Show what NAME (or every schedule) fired, latest first: the run, or why there is none."""
    found = _with_store(lambda store: store.fires(name, limit=limit))
    for one in found:
        if as_json:
            click.echo(one.model_dump_json())
            continue
        error = one.error or {}
        told = f"run {one.run_id}" if one.run_id else f"{error.get('type')}: {error.get('message')}"
        click.echo(f"{_utc(one.fire_time)}  {one.schedule}  {told}")
    if not found and not as_json:
        click.echo("nothing was fired yet")


def _with_store(work: Callable[["ScheduleStore"], Awaitable[T]]) -> T:
    return asyncio.run(_run(work))


async def _run(work: Callable[["ScheduleStore"], Awaitable[T]]) -> T:
    from rotina.settings import load_settings
    from rotina.triggers import ScheduleStore
    from rotina.worker import Client

    async with Client.open(load_settings()) as client:
        return await work(ScheduleStore(client.pool, client.registry, tenant=client.tenant))


def _next(one: "Schedule") -> str:
    if not one.enabled:
        return "paused"
    if one.next_fire_at is None:
        return "never (see `rotina schedule fires`)"
    return one.next_fire_at.astimezone(ZoneInfo(one.time_zone)).isoformat(" ", "minutes")


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M %Z")
