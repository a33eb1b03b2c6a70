"""The one retry policy: exponential back-off with full jitter, within the caller's deadline.

Full jitter after "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015); Retry-After after
RFC 9110, section 10.2.3.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from rotina.errors import ModelError
from rotina.gateway.provider import RefusedError

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently a call is tried."""

    attempts: int = 3
    base: float = 0.5
    """Seconds: the first wait is at most this, each later one at most twice the one before."""
    cap: float = 8.0
    """Seconds: no wait that the server did not ask for is longer."""

    def wait(self, failures: int, retry_after: float | None) -> float:
        """Seconds to wait after so many failures; never less than the server asked for."""
        # The spread also applies on top of Retry-After: a server that sends the same figure to
        # everybody would otherwise be hit by everybody at once.
        spread = min(self.cap, self.base * 2 ** (failures - 1))
        return (retry_after or 0.0) + random.uniform(0.0, spread)  # noqa: S311 - not a secret


async def with_retries(
    operation: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    deadline: float | None,
    *,
    patient: bool = True,
) -> T:
    """Await `operation` until it succeeds, fails for good, or no try is left.

    `deadline` is a time of the running loop; a wait that would end after it is not begun. Where
    another deployment is asked next there is no waiting for this one (`patient`). Raises the last
    `ModelError`.
    """
    for failures in range(1, policy.attempts + 1):
        try:
            return await operation()
        except ModelError as failure:
            refused = failure if isinstance(failure, RefusedError) else RefusedError(failure)
            error = refused.error
            wait = policy.wait(failures, refused.retry_after)
            again = refused.again or (patient and error.transient)
            hopeless = not again or failures == policy.attempts
            if hopeless or _is_late(wait, deadline):
                error.retry_after = refused.retry_after
                raise error from None
        await asyncio.sleep(wait)
    raise AssertionError(f"a policy needs at least one attempt, not {policy.attempts}")


def parse_retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header (delta-seconds or an HTTP date); None when it says nothing.

    Raises nothing: a header that is neither is ignored.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return _until(value)
    return seconds if 0 <= seconds < float("inf") else None


def _until(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _is_late(wait: float, deadline: float | None) -> bool:
    return deadline is not None and asyncio.get_running_loop().time() + wait >= deadline
