"""`Rotina.sync()`: the same door for programs without an event loop."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

from rotina.client.rotina import Rotina
from rotina.runs import (
    Accepted,
    Review,
    Run,
    RunEvent,
    RunSummary,
    Thread,
    ThreadMessage,
    Upload,
)

T = TypeVar("T")


class RotinaSync:
    """`Rotina` on an event loop in a thread of its own; every method blocks. Errors are the same.

    It may be used from several threads at once, and inside a program that runs a loop already.
    """

    def __init__(self, rotina: Rotina) -> None:
        self._rotina = rotina
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="rotina-client", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._run(self._rotina.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._run(self._rotina.__aexit__(kind, error, trace))
        finally:
            self._stop()

    def start(
        self,
        workflow: str,
        value: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        file: Path | Upload | None = None,
        priority: int | None = None,
    ) -> Accepted:
        """As `Rotina.start`."""
        return self._run(self._rotina.start(workflow, value, key=key, file=file, priority=priority))

    def get(self, run_id: UUID) -> Run:
        """As `Rotina.get`."""
        return self._run(self._rotina.get(run_id))

    def runs(
        self,
        *,
        workflow: str | None = None,
        state: str | None = None,
        before: UUID | None = None,
        limit: int = 20,
    ) -> Sequence[RunSummary]:
        """As `Rotina.runs`."""
        return self._run(
            self._rotina.runs(workflow=workflow, state=state, before=before, limit=limit)
        )

    def wait(self, run_id: UUID, *, timeout: float | None = None, or_review: bool = False) -> Run:
        """As `Rotina.wait`."""
        return self._run(self._rotina.wait(run_id, timeout=timeout, or_review=or_review))

    def result(self, run_id: UUID, *, timeout: float | None = None) -> dict[str, Any]:
        """As `Rotina.result`."""
        return self._run(self._rotina.result(run_id, timeout=timeout))

    def cancel(self, run_id: UUID, *, by: str, reason: str = "") -> Run:
        """As `Rotina.cancel`."""
        return self._run(self._rotina.cancel(run_id, by=by, reason=reason))

    def pause(self, run_id: UUID, *, by: str) -> Run:
        """As `Rotina.pause`."""
        return self._run(self._rotina.pause(run_id, by=by))

    def resume(self, run_id: UUID, *, by: str) -> Run:
        """As `Rotina.resume`."""
        return self._run(self._rotina.resume(run_id, by=by))

    def retry(self, run_id: UUID, *, by: str) -> Run:
        """As `Rotina.retry`."""
        return self._run(self._rotina.retry(run_id, by=by))

    def signal(self, name: str, key: str, payload: Mapping[str, Any] | None = None) -> int:
        """As `Rotina.signal`."""
        return self._run(self._rotina.signal(name, key, payload))

    def events(self, run_id: UUID, *, after: int = 0) -> Sequence[RunEvent]:
        """As `Rotina.events`."""
        return self._run(self._rotina.events(run_id, after=after))

    def stream(self, run_id: UUID, *, after: int = 0) -> Iterator[RunEvent]:
        """As `Rotina.stream`."""
        events = self._rotina.stream(run_id, after=after)
        try:
            while (event := self._run(_next(events))) is not None:
                yield event
        finally:
            self._run(events.aclose())

    def open_thread(self, workflow: str, *, customer: str | None = None) -> Thread:
        """As `Rotina.open_thread`."""
        return self._run(self._rotina.open_thread(workflow, customer=customer))

    def say(
        self, thread_id: UUID, text: str, *, key: str | None = None, timeout: float | None = None
    ) -> ThreadMessage:
        """As `Rotina.say`."""
        return self._run(self._rotina.say(thread_id, text, key=key, timeout=timeout))

    def messages(self, thread_id: UUID, *, after: int = 0) -> Sequence[ThreadMessage]:
        """As `Rotina.messages`."""
        return self._run(self._rotina.messages(thread_id, after=after))

    def reviews(self, *, assignee: str | None = None) -> Sequence[Review]:
        """As `Rotina.reviews`."""
        return self._run(self._rotina.reviews(assignee=assignee))

    def answer(self, review_id: UUID, value: Mapping[str, Any], *, by: str) -> None:
        """As `Rotina.answer`."""
        self._run(self._rotina.answer(review_id, value, by=by))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C while waiting: what runs in the loop must not go on for nobody.
            future.cancel()
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(events: Any) -> RunEvent | None:
    event: RunEvent | None = await anext(events, None)
    return event
