"""`rotina models`."""

import json
from typing import Any
from urllib.parse import urlsplit

import click

from rotina.settings import Deployment, Settings, load_settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def models(as_json: bool) -> None:
    """List deployments and the routes that lead to them; `rotina doctor` asks each."""
    found = describe(load_settings())
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, one in found["deployments"].items():
        price = one["price"]
        told = "price unknown" if price is None else f"${price['input']:g}/${price['output']:g}"
        tags = f"  [{', '.join(one['tags'])}]" if one["tags"] else ""
        click.echo(f"{name}  {one['model']}  {one['at']}  {one['context']} tokens  {told}{tags}")
    for name, route in found["routes"].items():
        click.echo(f"route {name}: {', '.join(route['deployments'])} ({route['strategy']})")
    if not found["routes"]:
        click.echo("no model: set OPENAI_BASE_URL and ROTINA_MODEL, or `rotina up`")


def describe(settings: Settings) -> dict[str, Any]:
    """Deployments and routes without a secret."""
    return {
        "deployments": {name: _shown(one) for name, one in settings.deployments.items()},
        "routes": {
            name: {"deployments": route.deployments, "strategy": route.strategy}
            for name, route in settings.routes.items()
        },
    }


def _shown(one: Deployment) -> dict[str, Any]:
    host = urlsplit(one.base_url.get_secret_value()).hostname if one.base_url else None
    return {
        "provider": one.provider,
        "model": one.model,
        "at": host or one.provider,
        "context": one.context,
        "concurrency": one.concurrency,
        "price": None if one.price is None else one.price.model_dump(),
        "tags": sorted(one.tags),
    }
