"""Rotina reached through the database itself, as workers do."""

from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from rotina.client.access import Change
from rotina.runs import (
    Accepted,
    Review,
    Run,
    RunEvent,
    RunState,
    RunSummary,
    Thread,
    ThreadMessage,
    Upload,
)
from rotina.worker import Client


class InProcess:
    """`Access` over PostgreSQL and Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start(
        self,
        workflow: str,
        value: Mapping[str, Any],
        *,
        key: str | None,
        upload: Upload | None,
        priority: int | None,
    ) -> Accepted:
        """As `Client.start`."""
        return await self._client.start(workflow, value, key=key, upload=upload, priority=priority)

    async def get(self, run_id: UUID) -> Run:
        """As `RunStore.get`."""
        return await self._client.store.get(run_id)

    async def runs(
        self, *, workflow: str | None, state: str | None, before: UUID | None, limit: int
    ) -> Sequence[RunSummary]:
        """As `RunStore.list_runs`."""
        return await self._client.store.list_runs(
            workflow=workflow, state=cast("RunState | None", state), before=before, limit=limit
        )

    async def change(self, run_id: UUID, change: Change, *, by: str, reason: str) -> Run:
        """As `Client.cancel`, `pause`, `resume` and `retry`."""
        if change == "cancel":
            await self._client.cancel(run_id, by=by, reason=reason)
        else:
            act = {
                "pause": self._client.pause,
                "resume": self._client.resume,
                "retry": self._client.retry,
            }
            await act[change](run_id, by=by)
        return await self._client.store.get(run_id)

    async def signal(self, name: str, key: str, payload: Mapping[str, Any]) -> int:
        """As `Client.signal`."""
        return await self._client.signal(name, key, payload)

    async def events(self, run_id: UUID, *, after: int) -> Sequence[RunEvent]:
        """As `RunStore.events`."""
        return await self._client.store.events(run_id, after=after)

    async def open_thread(self, workflow: str, *, customer: str | None) -> Thread:
        """As `Client.open_thread`."""
        return await self._client.open_thread(workflow, customer=customer)

    async def say(self, thread_id: UUID, text: str, *, key: str | None) -> Accepted:
        """As `Client.say`."""
        return await self._client.say(thread_id, text, key=key)

    async def messages(self, thread_id: UUID, *, after: int) -> Sequence[ThreadMessage]:
        """As `ThreadStore.messages`."""
        return await self._client.threads.messages(thread_id, after=after)

    async def reviews(self, *, assignee: str | None) -> Sequence[Review]:
        """As `ReviewStore.list_open`."""
        return await self._client.reviews.list_open(assignee=assignee)

    async def answer(self, review_id: UUID, value: Mapping[str, Any], *, by: str) -> None:
        """As `Client.answer`."""
        await self._client.answer(review_id, value, by=by)
