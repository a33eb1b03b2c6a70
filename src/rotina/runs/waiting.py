"""Waiting for a moment or an event, for days if need be, with nobody alive."""

from datetime import datetime, timedelta
from typing import Any

from langgraph.types import interrupt

from rotina.errors import RunError
from rotina.runs.questions import MARK

LONGEST = timedelta(days=3660)


def sleep(duration: timedelta) -> None:
    """Wait that long, counted from the first time the node comes here.

    To be called in a node, before anything that must not happen twice: the run gives its worker
    back, and afterwards LangGraph runs the node again from its top. The sweeper wakes it, up to
    two seconds late. Raises `RunError` for a duration below zero or above ten years.
    """
    interrupt({MARK: "wait", "kind": "timer", "seconds": _seconds(duration)})


def sleep_until(moment: datetime) -> None:
    """Wait until then; otherwise as `sleep`. Raises `RunError` for a moment without a time zone."""
    if moment.tzinfo is None:
        raise RunError(f"sleep_until({moment.isoformat()}): say in which time zone, as in UTC")
    interrupt({MARK: "wait", "kind": "timer", "until": moment.isoformat()})


def wait_event(name: str, key: str, *, timeout: timedelta | None = None) -> Any:
    """Wait for what `signal` sends under this name and key; returns its payload.

    None once `timeout` is over. An event that came before anybody waited is kept: the first run
    that waits for it takes it. To be called as `sleep` is, and may raise what it raises.
    """
    seconds = None if timeout is None else _seconds(timeout)
    told = interrupt({MARK: "wait", "kind": "event", "name": name, "key": key, "seconds": seconds})
    return told["event"]


def _seconds(duration: timedelta) -> float:
    if not timedelta(0) <= duration <= LONGEST:
        raise RunError(f"{duration} is no time to wait: between nothing and {LONGEST.days} days")
    return duration.total_seconds()
