"""Buckets of this process alone: the limits where there is no Redis."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from rotina.gateway.limits import Allowance, Share, burst, rate

SLOT_NAP = 0.05
"""Seconds until who found no free slot asks again."""


@dataclass
class _Bucket:
    """A token bucket (Turner, "New directions in communications", 1986)."""

    level: float
    at: float

    def fill(self, per_minute: int, now: float) -> None:
        gained = (now - self.at) * rate(per_minute)
        self.level, self.at = min(burst(per_minute), self.level + gained), now

    def missing(self, least: float, per_minute: int) -> float:
        """Seconds until there is as much; a full bucket is enough for anybody."""
        short = min(least, burst(per_minute)) - self.level
        return max(0.0, short / rate(per_minute))


class LocalLender:
    """Lends from counts in memory."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._slots: dict[str, int] = {}

    def lend(self, name: str, allowance: Allowance, least: Share, most: Share) -> Share | float:
        """See `Lender.lease`; waits for nothing."""
        now = self._clock()
        waits = [0.0]
        for kind, per_minute, wanted in (
            ("requests", allowance.rpm, least.requests), ("tokens", allowance.tpm, least.tokens),
        ):  # fmt: skip
            if per_minute is not None:
                full = _Bucket(burst(per_minute), now)
                bucket = self._buckets.setdefault((name, kind), full)
                bucket.fill(per_minute, now)
                waits.append(bucket.missing(wanted, per_minute))
        used = self._slots.get(name, 0)
        free = least.slots if allowance.parallel is None else allowance.parallel - used
        if free < least.slots:
            waits.append(SLOT_NAP)
        if max(waits) > 0:
            return max(waits)
        granted = Share(
            self._draw((name, "requests"), least.requests, most.requests),
            self._draw((name, "tokens"), least.tokens, most.tokens),
            min(free, max(least.slots, most.slots)),
        )
        self._slots[name] = used + granted.slots
        return granted

    async def lease(
        self, name: str, allowance: Allowance, least: Share, most: Share
    ) -> Share | float:
        """See `Lender.lease`."""
        return self.lend(name, allowance, least, most)

    def give_back(self, name: str, slots: int) -> None:
        """See `Lender.give_back`."""
        self._slots[name] = max(0, self._slots.get(name, 0) - slots)

    def _draw(self, key: tuple[str, str], least: float, most: float) -> float:
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0.0
        drawn = max(least, min(most, bucket.level))
        bucket.level -= drawn
        return drawn
