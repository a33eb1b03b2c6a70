"""The `rotina` command. Each group of commands is a module, imported only when it is called."""

import importlib
import sys
from typing import Any

import click

from rotina.errors import RotinaError

COMMANDS = {
    "up": ("rotina.cli.embedded", "Start everything this project needs, embedded where not set."),
    "down": ("rotina.cli.embedded", "Stop what `rotina up` started."),
    "doctor": ("rotina.cli.embedded", "Check each part and print a remedy for each failure."),
    "migrate": ("rotina.cli.database", "Apply the database migrations that are missing."),
    "run": ("rotina.cli.runs", "Run a workflow over files or JSON and wait for the results."),
    "runs": ("rotina.cli.runs", "List runs."),
    "show": ("rotina.cli.runs", "Show one run: timeline, fields, quotes, tokens, cost."),
    "cancel": ("rotina.cli.control", "End a run."),
    "pause": ("rotina.cli.control", "Let nobody drive a run."),
    "resume": ("rotina.cli.control", "Let a paused run go on."),
    "retry": ("rotina.cli.control", "Start a failed or cancelled run again where it stopped."),
    "signal": ("rotina.cli.control", "Tell waiting runs of an event."),
    "replay": ("rotina.cli.replay", "Drive a run's graph again from its record and compare."),
    "test": ("rotina.cli.replay", "Make a pytest case of a run."),
    "reviews": ("rotina.cli.reviews", "List what waits for a person."),
    "answer": ("rotina.cli.reviews", "Answer a review; its run goes on."),
    "kb": ("rotina.cli.kb", "Knowledge base: add, search, embed anew, tell what is cited, …"),
    "embeddings": (
        "rotina.cli.analysis",
        "Classify, cluster, recommend, find anomalies, measure diversity.",
    ),
    "memory": ("rotina.cli.memory", "What agents remember: list, search, get, put, delete."),
    "schedule": ("rotina.cli.schedule", "Start workflows at set times."),
    "rejected": ("rotina.cli.rejected", "List queue messages that no run could be made of."),
    "worker": ("rotina.cli.worker", "Start a Celery worker: io or cpu."),
    "beat": ("rotina.cli.worker", "Start the scheduler."),
    "models": ("rotina.cli.models", "List, add, test and discover models."),
    "tokens": ("rotina.cli.tokens", "Count the tokens of a text."),
    "costs": ("rotina.cli.costs", "What model calls have cost, by workflow, model, day, …"),
    "prompts": ("rotina.cli.prompts", "Prompts: list, show, use, split, rollback."),
    "mirrors": ("rotina.cli.costs", "Mirrored calls beside the calls that they repeat."),
    "budgets": ("rotina.cli.costs", "What budgets allow, and what is spent and held of them."),
    "serve": ("rotina.cli.server", "Serve runs, threads, reviews and models over HTTP."),
    "gateway": ("rotina.cli.gateway", "Serve models only, in OpenAI's protocol: fast and light."),
    "keys": ("rotina.cli.server", "Make, list and revoke API keys of the server."),
    "chat": ("rotina.cli.chat", "Talk to a support bot in a durable thread."),
    "new": ("rotina.cli.new", "Create a project from the scaffold."),
}


class LazyGroup(click.Group):
    """Lists commands from `COMMANDS` without importing their modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rotina")
def cli() -> None:
    """Durable workflow-automation agents."""


def main(arguments: list[str] | None = None, **extra: Any) -> None:
    """Entry point: a `RotinaError` is printed as one line and ends with status 1."""
    try:
        cli.main(args=arguments, **extra)
    except RotinaError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(1)
