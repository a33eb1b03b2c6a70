"""`rotina tokens`."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from rotina.errors import ModelError, SettingsError
from rotina.settings import Deployment, Settings, load_settings


@click.command()
@click.argument("text", required=False)
@click.option("--file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--route", help="Count for its deployments only, at their servers where they can.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
def tokens(text: str | None, file: Path | None, route: str | None, as_json: bool) -> None:
    """Count the tokens of TEXT (- reads standard input), by OpenAI's vocabularies and for each
    declared deployment."""
    content = _content(text, file)
    settings = load_settings()
    if route is not None and route not in settings.routes:
        known = ", ".join(sorted(settings.routes)) or "none"
        raise SettingsError(f"No route {route!r}: known routes are {known}")
    if route is None:
        rows = _families(content) + [
            _row(name, one.model, content, one, settings)
            for name, one in settings.deployments.items()
        ]
    else:
        rows = asyncio.run(_at_servers(content, route, settings))
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    size = len(content.encode(errors="replace"))
    click.echo(f"{len(content)} characters, {size} bytes")
    width = max(len(f"{row['for']} ({row['model']})") for row in rows)
    for row in rows:
        whose = f"{row['for']} ({row['model']})"
        how = row["method"] if row["exact"] else f"about: {row['method']}"
        click.echo(f"{whose:<{width}}  {row['tokens']:>8}  {how}")


def _content(text: str | None, file: Path | None) -> str:
    if (text is None) == (file is None):
        raise click.UsageError("give a text, - for standard input, or --file")
    try:
        if file is not None:
            return file.read_text(encoding="utf-8")
        return sys.stdin.read() if text == "-" else str(text)
    except UnicodeDecodeError:
        raise click.UsageError("the input is no UTF-8 text: `rotina run` reads documents") from None


def _families(content: str) -> list[dict[str, Any]]:
    from rotina.gateway.tokens import Encoding, Estimate, Tokenizer

    families: list[tuple[str, str, Tokenizer]] = [
        ("OpenAI", "gpt-4o, gpt-4.1, gpt-5, o1, o3, o4-mini", Encoding("o200k_base")),
        ("OpenAI", "gpt-4, gpt-3.5, text-embedding-3", Encoding("cl100k_base")),
        ("others", "unless declared below", Estimate()),
    ]
    return [
        {
            "for": whose,
            "model": model,
            "tokens": tokenizer.count(content),
            "exact": tokenizer.exact,
            "method": tokenizer.name,
        }
        for whose, model, tokenizer in families
    ]


def _row(
    name: str, model: str, content: str, deployment: Deployment, settings: Settings
) -> dict[str, Any]:
    from rotina.gateway.tokens import count_tokens

    found = count_tokens(content, deployment, folder=settings.project_dir)
    return {"for": name, "model": model, **vars(found)}


async def _at_servers(content: str, route: str, settings: Settings) -> list[dict[str, Any]]:
    """By each server's own count, or as without it."""
    from rotina.gateway.discovery import count_at_server

    rows = []
    for name in settings.routes[route].deployments:
        deployment = settings.deployments[name]
        row = _row(name, deployment.model, content, deployment, settings)
        if not row["exact"] and deployment.provider == "openai":
            try:
                row |= vars(await count_at_server(name, deployment, content))
            except ModelError as error:
                row["method"] += f"; {type(error).__name__} at the server's /tokenize"
        rows.append(row)
    return rows
