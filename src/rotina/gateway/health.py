"""Health: which deployments are worth asking, as the calls of this process found them.

A circuit breaker (Nygard, "Release It!", 2007) that only ever changes the order: a deployment whose
circuit is open is asked last, not never, so that a route with nothing else left still tries.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from rotina.errors import (
    ModelAuthError,
    ModelError,
    ModelMissingError,
    ModelQuotaError,
    ModelRateLimitedError,
    ModelServerError,
    ModelTimeoutError,
    ModelUnreachableError,
)

THRESHOLD = 3
"""Failures in a row that open the circuit."""
COOLDOWN = 5.0
"""Seconds that it stays open at first; twice as long after each probe that fails."""
LONGEST = 60.0

_SICK = (ModelUnreachableError, ModelTimeoutError, ModelServerError)
_AT_ONCE = (ModelAuthError, ModelMissingError, ModelQuotaError, ModelRateLimitedError)
"""What will not be better a moment later."""


@dataclass
class Health:
    """Of one deployment."""

    failures: int = 0
    """In a row."""
    openings: int = 0
    """In a row, of the circuit."""
    until: float = 0.0
    """When the circuit may be tried again, in the loop's time."""
    probing: bool = field(default=False, repr=False)
    own: bool = True
    """Whether this process has opened the circuit, not another one."""
    unreachable: bool = False
    """Whether the last failure was that nobody answered."""
    tell: Callable[[], None] = field(default=lambda: None, repr=False)
    """Called when the circuit is opened or closed here."""

    @property
    def cooling(self) -> bool:
        """Whether others are to be asked first; while a probe is under way it still is."""
        return self.openings > 0 and (self.probing or _now() < self.until)

    @property
    def left(self) -> float:
        """Seconds until the circuit may be tried again."""
        return max(0.0, self.until - _now())

    def hear(self, openings: int, seconds: float) -> None:
        """What other processes found: a circuit that stays open for so long, or none."""
        if openings and seconds > 0:
            if not self.cooling:
                self.openings, self.until, self.own = openings, _now() + seconds, False
        elif not self.own and self.left > 0:  # gone before its time: somebody found it well
            self._close()

    def seen(self) -> None:
        """The server answers again: if that was all, the next call may try it."""
        if self.openings and self.unreachable:
            self.until = min(self.until, _now())

    def begin(self) -> bool:
        """A call begins; True when it is the probe of an open circuit."""
        probe = self.openings > 0 and not self.cooling
        self.probing = self.probing or probe
        return probe

    def end(self, error: BaseException | None, *, probe: bool, wait: float = 0.0) -> None:
        """What came of it; `wait` is what a server asked for, in seconds.

        Only a deployment's own failures count: one that refuses a bad request is well.
        """
        if probe:
            self.probing = False
        if isinstance(error, _SICK + _AT_ONCE):
            self.failures += 1
            self.unreachable = isinstance(error, ModelUnreachableError)
            if self.cooling:  # by the failure of another call that was under way
                self.until = max(self.until, _now() + wait)
            elif isinstance(error, _AT_ONCE) or self.failures >= THRESHOLD or probe:
                self._open(wait)
        elif error is None or isinstance(error, ModelError):
            was_open = self.openings > 0
            self._close()
            if was_open:
                self.tell()

    def _close(self) -> None:
        self.failures = self.openings = 0
        self.own = True

    def _open(self, wait: float) -> None:
        spell = max(wait, min(LONGEST, COOLDOWN * 2**self.openings))
        self.openings = min(self.openings + 1, 10)
        self.until = _now() + spell
        self.own = True
        self.tell()


def _now() -> float:
    return asyncio.get_running_loop().time()
