"""What a command that waits for runs tells who waits."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import UUID

import click

if TYPE_CHECKING:
    from rotina.runs import Run
    from rotina.worker import Client

NO_WORKER_SECONDS = 5.0
LOOK_SECONDS = 1.0

Progress = Callable[[], Awaitable[tuple[int, int]]]
"""What is done, and how much there is; 0 while nobody knows."""


async def warn_without_worker(client: "Client", what: str) -> None:
    """After some seconds, say so when no worker is alive to take `what` on; to be cancelled."""
    await asyncio.sleep(NO_WORKER_SECONDS)
    if await client.store.live_workers() == 0:
        click.echo(
            f"no worker is alive: {what} wait until one starts (`rotina up` or `rotina worker io`)",
            err=True,
        )


async def wait_with_progress(
    client: "Client", run_id: UUID, what: str, progress: Progress, timeout: float | None
) -> "Run":
    """The run once it has ended; meanwhile a terminal shows a bar.

    Raises `ClickException` after `timeout` seconds. The run goes on then, as it does when the
    command is interrupted, and both say how to look at it.
    """
    waiting = asyncio.create_task(client.wait(run_id, timeout=timeout))
    warning = asyncio.create_task(warn_without_worker(client, "runs"))
    try:
        await _show(waiting, what, progress)
        return await waiting
    except TimeoutError:
        if timeout is None:
            raise
        raise click.ClickException(
            f"{what}: not done within {timeout:g} s. {_goes_on(run_id)}"
        ) from None
    except asyncio.CancelledError:
        click.echo(f"{what}: {_goes_on(run_id)}", err=True)
        raise
    finally:
        for task in (waiting, warning):
            task.cancel()
        await asyncio.gather(waiting, warning, return_exceptions=True)


async def _show(waiting: "asyncio.Task[Run]", what: str, progress: Progress) -> None:
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(file=sys.stderr)
    with Bar(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        while not waiting.done():
            await asyncio.wait([waiting], timeout=LOOK_SECONDS)
            done, total = await progress()
            bar.update(task, total=total or None, completed=done)


def _goes_on(run_id: UUID) -> str:
    return f"The run goes on: `rotina show {run_id}` looks at it, `rotina cancel {run_id}` ends it"
