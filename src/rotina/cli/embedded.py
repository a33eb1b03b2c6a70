"""`rotina up`, `rotina down`, `rotina doctor`."""

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from rotina.settings import Settings, load_settings

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Terminal:
    """What `up` says: bars for downloads on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._tenths: dict[str, int] = {}

    def line(self, text: str) -> None:
        """One line, flushed: somebody may be waiting for it."""
        self._close()
        click.echo(text)
        sys.stdout.flush()

    def progress(self, name: str, done: int, total: int) -> None:
        """A bar, or one line for each tenth."""
        if sys.stdout.isatty():
            self._bar(name, done, total)
            return
        tenth = 10 * done // total
        if tenth > self._tenths.get(name, -1):
            self._tenths[name] = tenth
            click.echo(f"Downloading {name}: {done >> 20} of {total >> 20} MB")
            sys.stdout.flush()

    def _bar(self, name: str, done: int, total: int) -> None:
        from rich import progress

        if self._progress is None:
            columns = (
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TimeRemainingColumn(),
            )
            self._progress = self._stack.enter_context(progress.Progress(*columns))
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], completed=done)

    def _close(self) -> None:
        self._stack.close()
        self._progress = None
        self._tasks.clear()


@click.command()
@click.option("--detach", is_flag=True, help="Return once everything is ready, and keep it going.")
@click.option("--services-only", is_flag=True, help="Start no workers, no beat, no server.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=120.0,
    show_default=True,
    help="Seconds a service may take to be ready, downloads excluded.",
)
def up(detach: bool, services_only: bool, timeout: float) -> None:
    """Start everything this project needs, embedded where not set.

    PostgreSQL, Valkey, a chat model and an embedding model are left out where DATABASE_URL,
    REDIS_URL, a model URL or a route brings them. Downloads the models on first use.
    """
    from rotina.embedded.detach import start_detached
    from rotina.embedded.project import require_project
    from rotina.embedded.supervisor import run

    settings = load_settings(services=False)
    if not services_only:
        require_project(settings)
    if detach:
        arguments = ["--timeout", str(timeout), *(["--services-only"] if services_only else [])]
        pid = start_detached(settings, arguments, click.echo)
        click.echo(f"Runs in the background (process {pid}).")
        return
    run(settings, Terminal(), services_only=services_only, timeout=timeout)


@click.command()
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    help="Seconds to wait for the end.",
)
def down(timeout: float) -> None:
    """Stop what `rotina up` started."""
    from rotina.embedded.lock import stop_holder

    settings = load_settings(services=False)
    stopped = stop_holder(settings.data_path, timeout)
    if stopped is None:
        click.echo(f"Nothing runs on {settings.data_path}.")
    else:
        click.echo(f"Stopped (process {stopped.pid}).")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check each part and print a remedy for each failure; status 1 if there is one."""
    from rotina.embedded.doctor import examine

    settings: Settings = load_settings()
    checks = list(examine(settings))
    if as_json:
        click.echo(json.dumps([check.as_json() for check in checks], indent=2))
    else:
        for check in checks:
            click.echo(f"{check.status:<7} {check.name}: {check.detail}")
            if check.remedy:
                click.echo(f"        remedy: {check.remedy}")
    if any(check.status == "failed" for check in checks):
        context.exit(1)
