"""`rotina costs` and `rotina budgets`: where the money goes."""

import asyncio
import json
import re
from datetime import timedelta
from typing import Any

import click

COLUMNS = (
    "tenant", "workflow", "node", "route", "deployment", "model", "kind", "outcome", "api_key",
    "prompt", "day",
)  # fmt: skip
UNITS = {"h": "hours", "d": "days", "w": "weeks"}
MANY = 1000


def _since(ctx: click.Context, param: click.Parameter, value: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,5})([hdw])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no length of time: write 12h, 7d or 4w", ctx, param)
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def _by(ctx: click.Context, param: click.Parameter, value: str) -> list[str]:
    asked = [part.strip() for part in value.split(",")]
    strange = [part for part in asked if part not in COLUMNS]
    if strange:
        told = f"{strange[0]!r} is no column: choose of {', '.join(COLUMNS)}"
        raise click.BadParameter(told, ctx, param)
    return list(dict.fromkeys(asked))


@click.command()
@click.option("--by", callback=_by, default="workflow,model", show_default=True)
@click.option("--since", callback=_since, default="7d", show_default=True, help="12h, 7d or 4w.")
@click.option("--tenant", help="Calls of this tenant only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def costs(by: list[str], since: timedelta, tenant: str | None, as_json: bool) -> None:
    """What model calls have cost, the dearest first; unpriced calls are counted, not guessed."""
    values = {"without": sorted(set(COLUMNS) - set(by)), "since": since, "tenant": tenant}
    rows = asyncio.run(_rows("costs", values))
    if as_json:
        for row in rows:
            named = {column: row["named"][column] for column in by}
            click.echo(json.dumps({**named, **_figures(row)}, default=str))
        return
    for row in rows:
        name = "  ".join(row["named"][column] or "-" for column in by)
        tokens = f"{row['prompt_tokens'] or 0} + {row['completion_tokens'] or 0} tokens"
        cost = _dollars(row["cost_usd"])
        unpriced = f"  ({row['unpriced']} without a price)" if row["unpriced"] else ""
        click.echo(f"{name}  {row['calls']} calls  {tokens}  {cost}{unpriced}")
    if not rows:
        click.echo("no model calls in that time")


@click.command()
@click.option("--since", callback=_since, default="7d", show_default=True, help="12h, 7d or 4w.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def mirrors(since: timedelta, as_json: bool) -> None:
    """Mirrored calls beside the calls that they repeat: agreement, cost, latency."""
    rows = asyncio.run(_rows("mirrors", {"since": since}))
    for row in rows:
        if as_json:
            click.echo(json.dumps(row, default=str))
            continue
        alike = "-" if row["agreement"] is None else f"{row['agreement']:.2f}"
        click.echo(
            f"{row['route']}  {row['deployment']} -> {row['mirror']}  {row['calls']} calls, "
            f"{row['answered']} answered, agreement {alike}, "
            f"{row['latency_ms']:.0f} -> {row['mirror_latency_ms']:.0f} ms, "
            f"{_dollars(row['cost_usd'])} -> {_dollars(row['mirror_cost_usd'])}"
        )
    if not rows and not as_json:
        click.echo("no mirrored calls in that time: give a route `mirror`")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def budgets(as_json: bool) -> None:
    """What budgets allow, and what is spent of them and held for calls under way."""
    rows = asyncio.run(_rows("list_budgets", {"limit": MANY}))
    for row in rows:
        if as_json:
            click.echo(json.dumps(row, default=str))
            continue
        start = row["period_start"]
        since = f"  since {start:%Y-%m-%d}" if start else ""
        parts = []
        if row["cap_usd"] is not None:
            spent = f"${row['settled_usd']:f} + ${row['held_usd']:f} held"
            parts.append(f"{spent} of ${row['cap_usd']:f}")
        if row["cap_tokens"] is not None:
            spent = f"{row['settled_tokens']} + {row['held_tokens']} held"
            parts.append(f"{spent} of {row['cap_tokens']} tokens")
        if row["cap_gpu_seconds"] is not None:
            spent = f"{row['settled_gpu_seconds']:f} + {row['held_gpu_seconds']:f} held"
            parts.append(f"{spent} of {row['cap_gpu_seconds']:f} GPU-seconds")
        click.echo("  ".join([row["budget"], row["scope"] or "-", *parts]) + since)
    if not rows and not as_json:
        click.echo("no call has been paid from a budget yet: set budgets.NAME in the settings")


def _dollars(usd: Any) -> str:
    return "unknown" if usd is None else f"${usd:f}"


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "named"}


async def _rows(query: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    from rotina.database import load_queries, open_pool
    from rotina.settings import load_settings

    url = load_settings().require_database_url()
    async with open_pool(url, size=1) as pool, pool.connection() as connection:
        cursor = await connection.execute(load_queries("rotina.gateway")[query], values)
        return await cursor.fetchall()
