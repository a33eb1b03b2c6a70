"""The outcome of one of `rotina doctor`'s checks."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rotina.errors import RotinaError


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    remedy: str | None = None
    """What to do about a warning or a failure."""

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def attempt(name: str, look: Callable[[], str]) -> Check:
    """Run `look`: what it returns is the detail, what it raises the failure and its remedy.

    The messages of our errors have the form `what is wrong: what to do about it`.
    """
    try:
        return Check(name, "ok", look())
    except RotinaError as error:
        problem, found, remedy = str(error).partition(": ")
        return Check(name, "failed", problem, remedy if found else problem)
