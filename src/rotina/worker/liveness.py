"""Notices a worker that is connected and does not consume, and starts it again.

Such a worker looks alive: it beats, it sweeps, it sends hints that it never takes. What gives it
away is that messages wait in its queues while it has free hands.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import redis.asyncio
from redis import RedisError

logger = logging.getLogger(__name__)

LOOKS = 3
"""In a row, that have to find the same."""


@dataclass
class Hands:
    """What a worker process is doing with the messages it takes."""

    most: int
    """Messages it works on at once."""
    busy: int = 0
    taken: int = 0
    """All the messages it has taken so far."""
    _seen: int = field(default=0, repr=False)

    def take(self) -> None:
        """A message has come."""
        self.busy += 1
        self.taken += 1

    def free(self) -> None:
        """It is done."""
        self.busy -= 1

    def idle(self) -> bool:
        """Whether there were free hands and no message since this was asked last."""
        seen, self._seen = self._seen, self.taken
        return seen == self.taken and self.busy < self.most


async def watch_consuming(
    redis_url: str,
    queues: Sequence[str],
    hands: Hands,
    *,
    seconds: float,
    restart: Callable[[], object],
) -> None:
    """Call `restart` once messages have waited for `seconds` that idle hands do not take.

    A broker that does not answer is no reason: there is nothing to consume then.
    """
    stuck = 0
    waiting: list[str] = []
    async with redis.asyncio.Redis.from_url(
        redis_url, socket_timeout=seconds, socket_connect_timeout=seconds
    ) as client:
        while stuck < LOOKS:
            await asyncio.sleep(seconds / LOOKS)
            idle = hands.idle()
            try:
                waiting = [queue for queue in queues if await client.llen(queue)]
            except RedisError:
                waiting = []
            stuck = stuck + 1 if idle and waiting else 0
    logger.error(
        "messages wait in %s for %.0f s and this worker, with free hands, takes none: it starts "
        "again", ", ".join(waiting), seconds,
    )  # fmt: skip
    restart()
