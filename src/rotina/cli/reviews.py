"""`rotina reviews` and `rotina answer`: what waits for a person."""

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from rotina.cli.objects import json_object

if TYPE_CHECKING:
    from rotina.runs import Review


@click.command()
@click.option("--assignee", help="Only what is asked of this person or queue of people.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def reviews(assignee: str | None, as_json: bool) -> None:
    """List the questions that runs wait for, oldest first."""
    found = asyncio.run(_list(assignee))
    if as_json:
        for each in found:
            click.echo(each.model_dump_json())
        return
    from rotina.cli.tables import print_reviews

    print_reviews(found)


@click.command()
@click.argument("review")
@click.argument("value", required=False)
@click.option("--by", help="Who decides; default: the name of this account.")
def answer(review: str, value: str | None, by: str | None) -> None:
    """Answer REVIEW (an id, or its beginning) with VALUE, a JSON object; then its run goes on.

    Without VALUE each field of the form is asked for.
    """
    import getpass

    asyncio.run(_answer(review, value, by or getpass.getuser()))


async def _list(assignee: str | None) -> Sequence["Review"]:
    from rotina.settings import load_settings
    from rotina.worker import Client

    async with Client.open(load_settings()) as client:
        return await client.reviews.list_open(assignee=assignee, limit=1000)


async def _answer(prefix: str, value: str | None, by: str) -> None:
    from rotina.settings import load_settings
    from rotina.worker import Client

    async with Client.open(load_settings()) as client:
        asked = await client.reviews.find(prefix)
        given = _ask(asked) if value is None else json_object(value, "The answer")
        await client.answer(asked.id, given, by=by)
    click.echo(f"Answered; run {asked.run_id} goes on.")


def _ask(asked: "Review") -> dict[str, Any]:
    """Each field of the form, by its JSON type; an optional field may be left empty."""
    click.echo(asked.question)
    for name, shown in asked.data.items():
        click.echo(f"  {name}: {shown}")
    required = set(asked.form.get("required", ()))
    given: dict[str, Any] = {}
    for name, field in asked.form.get("properties", {}).items():
        label = f"{field.get('description') or field.get('title') or name}"
        if field.get("type") == "boolean":
            given[name] = click.confirm(label)
            continue
        text = click.prompt(label, default=None if name in required else "", show_default=False)
        if text != "":
            given[name] = text if field.get("type") == "string" else _scalar(text)
    return given


def _scalar(text: str) -> Any:
    """What was typed as JSON (a number, a list), or as a text when it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
