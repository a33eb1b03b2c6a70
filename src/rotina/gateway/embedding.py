"""Vectors of many texts: in batches, several of them under way at once."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from rotina.gateway.answer import EmbeddingReply, Usage
from rotina.gateway.call import UNPAID, Call
from rotina.gateway.check import check_vectors
from rotina.settings import Deployment

AT_ONCE = 4
"""Batches of one call that are under way at the same time, where there is room for them."""


def batches(texts: Sequence[str], deployment: Deployment) -> list[list[str]]:
    """The texts in order, in batches that the deployment takes; a long one may be alone."""
    found: list[list[str]] = []
    room = 0
    for text in texts:
        room -= len(text)
        full = deployment.batch_chars is not None and room < 0
        if not found or full or len(found[-1]) == deployment.batch_texts:
            found.append([])
            room = (deployment.batch_chars or 0) - len(text)
        found[-1].append(text)
    return found


async def vectors_of(call: Call, texts: Sequence[str]) -> list[list[float]]:
    """One checked vector a text, in order; every request counts in `call`, which is entered.

    Raises the first `ModelError` of a batch; then the others are given up.
    """
    wanted = batches(texts, call.lane.deployment)
    replies: list[list[list[float]]] = [[] for _ in wanted]

    async def ask(number: int) -> None:
        replies[number] = await _asked(call, wanted[number])

    await _Spread(len(wanted), ask, call.beside).run()
    vectors = [vector for reply in replies for vector in reply]
    check_vectors(vectors, len(texts), len(vectors[0]) if vectors else 0, call.lane)
    return vectors


async def _asked(call: Call, batch: list[str]) -> list[list[float]]:
    embed = functools.partial(call.lane.provider.embed, batch)
    try:
        reply: EmbeddingReply = await call.tried(embed)
    except UNPAID:
        raise
    except BaseException:
        # What it has cost is unknown, so what all has cost is.
        call.count(Usage(), None)
        raise
    call.count(reply.usage, reply.model)
    check_vectors(reply.vectors, len(batch), len(reply.vectors[0]) if batch else 0, call.lane)
    return reply.vectors


class _Spread:
    """Numbers from 0 on, worked through by several hands at once.

    One hand works in the room that the call has already; each other one waits for room before each
    piece of work, and stops waiting when none is left.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[int], Awaitable[None]],
        room: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self._count = count
        self._work = work
        self._room = room
        self._next = 0
        self._waiting: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Do it all. Raises what the first hand that failed raised; then the others stop."""
        try:
            async with asyncio.TaskGroup() as hands:
                for _ in range(min(AT_ONCE, self._count) - 1):
                    self._waiting.add(hands.create_task(self._beside()))
                while self._next < self._count:
                    await self._one()
                for hand in self._waiting:
                    hand.cancel()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _beside(self) -> None:
        hand = asyncio.current_task()
        assert hand is not None
        while self._next < self._count:
            self._waiting.add(hand)
            async with self._room():
                self._waiting.discard(hand)
                if self._next < self._count:
                    await self._one()

    async def _one(self) -> None:
        number = self._next
        self._next += 1
        await self._work(number)
