"""`Rotina`: start runs from a program, wait for them, follow them, talk and decide."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from rotina.client.access import Access
from rotina.client.in_process import InProcess
from rotina.client.over_http import OverHttp
from rotina.errors import RunFailedError
from rotina.runs import (
    Accepted,
    Review,
    Run,
    RunEvent,
    RunSummary,
    Thread,
    ThreadMessage,
    Upload,
    follow,
    wait_for_end,
)
from rotina.settings import Settings, load_settings
from rotina.worker import Client

if TYPE_CHECKING:
    from rotina.client.sync import RotinaSync


class Rotina:
    """The door for Python programs; use it with `async with`, or `Rotina.sync()` with `with`.

    Without `url` it works in process: it reads the project's settings, and needs the database
    and, for speed, the broker. With `url` and `api_key` it speaks to `rotina serve`, and the key
    decides the tenant.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        settings: Settings | None = None,
        tenant: str | None = None,
    ) -> None:
        """Does no I/O. `settings` and `tenant` are for use in process only."""
        self._url = url
        self._api_key = api_key
        self._settings = settings
        self._tenant = tenant
        self._stack = AsyncExitStack()
        self._open: Access | None = None

    @classmethod
    def sync(
        cls,
        url: str | None = None,
        *,
        api_key: str | None = None,
        settings: Settings | None = None,
        tenant: str | None = None,
    ) -> "RotinaSync":
        """The same for programs without an event loop; parameters as of the class."""
        from rotina.client.sync import RotinaSync  # noqa: PLC0415 - it wraps this class

        return RotinaSync(cls(url, api_key=api_key, settings=settings, tenant=tenant))

    async def __aenter__(self) -> Self:
        """Connect. Raises `SettingsError`, `DatabaseError` or `AccessError`."""
        if self._url is not None:
            http = OverHttp(self._url, self._api_key)
            self._open = await self._stack.enter_async_context(http)
            return self
        settings = self._settings or load_settings()
        client = await self._stack.enter_async_context(Client.open(settings))
        self._open = InProcess(client.bound(self._tenant) if self._tenant else client)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = None
        await self._stack.aclose()

    async def start(
        self,
        workflow: str,
        value: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        file: Path | Upload | None = None,
        priority: int | None = None,
    ) -> Accepted:
        """Accept a run; once this returns it is not lost.

        `key` names the run: the same key and input again is the same run. `file` goes into the
        workflow's file field. `priority` is -100 to 100, higher goes first; default: the
        workflow's. Raises `UnknownWorkflowError`, `InvalidInputError`, `DocumentTooLargeError` or
        `IdempotencyConflictError`.
        """
        upload = file
        if isinstance(file, Path):
            upload = Upload(file.name, await asyncio.to_thread(file.read_bytes))
        assert upload is None or isinstance(upload, Upload)
        return await self._access.start(
            workflow, value or {}, key=key, upload=upload, priority=priority
        )

    async def get(self, run_id: UUID) -> Run:
        """One run, or `RunNotFoundError`."""
        return await self._access.get(run_id)

    async def runs(
        self,
        *,
        workflow: str | None = None,
        state: str | None = None,
        before: UUID | None = None,
        limit: int = 20,
    ) -> Sequence[RunSummary]:
        """Runs, newest first; `before` pages on from the last id seen."""
        return await self._access.runs(workflow=workflow, state=state, before=before, limit=limit)

    async def wait(
        self, run_id: UUID, *, timeout: float | None = None, or_review: bool = False
    ) -> Run:
        """The run once it has ended, however; with `or_review`, also once it waits for a person.

        Raises `TimeoutError` after `timeout` seconds.
        """
        return await wait_for_end(lambda: self.get(run_id), timeout=timeout, or_review=or_review)

    async def result(self, run_id: UUID, *, timeout: float | None = None) -> dict[str, Any]:
        """What the run ended with. Raises `RunFailedError` when it failed, and `TimeoutError`."""
        run = await self.wait(run_id, timeout=timeout)
        if run.state != "succeeded" or run.result is None:
            error = run.error or {}
            raise RunFailedError(
                f"Run {run.id} of {run.workflow!r} ended {run.state}: "
                f"{error.get('type', 'no error')}: {error.get('message', '')}"
            )
        return run.result

    async def cancel(self, run_id: UUID, *, by: str, reason: str = "") -> Run:
        """End a run as `cancelled`: at once, or within a second where a worker drives it.

        This and the next three raise `RunNotFoundError`, and `RunStateError` when the run's state
        does not allow it; they return the run as it is then.
        """
        return await self._access.change(run_id, "cancel", by=by, reason=reason)

    async def pause(self, run_id: UUID, *, by: str) -> Run:
        """Let nobody drive a run; one under way stops after its node."""
        return await self._access.change(run_id, "pause", by=by, reason="")

    async def resume(self, run_id: UUID, *, by: str) -> Run:
        """Let a paused run go on."""
        return await self._access.change(run_id, "resume", by=by, reason="")

    async def retry(self, run_id: UUID, *, by: str) -> Run:
        """Give a failed or cancelled run another set of attempts, from its last checkpoint."""
        return await self._access.change(run_id, "retry", by=by, reason="")

    async def signal(self, name: str, key: str, payload: Mapping[str, Any] | None = None) -> int:
        """Tell of an event; how many waiting runs it woke. With 0 the first to wait will get it.

        Raises `InvalidInputError` for an empty or overlong name or key.
        """
        return await self._access.signal(name, key, payload or {})

    async def events(self, run_id: UUID, *, after: int = 0) -> Sequence[RunEvent]:
        """The timeline so far, after event `after`."""
        return await self._access.events(run_id, after=after)

    def stream(self, run_id: UUID, *, after: int = 0) -> AsyncGenerator[RunEvent, None]:
        """The timeline as it grows, from event `after` on; ends with the run."""
        return follow(lambda seen: self.events(run_id, after=seen), after=after)

    async def open_thread(self, workflow: str, *, customer: str | None = None) -> Thread:
        """Begin a conversation. Raises `UnknownWorkflowError` or `InvalidInputError`."""
        return await self._access.open_thread(workflow, customer=customer)

    async def say(
        self, thread_id: UUID, text: str, *, key: str | None = None, timeout: float | None = None
    ) -> ThreadMessage:
        """Say something in a thread and wait for the reply.

        Raises `ThreadNotFoundError`, `RunFailedError` when there will be no reply, and
        `TimeoutError`.
        """
        accepted = await self._access.say(thread_id, text, key=key)
        await self.result(accepted.id, timeout=timeout)
        for message in await self.messages(thread_id):
            if message.run_id == accepted.id and message.role == "assistant":
                return message
        raise RunFailedError(f"Run {accepted.id} ended without a reply in thread {thread_id}")

    async def messages(self, thread_id: UUID, *, after: int = 0) -> Sequence[ThreadMessage]:
        """What was said after message `after`, oldest first."""
        return await self._access.messages(thread_id, after=after)

    async def reviews(self, *, assignee: str | None = None) -> Sequence[Review]:
        """What waits for a person, oldest first."""
        return await self._access.reviews(assignee=assignee)

    async def answer(self, review_id: UUID, value: Mapping[str, Any], *, by: str) -> None:
        """Answer a review; its run goes on.

        Raises `ReviewNotFoundError`, `InvalidInputError` or `ReviewAnsweredError`.
        """
        await self._access.answer(review_id, value, by=by)

    @property
    def _access(self) -> Access:
        if self._open is None:
            raise RuntimeError("open it first: `async with Rotina() as rotina:`")
        return self._open
