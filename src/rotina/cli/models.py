"""`rotina models`: list, add, test, discover."""

import asyncio
import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import click

from rotina.errors import SettingsError
from rotina.settings import Deployment, Settings, load_settings

if TYPE_CHECKING:
    from rotina.gateway.discovery import Offer
    from rotina.gateway.probe import Probed, Purpose

_SHOWN = 20
"""Models that a message names."""


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def models(context: click.Context, as_json: bool) -> None:
    """List deployments and the routes that lead to them; add, test and discover models."""
    if context.invoked_subcommand is None:
        _list(as_json=as_json)


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def list_models(as_json: bool) -> None:
    """List deployments and the routes that lead to them."""
    _list(as_json=as_json)


@models.command()
@click.argument("name")
@click.option("--base-url", help="Up to and including /v1; without it the provider's own.")
@click.option("--model", help="Without it: the only model that the server offers.")
@click.option("--provider", type=click.Choice(["openai", "anthropic"]), default="openai")
@click.option("--api-key-env", metavar="VAR", help="The variable that holds the key.")
@click.option("--context", type=click.IntRange(min=256), help="Without it: what the server says.")
@click.option("--tokenizer", help="o200k_base, …, or the path of a tokenizer.json.")
@click.option(
    "--reranker",
    type=click.Choice(["v1", "tei"]),
    help="It is one: with /v1/rerank, or with the /rerank of text-embeddings-inference.",
)
@click.option("--price-in", type=click.FloatRange(min=0), help="Dollars a million tokens.")
@click.option("--price-out", type=click.FloatRange(min=0), help="Dollars a million tokens.")
@click.option("--route", "routes", multiple=True, help="A route that shall lead to it; repeatable.")
@click.option("--replace", is_flag=True, help="Overwrite a deployment of that name.")
@click.option("--no-test", is_flag=True, help="Ask it nothing first.")
def add(  # noqa: PLR0913 - a deployment's fields
    *,
    name: str,
    base_url: str | None,
    model: str | None,
    provider: Literal["openai", "anthropic"],
    api_key_env: str | None,
    context: int | None,
    tokenizer: str | None,
    reranker: Literal["v1", "tei"] | None,
    price_in: float | None,
    price_out: float | None,
    routes: tuple[str, ...],
    replace: bool,
    no_test: bool,
) -> None:
    """Declare the deployment NAME in rotina.toml or pyproject.toml, once it has answered a call.

    Where the server has several models it lists them: choose one with --model.
    """
    from rotina.cli.declare import declare, refuse_declared

    if (price_in is None) != (price_out is None):
        raise click.UsageError("--price-in and --price-out belong together")
    refuse_declared(Path.cwd(), name, replace=replace)
    given = {
        "provider": None if provider == "openai" else provider,
        "model": model,
        "base_url": base_url,
        "api_key_env": api_key_env,
        "context": context,
        "tokenizer": tokenizer,
    }
    fields: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    fields |= asyncio.run(_looked_up(name, fields))
    if price_in is not None:
        today = dt.datetime.now(tz=dt.UTC).date()
        fields["price"] = {"input": price_in, "output": price_out, "date": today}
    if reranker is not None:
        fields["capabilities"] = ["rerank"]
    if reranker == "tei":
        fields["options"] = {"rerank_tei": True}
    if not no_test:
        otherwise: Purpose = "embeddings" if routes == ("embed",) else "chat"
        _try(name, fields, otherwise if reranker is None else "rerank")
    path = declare(Path.cwd(), name, fields, routes, replace=replace)
    click.echo(f"declared {name} ({fields['model']}) in {path}")
    if not routes:
        click.echo("no route leads to it: add it to one, or say --route smart")


@models.command()
@click.argument("names", nargs=-1)
@click.option("--timeout", type=click.FloatRange(min=0.1), default=120.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a deployment.")
@click.pass_context
def test(context: click.Context, names: tuple[str, ...], timeout: float, as_json: bool) -> None:
    """Ask deployments (default: all) for chat, a stream, JSON, a tool call, embeddings, reranking.

    Status 1 if something that is declared does not work. Costs some tokens.
    """
    from rotina.gateway.probe import failures

    settings = load_settings()
    strangers = sorted(set(names) - set(settings.deployments))
    if strangers:
        known = ", ".join(settings.deployments) or "none"
        raise SettingsError(f"No deployment {strangers[0]!r}: declared are {known}")
    bad = False
    for name in names or settings.deployments:
        deployment = settings.deployments[name]
        found = asyncio.run(_probe(settings, name, timeout))
        failed = failures(deployment, found)
        bad = bad or bool(failed)
        _show_probes(name, deployment, found, failed, as_json=as_json)
    if bad:
        context.exit(1)


@models.command()
@click.argument("url")
@click.option("--api-key-env", metavar="VAR", help="The variable that holds the key.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
def discover(url: str, api_key_env: str | None, as_json: bool) -> None:
    """List what the server at URL (up to and including /v1) offers."""
    found = asyncio.run(_discover("discover", {"base_url": url, "api_key_env": api_key_env}))
    if as_json:
        click.echo(json.dumps([vars(offer) for offer in found]))
        return
    for offer in found:
        click.echo(f"{offer.model}  {_tokens(offer.context)}")
    if not found:
        click.echo("it offers no model")


def describe(settings: Settings) -> dict[str, Any]:
    """Deployments and routes without a secret."""
    return {
        "deployments": {name: _shown(one) for name, one in settings.deployments.items()},
        "routes": {
            name: {"deployments": route.deployments, "strategy": route.strategy}
            for name, route in settings.routes.items()
        },
    }


def _list(*, as_json: bool) -> None:
    found = describe(load_settings())
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, one in found["deployments"].items():
        tags = f"  [{', '.join(one['tags'])}]" if one["tags"] else ""
        can = "" if one["capabilities"] is None else f"  can: {', '.join(one['capabilities'])}"
        price = _priced(one["price"])
        click.echo(
            f"{name}  {one['model']}  {one['at']}  {one['context']} tokens  {price}{tags}{can}"
        )
    for name, route in found["routes"].items():
        click.echo(f"route {name}: {', '.join(route['deployments'])} ({route['strategy']})")
    if not found["routes"]:
        click.echo("no model: set OPENAI_BASE_URL and ROTINA_MODEL, or `rotina up`")


def _shown(one: Deployment) -> dict[str, Any]:
    host = urlsplit(one.base_url.get_secret_value()).hostname if one.base_url else None
    return {
        "provider": one.provider,
        "model": one.model,
        "at": host or one.provider,
        "context": one.context,
        "concurrency": one.concurrency,
        "price": one.price and one.price.model_dump(mode="json", exclude_none=True),
        "tags": sorted(one.tags),
        "capabilities": None if one.capabilities is None else sorted(one.capabilities),
        "structured_output": one.structured_output,
    }


def _priced(price: dict[str, Any] | None) -> str:
    if price is None:
        return "price unknown"
    told = f"${price['input']:g}/${price['output']:g}"
    return f"{told} ({price['date']})" if "date" in price else told


def _tokens(context: int | None) -> str:
    return "context unknown" if context is None else f"{context} tokens"


async def _discover(name: str, fields: dict[str, Any]) -> "list[Offer]":
    from rotina.gateway.discovery import discover as ask

    return await ask(name, _deployment(name, {**fields, "model": "unknown"}))


async def _looked_up(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Model and context, as the server says, where they are not given."""
    if "model" in fields and ("context" in fields or fields.get("provider") == "anthropic"):
        return {}
    if fields.get("provider") == "anthropic":
        raise click.UsageError("name the model: --model (Anthropic's are not discovered)")
    from rotina.errors import ModelError

    try:
        offers = await _discover(name, fields)
    except ModelError:
        if "model" in fields:  # no list is no obstacle: the test call shows whether it is there
            return {}
        raise
    offer = _chosen(offers, fields.get("model"))
    found = {} if offer is None else {"model": offer.model, "context": offer.context}
    return {key: value for key, value in found.items() if value is not None and key not in fields}


def _chosen(offers: "list[Offer]", model: str | None) -> "Offer | None":
    if model is not None:
        return next((offer for offer in offers if offer.model == model), None)
    if len(offers) == 1:
        return offers[0]
    if not offers:
        raise SettingsError("The server offers no model: load one there, or name it with --model")
    names = [f"{offer.model} ({_tokens(offer.context)})" for offer in offers[:_SHOWN]]
    more = f" and {len(offers) - _SHOWN} more" if len(offers) > _SHOWN else ""
    raise SettingsError(
        f"The server offers {len(offers)} models: choose one with --model. {', '.join(names)}{more}"
    )


def _deployment(name: str, fields: dict[str, Any]) -> Deployment:
    """Raises `SettingsError` for fields that make none."""
    from rotina.settings import check_table

    return check_table({"deployments": {name: fields}}, "the command").deployments[name]


def _try(name: str, fields: dict[str, Any], purpose: "Purpose") -> None:
    """One real call. Raises its error."""
    from rotina.gateway.probe import try_once

    settings = Settings(
        deployments={name: _deployment(name, fields)}, project_dir=Path.cwd(), routes={}
    )
    detail = asyncio.run(try_once(settings, name, purpose))
    click.echo(f"{name} {detail}")


async def _probe(settings: Settings, name: str, timeout: float) -> "list[Probed]":
    from rotina.gateway.probe import probe

    return [found async for found in probe(settings, name, timeout=timeout)]


def _show_probes(
    name: str, deployment: Deployment, found: "list[Probed]", failed: list[str], *, as_json: bool
) -> None:
    if as_json:
        probes = {
            each.ability: {
                "works": each.works,
                "detail": each.detail,
                "seconds": round(each.seconds, 3),
                "prompt_tokens": each.usage.prompt_tokens,
                "completion_tokens": each.usage.completion_tokens,
            }
            for each in found
        }
        click.echo(json.dumps({"deployment": name, "failed": failed, "probes": probes}))
        return
    click.echo(f"{name} ({deployment.model})")
    for each in found:
        mark = "ok" if each.works else "FAILED" if each.ability in failed else "no"
        used = each.usage
        tokens = ""
        if used.prompt_tokens is not None:
            tokens = f"  {used.prompt_tokens}+{used.completion_tokens or 0} tokens"
        click.echo(f"  {mark:<7}{each.ability:<12}{each.seconds:6.2f} s{tokens}  {each.detail}")
