"""What `Rotina` needs from the way it reaches runs: the database itself, or a server."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol
from uuid import UUID

from rotina.runs import Accepted, Review, Run, RunEvent, RunSummary, Thread, ThreadMessage, Upload

Change = Literal["cancel", "pause", "resume", "retry"]


class Access(Protocol):
    """One way to reach the runs of a tenant; `InProcess` and `OverHttp` are the two."""

    async def start(
        self,
        workflow: str,
        value: Mapping[str, Any],
        *,
        key: str | None,
        upload: Upload | None,
        priority: int | None,
    ) -> Accepted:
        """Accept a run."""
        ...

    async def get(self, run_id: UUID) -> Run:
        """One run."""
        ...

    async def runs(
        self, *, workflow: str | None, state: str | None, before: UUID | None, limit: int
    ) -> Sequence[RunSummary]:
        """Runs, newest first."""
        ...

    async def change(self, run_id: UUID, change: Change, *, by: str, reason: str) -> Run:
        """Cancel, pause, resume or retry a run; it as it is then."""
        ...

    async def signal(self, name: str, key: str, payload: Mapping[str, Any]) -> int:
        """Tell of an event."""
        ...

    async def events(self, run_id: UUID, *, after: int) -> Sequence[RunEvent]:
        """The timeline after event `after`."""
        ...

    async def open_thread(self, workflow: str, *, customer: str | None) -> Thread:
        """Begin a conversation."""
        ...

    async def say(self, thread_id: UUID, text: str, *, key: str | None) -> Accepted:
        """Add a customer's message."""
        ...

    async def messages(self, thread_id: UUID, *, after: int) -> Sequence[ThreadMessage]:
        """What was said after message `after`."""
        ...

    async def reviews(self, *, assignee: str | None) -> Sequence[Review]:
        """Open reviews."""
        ...

    async def answer(self, review_id: UUID, value: Mapping[str, Any], *, by: str) -> None:
        """Answer a review."""
        ...
