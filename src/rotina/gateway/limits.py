"""Limits: requests and tokens a minute, and calls at once, of all processes together.

The counts stand in Redis (`Shared`). A process leases a share for a moment and spends it without a
round trip; who finds none waits in turn, or is sent to the route's next deployment.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Protocol

from rotina.errors import ModelRateLimitedError
from rotina.gateway.turns import Turns
from rotina.settings import Deployment

log = logging.getLogger(__name__)

BURST = 0.1
"""The share of a minute's allowance that may be taken at once. The rest comes evenly, so that no
minute, whenever it begins, sees more than the whole."""
KEPT = 1.0
"""Seconds that a leased share is good for."""
SOON = 0.1
"""Seconds that who has a substitute waits for its turn; also how much is leased ahead."""
LONGEST_NAP = 1.0


@dataclass
class Share:
    """What may be spent."""

    requests: float = 0.0
    tokens: float = 0.0
    slots: int = 0

    def covers(self, other: "Share") -> bool:
        """Whether it is enough."""
        return (
            self.requests >= other.requests
            and self.tokens >= other.tokens
            and self.slots >= other.slots
        )

    def add(self, other: "Share", sign: int = 1) -> None:
        """More of each, or with `sign` -1 less."""
        self.requests += sign * other.requests
        self.tokens += sign * other.tokens
        self.slots += sign * other.slots


@dataclass(frozen=True)
class Allowance:
    """What a deployment's settings allow; None: no limit."""

    rpm: int | None
    tpm: int | None
    parallel: int | None

    @classmethod
    def of(cls, deployment: Deployment) -> "Allowance | None":
        """None where nothing is limited."""
        found = cls(deployment.rpm, deployment.tpm, deployment.parallel)
        return None if found == cls(None, None, None) else found

    def part(self, processes: int) -> "Allowance":
        """One process's equal part of it."""
        return Allowance(*(None if n is None else max(1, n // processes) for n in self._all()))

    def wish(self, tokens: int) -> Share:
        """What one call has to have."""
        return Share(
            requests=0 if self.rpm is None else 1,
            # No bucket holds more: a prompt that is larger than it goes when the bucket is full.
            tokens=0 if self.tpm is None else min(tokens, burst(self.tpm)),
            slots=0 if self.parallel is None else 1,
        )

    def ahead(self, waiting: int, tokens: int) -> Share:
        """What a process leases, so that it need not come back at once."""
        return Share(
            requests=0 if self.rpm is None else waiting + SOON * self.rpm / 60,
            tokens=0 if self.tpm is None else tokens + SOON * self.tpm / 60,
            slots=0 if self.parallel is None else waiting,
        )

    def _all(self) -> tuple[int | None, int | None, int | None]:
        return self.rpm, self.tpm, self.parallel


class Lender(Protocol):
    """Who keeps the counts."""

    async def lease(
        self, name: str, allowance: Allowance, least: Share, most: Share
    ) -> Share | float:
        """At least `least` and at most `most`; or the seconds until there may be as much.

        Raises `ModelRateLimitedError` where nobody can be asked and the settings forbid guessing.
        """

    def give_back(self, name: str, slots: int) -> None:
        """Slots that a process needs no more; in its own time."""


def burst(per_minute: int) -> float:
    """The most that a bucket holds."""
    return max(1.0, per_minute * BURST)


def rate(per_minute: int) -> float:
    """How much a bucket gains in a second."""
    return (per_minute - burst(per_minute)) / 60 or per_minute / 120


@dataclass
class _Caller:
    wish: Share
    patient: bool
    turn: "asyncio.Future[None]"


class Limiter:
    """The limits of one deployment, as the calls of this process meet them."""

    def __init__(self, name: str, allowance: Allowance, lender: Lender) -> None:
        self._name = name
        self._allowance = allowance
        self._lender = lender
        self._share = Share()
        self._good_until = 0.0
        self._callers: Turns[_Caller] = Turns()
        self._serving: asyncio.Task[None] | None = None
        self._empty_until = 0.0
        self._returning: asyncio.TimerHandle | None = None

    @property
    def empty(self) -> bool:
        """Whether the next caller would have to wait, as far as this process knows."""
        return bool(self._callers) or _now() < self._empty_until

    def take_now(self, tokens: int) -> Share | None:
        """One call's share, if it is here already and nobody waits for it."""
        wish = self._allowance.wish(tokens)
        if self._callers or not self._covers(wish):
            return None
        self._share.add(wish, -1)
        return wish

    async def take(self, tenant: str, tokens: int, *, patient: bool) -> Share:
        """Wait for one call's share; `tokens` is what it may take.

        Raises `ModelRateLimitedError` for who is not `patient` and would have to wait.
        """
        return await self._take(tenant, self._allowance.wish(tokens), patient=patient)

    async def again(self, tenant: str) -> None:
        """Wait for one more request of a call that has its share already."""
        if self._allowance.rpm is not None:
            await self._take(tenant, Share(requests=1), patient=True)

    async def beside(self, tenant: str) -> Share:
        """Wait for a slot for one more request of a call that has its share already."""
        parallel = self._allowance.parallel is not None
        return await self._take(tenant, Share(slots=int(parallel)), patient=True)

    async def _take(self, tenant: str, wish: Share, *, patient: bool) -> Share:
        if not self._callers and self._covers(wish):
            self._share.add(wish, -1)
            return wish
        caller = _Caller(wish, patient, asyncio.get_running_loop().create_future())
        self._callers.put(tenant, caller)
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve())
        try:
            await caller.turn
        except asyncio.CancelledError:
            if caller.turn.done() and not caller.turn.cancelled() and not caller.turn.exception():
                self.end(wish, 0)
            raise
        return wish

    def end(self, taken: Share, tokens: int | None) -> None:
        """The call is over; `tokens` is what it used, None: nobody knows.

        What it did not use is there for the next, what it used more is missing to it.
        """
        if tokens is not None and self._allowance.tpm is not None:
            self._share.tokens += taken.tokens - tokens
        if taken.slots:
            self._share.slots += taken.slots
            if self._returning is None:
                loop = asyncio.get_running_loop()
                self._returning = loop.call_later(KEPT, self._return_slots)

    def _return_slots(self) -> None:
        """What nobody here has used for a moment may be of use elsewhere."""
        self._returning = None
        if self._share.slots and not self._callers:
            self._lender.give_back(self._name, self._share.slots)
            self._share.slots = 0

    async def close(self) -> None:
        """Give back what is left, and stop serving."""
        if self._returning is not None:
            self._returning.cancel()
            self._return_slots()
        if self._serving is not None:
            self._serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._serving

    def _covers(self, wish: Share) -> bool:
        if _now() >= self._good_until:
            # Old shares are not spent: others may have had them since. A debt stays.
            self._share.requests = 0.0
            self._share.tokens = min(0.0, self._share.tokens)
        return self._share.covers(wish)

    async def _serve(self) -> None:
        try:
            while self._callers:
                caller = self._callers.first()
                if caller.turn.done():
                    self._callers.pop()
                elif self._covers(caller.wish):
                    self._share.add(caller.wish, -1)
                    self._callers.pop().turn.set_result(None)
                else:
                    await self._ask_for(caller)
        finally:
            self._serving = None

    async def _ask_for(self, caller: _Caller) -> None:
        waiting = len(self._callers)
        most = self._allowance.ahead(waiting, round(caller.wish.tokens * waiting))
        least = Share(
            max(0.0, caller.wish.requests - self._share.requests),
            max(0.0, caller.wish.tokens - self._share.tokens),
            max(0, caller.wish.slots - self._share.slots),
        )
        try:
            found = await self._lender.lease(self._name, self._allowance, least, most)
        except ModelRateLimitedError as error:
            self._callers.pop()
            if not caller.turn.done():
                caller.turn.set_exception(error)
            return
        if isinstance(found, Share):
            self._share.add(found)
            self._good_until = _now() + KEPT
            return
        self._empty_until = _now() + found
        if found > SOON and self._turn_away(found):
            return
        await asyncio.sleep(min(found, LONGEST_NAP))

    def _turn_away(self, seconds: float) -> bool:
        """Send away who need not wait; whether there was anybody."""
        hurried = self._callers.remove(lambda caller: not caller.patient)
        for caller in hurried:
            if not caller.turn.done():
                caller.turn.set_exception(
                    ModelRateLimitedError(
                        f"deployment {self._name!r} is at its limit for another {seconds:.1f} s: "
                        "raise its rpm, tpm or parallel if the provider allows more"
                    )
                )
        return bool(hurried)


def _now() -> float:
    return asyncio.get_running_loop().time()
