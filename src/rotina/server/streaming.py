"""Server-sent events (WHATWG HTML, section 9.2) that end with their reader."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import psycopg
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_LOOK, LONGEST_PAUSE = 0.05, 1.0
KEEP_ALIVE_SECONDS = 15.0
"""Proxies cut connections that say nothing for half a minute or more."""
KEEP_ALIVE = b": keep-alive\n\n"
RECONNECT = b"retry: 1000\n\n"


def encode_event(data: Any, *, name: str | None = None, number: int | None = None) -> bytes:
    """One event; `data` is JSON, or a text without line breaks."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    head = "" if number is None else f"id: {number}\n"
    head += "" if name is None else f"event: {name}\n"
    # Half a surrogate pair, which models write now and then, is no text.
    return f"{head}data: {text}\n\n".encode(errors="replace")


class EventStream(Response):
    """Sends what a generator yields; closes the generator when the client is gone.

    Starlette's own streaming response leaves a generator that waits to be written to the garbage
    collector, and with it what the generator holds: here a model call under way.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        first: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`first` was taken from `events` already: what fails before it can have a status."""
        own = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(headers={**own, **(headers or {})})
        self._events = events
        self._first = first
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            outcomes = await asyncio.gather(sending, leaving, return_exceptions=True)
            await self._events.aclose()
        if isinstance(outcomes[0], Exception):
            raise outcomes[0]

    async def _send(self, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        async for block in self._events:
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client leaves before it is there.

    To be called once the body has been read. Raises `ClientDisconnect`.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
    return working.result()


async def disconnected(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Source(Protocol):
    """Something that grows and may end."""

    @property
    def ended(self) -> bool:
        """Whether nothing will come after what was read."""

    async def read(self) -> Sequence[bytes]:
        """The events since the last reading; holds no connection afterwards."""


async def follow(
    source: Source, first: Sequence[bytes], stopping: asyncio.Event
) -> AsyncGenerator[bytes, None]:
    """The events of a source as they come, after those in `first`, until it ends.

    It looks less and less often while nothing comes. A database that is away for a while costs a
    reader nothing but time. When the server stops the stream ends early: the reader comes back
    with `Last-Event-ID`.
    """
    yield RECONNECT
    fresh, pause, told = first, FIRST_LOOK, time.monotonic()
    while True:
        for event in fresh:
            yield event
        if source.ended or stopping.is_set():
            return
        now = time.monotonic()
        if fresh:
            pause, told = FIRST_LOOK, now
        elif now - told >= KEEP_ALIVE_SECONDS:
            told = now
            yield KEEP_ALIVE
        await _pause(stopping, pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)
        fresh = await _read(source)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return


async def _read(source: Source) -> Sequence[bytes]:
    try:
        return await source.read()
    except psycopg.OperationalError as error:
        log.warning("a stream of events waits for the database: %s", type(error).__name__)
        return []
