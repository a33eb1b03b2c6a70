"""What the model calls of one HTTP request have come to: for its headers and for the metrics."""

import re
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from uuid_utils.compat import uuid7

from rotina.gateway import CallUnderWay, ModelCall, Times
from rotina.gateway.ledger import CACHED

if TYPE_CHECKING:
    from rotina.server.gateway.metrics import Metrics

REQUEST_ID = "x-request-id"
_SANE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class Trail:
    """Follows one request; an `Observer` that hands on to the metrics."""

    def __init__(self, given: str | None, metrics: "Metrics | None" = None) -> None:
        """`given` is the client's own request id, used if it can stand in a log line."""
        self.request_id = given if given and _SANE.fullmatch(given) else uuid7().hex
        self._metrics = metrics
        self._began = time.perf_counter()
        self._call: CallUnderWay | None = None
        self._ended: list[ModelCall] = []
        self._upstream = 0.0
        """Of the calls that have ended."""

    def began(self, call: CallUnderWay) -> None:
        """A call got its slot."""
        self._call = call

    def ended(self, row: ModelCall, times: Times) -> None:
        """A call is over."""
        if self._call is not None and self._call.id == row.id:
            self._call = None
        self._ended.append(row)
        self._upstream += times.upstream
        if self._metrics is not None:
            self._metrics.ended(row, times)

    @property
    def asked(self) -> bool:
        """Whether the request led to a model call, answered from the cache or not."""
        return self._call is not None or bool(self._ended)

    @property
    def seconds(self) -> float:
        """Since the request came."""
        return time.perf_counter() - self._began

    @property
    def overhead(self) -> float:
        """Seconds since then in which no request to a model server was under way."""
        waiting = 0.0 if self._call is None else self._call.upstream
        return max(0.0, self.seconds - self._upstream - waiting)

    @property
    def cost(self) -> Decimal | None:
        """US dollars of all calls, once they are over; None: unknown."""
        costs = [row.cost_usd for row in self._ended]
        known = [cost for cost in costs if cost is not None]
        if self._call is not None or not costs or len(known) < len(costs):
            return None
        return sum(known, Decimal(0))

    def headers(self) -> dict[str, str]:
        """What is known by now, as response headers."""
        found = {REQUEST_ID: self.request_id}
        if not self.asked:
            return found
        last = self._call or self._ended[-1]
        attempts = sum(row.attempts for row in self._ended)
        attempts += 0 if self._call is None else self._call.attempts
        found["x-rotina-route"] = _text(last.route)
        found["x-rotina-deployment"] = _text(last.deployment)
        found["x-rotina-call-id"] = str(last.id)
        found["x-rotina-attempts"] = str(attempts)
        cached = self._call is None and self._ended[-1].outcome == CACHED
        found["x-rotina-cached"] = "true" if cached else "false"
        return {**found, **self._figures()}

    def comment(self) -> bytes:
        """What is known only at the end of a stream, as a comment in it."""
        lines = [f": {name}: {value}\n" for name, value in self._figures().items()]
        return "".join([*lines, "\n"]).encode()

    def _figures(self) -> Mapping[str, str]:
        overhead = {"x-rotina-overhead-ms": f"{self.overhead * 1000:.2f}"}
        cost = self.cost
        return overhead if cost is None else {"x-rotina-cost-usd": f"{cost:f}", **overhead}


def _text(name: str) -> str:
    """A name as a header can carry it: names of routes and deployments are the operator's."""
    return name.encode("latin-1", "replace").decode("latin-1").replace("\r", "").replace("\n", "")
