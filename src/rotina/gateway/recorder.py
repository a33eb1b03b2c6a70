"""What a run lends the gateway so that no answer is paid for twice."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Recorded(Protocol):
    """The place of one call in a run's record."""

    answer: bytes | None
    """What an earlier attempt was told; None: ask, then `keep`."""

    async def keep(self, answer: bytes) -> None:
        """Record the answer. Raises `LeaseLostError` when the run has another worker now."""

    def add(self, answer: bytes) -> None:
        """Record what costs nothing to ask again: with what the run commits next."""


class Recorder(Protocol):
    """The record of one run; `rotina.runs.Recording` is the one in use."""

    async def recall(self, kind: str, request: Mapping[str, Any]) -> Recorded:
        """The place of a call; `request` is JSON and says all that its answer depends on."""

    def fact(self, kind: str, request: Mapping[str, Any], tell: Callable[[], int]) -> int:
        """What `tell` says of the deployment, kept for a replay elsewhere."""
