"""Flow control: how many runs of a workflow may start and be under way."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rotina.errors import InvalidInputError, SettingsError

LONGEST_KEY = 200
PRIORITIES = range(-100, 101)


@dataclass(frozen=True)
class FlowControl:
    """Limits that runs of a workflow share, within their tenant.

    Raises `SettingsError` when they make no sense together.
    """

    key: str | None = None
    """The input field that runs must have in common to share limits; None: all of them do."""
    running: int | None = None
    """How many may be under way at once. One that waits for a person or a moment is not."""
    starts: int | None = None
    """How many may start within any `per`."""
    per: timedelta | None = None
    debounce: timedelta | None = None
    """A start within this time of the one before takes its place: one run, with the last input."""
    debounce_at_most: timedelta | None = None
    """How long a run is put off in all; None: as long as new starts come."""

    def __post_init__(self) -> None:
        """Refuse what could not be kept."""
        for name in ("running", "starts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"FlowControl({name}={value}): it must be at least 1")
        for name in ("per", "debounce", "debounce_at_most"):
            value = getattr(self, name)
            if value is not None and value <= timedelta(0):
                raise SettingsError(f"FlowControl({name}={value}): it must be above zero")
        for first, second in (
            ("starts", "per"),
            ("per", "starts"),
            ("debounce_at_most", "debounce"),
        ):
            if getattr(self, first) is not None and getattr(self, second) is None:
                raise SettingsError(f"FlowControl has {first} and no {second}: give both")
        if self.running is None and self.starts is None and self.debounce is None:
            raise SettingsError("FlowControl limits nothing: give it running, starts or debounce")

    def row(self, workflow: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of a run with this input."""
        shared = "" if self.key is None else json.dumps(value.get(self.key), sort_keys=True)
        if len(shared) > LONGEST_KEY:
            shared = hashlib.sha256(shared.encode()).hexdigest()
        return {
            "limit_key": f"{workflow}:{shared}",
            "max_running": self.running,
            "max_starts": self.starts,
            "period": self.per,
            "debounce": self.debounce,
            "at_most": self.debounce_at_most,
        }


UNLIMITED: dict[str, Any] = dict.fromkeys(
    ("limit_key", "max_running", "max_starts", "period", "debounce", "at_most")
)
"""The columns of a run that nothing limits."""


def check_priority(priority: int) -> None:
    """Raises `InvalidInputError` for a priority out of range."""
    if priority not in PRIORITIES:
        raise InvalidInputError(
            f"The priority {priority} is out of range: give {PRIORITIES.start} to "
            f"{PRIORITIES.stop - 1}, higher goes first"
        )
