"""Keeps the hands of one worker process full.

A message says that a queue has runs, not how many nor which. So the first one makes the process
claim until it has no hand free or finds nothing more, and a thousand runs cost a few messages.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any

from rotina.runs import Claim, Driver, Queue

logger = logging.getLogger(__name__)


class Pump:
    """Up to `hands` runs at once, as coroutines of the loop that it is made in."""

    def __init__(self, driver: Driver, hands: int) -> None:
        self._driver = driver
        self._hands = asyncio.Semaphore(hands)
        self._claiming: defaultdict[Queue, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._calls = 0
        self._answered: defaultdict[Queue, int] = defaultdict(int)
        """The last call that had come when a claim began that found nothing."""
        self._tasks: set[asyncio.Task[object]] = set()

    async def serve(self, queue: Queue) -> bool:
        """Take runs of a queue until none is due; wait while there is no hand for one.

        False: this process drains, somebody else has to. Raises what keeps it from claiming.
        """
        self._calls += 1
        call = self._calls
        async with self._claiming[queue]:
            while self._answered[queue] < call:
                await self._hands.acquire()
                if self._driver.draining:
                    self._hands.release()
                    return False
                await self._take(queue)
        return True

    async def join(self) -> None:
        """Wait until nothing is driven any more; after `Driver.drain` that is soon."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _take(self, queue: Queue) -> None:
        """Put a run into the hand that was acquired, or give it back."""
        came, claim = self._calls, None
        try:
            claim = await self._driver.take(queue)
        finally:
            if claim is None:
                self._hands.release()
        if claim is None:
            self._answered[queue] = came
        else:
            self._begin(self._work(claim, queue))

    async def _work(self, claim: Claim, queue: Queue) -> None:
        try:
            await self._driver.work(claim)
        except Exception:  # the database, mostly: the lease's beats put the run back
            logger.exception("run %s could not be ended", claim.run.id)
        finally:
            self._hands.release()
        if claim.limited:
            self._begin(self._follow(queue))

    async def _follow(self, queue: Queue) -> None:
        """The end of a run with limits may have made room for one that nobody tells of."""
        try:
            await self.serve(queue)
        except Exception:  # as above; the sweeper tells of it
            logger.exception("no look at what may follow in %s", queue)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
