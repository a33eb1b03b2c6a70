"""`rotina prompts`: which version of each prompt is live."""

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rotina.gateway.prompts import Prompts


@click.group()
def prompts() -> None:
    """Prompts as files with versions, and which of them is live."""


@prompts.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_prompts(as_json: bool) -> None:
    """List prompts, their versions, what is live, its hashes and variables."""
    registry = _registry()
    names = registry.names()
    for name in names:
        found = _listed(registry, name)
        if as_json:
            click.echo(json.dumps(found, ensure_ascii=False))
            continue
        click.echo(f"{name}  {', '.join(found['versions'])}  live: {_shares(found['live'])}")
        for prompt in found["prompts"]:
            language = f" ({prompt['language']})" if prompt["language"] else ""
            told = f"  {prompt['prompt']}{language}  {', '.join(prompt['variables'])}"
            click.echo(told.rstrip())
        if found["problem"]:
            click.echo(f"  {found['problem']}")
    if not names and not as_json:
        click.echo(f"no prompt: write {registry.folder}/NAME/v1.md")


@prompts.command()
@click.argument("name")
@click.option("--version", help="This version, live or not.")
@click.option("--language", help="en, pt, …: where a version has files for several.")
@click.option("--key", help="Whose version of a split: a thread, run or customer.")
@click.option("--var", "given", multiple=True, metavar="NAME=VALUE", help="Put a value in.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(
    name: str,
    version: str | None,
    language: str | None,
    key: str | None,
    given: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show a version; with --var, as a model would get it."""
    registry = _registry()
    version = version or registry.live(name).choose(name, key)
    template = registry.template(name, version, language)
    messages: list[Any] = [{"role": role, "content": text} for role, text in template.messages]
    if given:
        values = dict(_pair(one) for one in given)
        kinds = {name: declared.type for name, declared in template.variables.items()}
        read = {name: _value(text, kinds.get(name, "any")) for name, text in values.items()}
        messages = list(template.render(read))
    if as_json:
        found = {"prompt": str(template.reference), "messages": messages}
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    click.echo(str(template.reference))
    for variable, declared in template.variables.items():
        kind = "" if declared.type == "any" else f" ({declared.type})"
        click.echo(f"  {variable}{kind}  {declared.description}".rstrip())
    for message in messages:
        click.echo(f"\n## {message['role']}\n{message['content']}")


@prompts.command()
@click.argument("name")
@click.argument("version")
def use(name: str, version: str) -> None:
    """Make a version live."""
    from rotina.gateway.prompts.live import shown

    click.echo(f"{name}  live: {shown(_registry().use(name, version).now)}")


@prompts.command()
@click.argument("name")
@click.argument("weights", nargs=-1, required=True, metavar="VERSION=WEIGHT…")
def split(name: str, weights: tuple[str, ...]) -> None:
    """Make several versions live, each as often as its weight says: v1=90 v2=10."""
    from rotina.gateway.prompts.live import shown

    found: dict[str, float] = {}
    for one in weights:
        version, weight = _pair(one)
        try:
            found[version] = float(weight)
        except ValueError:
            raise click.BadParameter(f"{weight!r} is no number: write v1=90 v2=10") from None
    click.echo(f"{name}  live: {shown(_registry().split(name, found).now)}")


@prompts.command()
@click.argument("name")
def rollback(name: str) -> None:
    """Go back to what was live before."""
    from rotina.gateway.prompts.live import shown

    click.echo(f"{name}  live: {shown(_registry().rollback(name).now)}")


def _listed(registry: "Prompts", name: str) -> dict[str, Any]:
    """A prompt as the list shows it; one that is broken hides no other."""
    from rotina.errors import PromptError

    prompts: list[dict[str, Any]] = []
    found: dict[str, Any] = {"name": name, "versions": [], "live": {}}
    found |= {"prompts": prompts, "problem": None}
    try:
        found["versions"] = registry.versions(name)
        found["live"] = registry.live(name).weights
        for version in found["live"]:
            for language, template in registry.templates(name, version).items():
                reference, variables = str(template.reference), list(template.variables)
                prompts.append({"prompt": reference, "language": language, "variables": variables})
    except PromptError as error:
        found["problem"] = str(error)
    return found


def _shares(weights: dict[str, float]) -> str:
    from rotina.gateway.prompts.live import shown

    return shown(weights) if len(weights) > 1 else next(iter(weights), "none")


def _registry() -> "Prompts":
    from rotina.gateway.prompts import Prompts
    from rotina.settings import load_settings

    return Prompts.of(load_settings())


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise click.BadParameter(f"{text!r} is no NAME=VALUE")
    return name, value


def _value(text: str, kind: str) -> object:
    """A value as its variable wants it; one that is not stays text, which the template refuses."""
    if kind not in {"integer", "number", "json"}:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
