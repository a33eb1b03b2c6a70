"""Hedging: a second deployment is asked where the first takes longer than it usually does.

Dean and Barroso, "The tail at scale", Communications of the ACM 56(2), 2013.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rotina.errors import ModelError

Asked = TypeVar("Asked")
Told = TypeVar("Told")

REMEMBERED = 200
ENOUGH = 20
"""Calls until it is known how long a deployment usually takes."""


class Pace:
    """How long the last calls of a deployment took."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, seconds: float) -> None:
        """One call that was answered."""
        self._seconds.append(seconds)

    @property
    def p95(self) -> float | None:
        """Seconds that 19 of 20 calls took at most; None while there are too few."""
        if len(self._seconds) < ENOUGH:
            return None
        return sorted(self._seconds)[int(len(self._seconds) * 0.95)]


async def race(
    ask: Callable[[Asked], Awaitable[Told]],
    first: Asked,
    spare: Callable[[], Asked],
    after: float,
) -> tuple[Told, Asked]:
    """The first answer, and who gave it; `spare` is asked when `after` seconds have passed.

    The other one is cancelled. Where both fail, the error is that of `first`; one that fails before
    the time is over fails at once, because then the route goes on by itself.
    """
    one = asyncio.create_task(_of(ask, first))
    tasks: dict[asyncio.Task[Told], Asked] = {one: first}
    try:
        done, _ = await asyncio.wait(tasks, timeout=after)
        if not done:
            other = spare()
            tasks[asyncio.create_task(_of(ask, other))] = other
        pending = set(tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not isinstance(task.exception(), ModelError):
                    return task.result(), tasks[task]
        return one.result(), first
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _of(ask: Callable[[Asked], Awaitable[Told]], asked: Asked) -> Told:
    return await ask(asked)
