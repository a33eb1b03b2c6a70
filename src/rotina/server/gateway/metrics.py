"""`/metrics`: what the gateway does, in Prometheus' text format.

With several worker processes the figures of all are added up: prometheus_client keeps them in files
that the processes share (PROMETHEUS_MULTIPROC_DIR, which the supervisor sets).
"""

import functools
import os
from decimal import Decimal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from rotina.gateway import Gateway, ModelCall, Times

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_OVERHEAD = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)
_CALL = ("route", "deployment", "kind", "outcome")
_LANE = ("route", "deployment")


class Metrics:
    """The figures of one process."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self._folder = os.environ.get(SHARED_FOLDER)
        self._calls = Counter(
            "rotina_gateway_calls", "Model calls that ended.", _CALL, registry=own
        )
        self._attempts = Counter(
            "rotina_gateway_attempts", "Requests sent upstream.", _LANE, registry=own
        )
        self._tokens = Counter(
            "rotina_gateway_tokens",
            "Tokens, as far as servers told them.",
            (*_LANE, "direction"),
            registry=own,
        )
        self._cost = Counter(
            "rotina_gateway_cost_usd", "US dollars, where the price is known.", _LANE, registry=own
        )
        self._seconds = Histogram(
            "rotina_gateway_call_seconds",
            "From getting a slot to the end of a call.",
            (*_LANE, "kind"),
            buckets=_SECONDS,
            registry=own,
        )
        self._first = Histogram(
            "rotina_gateway_first_piece_seconds",
            "From getting a slot to the first piece of a stream.",
            _LANE,
            buckets=_SECONDS,
            registry=own,
        )
        self._overhead = Histogram(
            "rotina_gateway_overhead_seconds",
            "Of an HTTP request, without the time in which an upstream request was under way.",
            ("path",),
            buckets=_OVERHEAD,
            registry=own,
        )
        self._requests = Counter(
            "rotina_gateway_http_requests", "HTTP answers.", ("path", "status"), registry=own
        )
        gauge = functools.partial(Gauge, registry=own, multiprocess_mode="livesum")
        self._under_way = gauge(
            "rotina_gateway_calls_under_way", "Calls that hold a slot.", ("deployment",)
        )
        self._open = gauge(
            "rotina_gateway_circuit_open",
            "Processes whose circuit to the deployment is open.",
            ("deployment",),
        )
        self._lost = Counter(
            "rotina_gateway_ledger_failures",
            "Calls whose row could not be written.",
            registry=own,
        )
        self._lost_before = 0

    def ended(self, row: ModelCall, times: Times) -> None:
        """A model call is over."""
        lane = (row.route, row.deployment)
        self._calls.labels(*lane, row.kind, row.outcome).inc()
        if row.attempts:
            self._attempts.labels(*lane).inc(row.attempts)
        if row.prompt_tokens:
            self._tokens.labels(*lane, "in").inc(row.prompt_tokens)
        if row.completion_tokens:
            self._tokens.labels(*lane, "out").inc(row.completion_tokens)
        if row.cost_usd is not None and row.cost_usd > Decimal(0):
            self._cost.labels(*lane).inc(float(row.cost_usd))
        self._seconds.labels(*lane, row.kind).observe(times.total)
        if times.first is not None:
            self._first.labels(*lane).observe(times.first)

    def answered(self, path: str, status: int, overhead: float | None) -> None:
        """An HTTP request of the gateway's paths was answered; `overhead` of one that asked."""
        self._requests.labels(path, str(status)).inc()
        if overhead is not None:
            self._overhead.labels(path).observe(overhead)

    def look(self, gateway: Gateway) -> None:
        """Note what is true only for the moment."""
        for state in gateway.deployments():
            self._under_way.labels(state.name).set(state.under_way)
            self._open.labels(state.name).set(int(state.circuit_open))
        lost = gateway.ledger_failures
        self._lost.inc(max(0, lost - self._lost_before))
        self._lost_before = lost

    def text(self) -> bytes:
        """All figures, those of the other worker processes added."""
        if self._folder is None:
            return generate_latest(self._registry)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody, self._folder)  # type: ignore[no-untyped-call]
        return generate_latest(everybody)
