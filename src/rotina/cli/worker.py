"""`rotina worker` and `rotina beat`: Celery's own programs with this project's settings."""

import os
import sys
from typing import Literal

import click

from rotina.settings import Settings, load_settings

MESSAGES_AT_ONCE = 8
"""Threads of an io worker: runs are coroutines, only messages need threads."""


@click.command()
@click.argument("kind", type=click.Choice(["io", "cpu"]))
@click.option("--loglevel", default="INFO", show_default=True)
def worker(kind: Literal["io", "cpu"], loglevel: str) -> None:
    """Start a Celery worker that drives runs.

    `io` holds hundreds of runs that wait on models in one process; `cpu` has a process for each
    run that computes. On SIGTERM an io worker lets runs finish their current step and hands them
    back; a cpu worker finishes its runs.
    """
    settings = load_settings()
    pool, concurrency = (
        ("threads", MESSAGES_AT_ONCE) if kind == "io" else ("prefork", settings.cpu_concurrency)
    )
    _become_celery(
        settings,
        [
            *("worker", "-P", pool, "-c", str(concurrency), "-Q", kind),
            *("-n", f"{kind}@%h", "-l", loglevel, "--without-gossip", "--without-mingle"),
        ],
    )


@click.command()
@click.option("--loglevel", default="INFO", show_default=True)
def beat(loglevel: str) -> None:
    """Start the scheduler: besides the workers' own sweeps it asks for one every ten seconds."""
    settings = load_settings()
    settings.data_path.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The schedule is in code and the truth in PostgreSQL: beat's own file is only a scratch pad,
    # and over one file two beats in one folder would stumble.
    schedule = settings.data_path / f"celerybeat-schedule-{os.getpid()}"
    _become_celery(settings, ["beat", "-l", loglevel, "-s", str(schedule), "--pidfile="])


def _become_celery(settings: Settings, arguments: list[str]) -> None:
    """Replace this process by `celery`, so that signals reach it and nothing stands between."""
    settings.require_database_url()
    settings.require_redis_url()
    os.chdir(settings.project_dir)
    command = [sys.executable, "-m", "celery", "-A", settings.app, *arguments]
    os.execv(sys.executable, command)  # noqa: S606
