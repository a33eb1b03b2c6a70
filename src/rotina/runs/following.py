"""Waiting for a run and following its timeline, by looking less and less often."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from rotina.runs.run import TERMINAL, Run, RunEvent

FIRST_LOOK, LONGEST_PAUSE = 0.05, 0.5


async def wait_for_end(
    get: Callable[[], Awaitable[Run]], *, timeout: float | None = None, or_review: bool = False
) -> Run:
    """The run that `get` reads, once it has ended; with `or_review`, once it waits for a person.

    Raises `TimeoutError` after `timeout` seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = FIRST_LOOK
    while True:
        run = await get()
        if run.ended or (or_review and run.state == "waiting"):
            return run
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(f"run {run.id} is still {run.state} after {timeout} s")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


async def follow(
    read: Callable[[int], Awaitable[Sequence[RunEvent]]], *, after: int = 0
) -> AsyncGenerator[RunEvent, None]:
    """The timeline as it grows, from event `after` on; ends after the run's last event.

    `read(after)` gives the events there are now. The end of a run and its event commit together,
    so the last event always comes.
    """
    pause = FIRST_LOOK
    while True:
        events = await read(after)
        for event in events:
            after = event.id
            yield event
        # Only as the last line: a run that was retried has ended before.
        if events and events[-1].kind in TERMINAL:
            return
        pause = FIRST_LOOK if events else min(pause * 1.5, LONGEST_PAUSE)
        await asyncio.sleep(pause)
