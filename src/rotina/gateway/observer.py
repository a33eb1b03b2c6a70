"""Who is told of each call while it happens: metrics, and the headers of an HTTP answer."""

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from rotina.gateway.ledger import ModelCall


class CallUnderWay(Protocol):
    """A call that has its slot; its figures grow."""

    id: UUID
    attempts: int
    """Requests that were sent."""
    upstream: float
    """Seconds in which a request was under way."""

    @property
    def route(self) -> str:
        """What the caller asked for."""

    @property
    def deployment(self) -> str:
        """Who is asked."""


@dataclass(frozen=True)
class Times:
    """Of one call, in seconds."""

    total: float
    """As `ModelCall.latency_ms`."""
    upstream: float
    """In which a request was under way: without waits for a slot, the database, the next try."""
    first: float | None
    """From the start to the first piece of a stream."""


class Observer(Protocol):
    """Told in the call's own task: it must be quick, wait for nothing and raise nothing."""

    def began(self, call: CallUnderWay) -> None:
        """A call got its slot and is about to ask."""

    def ended(self, row: ModelCall, times: Times) -> None:
        """A call is over, whatever came of it; also one that never began."""


@dataclass(frozen=True)
class DeploymentState:
    """A deployment as this process sees it now."""

    name: str
    under_way: int
    """Calls that hold a slot."""
    slots: int
    circuit_open: bool
