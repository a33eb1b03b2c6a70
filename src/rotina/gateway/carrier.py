"""The requests of other people's clients, carried by the gateway's own connections.

A provider's library writes requests and reads answers; what lies between is the same for all: one
pool of connections, no retries, no redirects, no proxies from the environment, bounded bodies, and
every failure a `ModelError`, whatever the library would have made of it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import aiohttp
from yarl import URL

from rotina.errors import ModelError, ModelOutputError
from rotina.gateway.failure import Endpoint, refusal, transport_error
from rotina.gateway.http import MAX_RESPONSE_BYTES, Server, Sessions

_OURS = frozenset(
    {"host", "content-length", "connection", "accept-encoding", "transfer-encoding", "expect"}
)
"""Headers of a request that aiohttp writes itself."""
_UNDONE = frozenset({"content-encoding", "content-length", "transfer-encoding", "connection"})
"""Headers of an answer that say nothing about the decoded body."""


_OPENED: ContextVar[list[aiohttp.ClientResponse] | None] = ContextVar("opened", default=None)


class Responses:
    """What one call has opened: libraries leave closing it to the garbage collector."""

    def __init__(self) -> None:
        self._opened: list[aiohttp.ClientResponse] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Around each step of the call: a generator shares the context of whoever reads it."""
        token = _OPENED.set(self._opened)
        try:
            yield
        finally:
            _OPENED.reset(token)

    def close(self) -> None:
        """Close the connections of what was not read to its end."""
        for response in self._opened:
            response.close()


class Carrier:
    """Sends requests to one deployment."""

    def __init__(self, endpoint: Endpoint, sessions: Sessions) -> None:
        """Raises `SettingsError` for a key that no header can carry."""
        self.endpoint = endpoint
        self._server = Server(endpoint, sessions)
        self._sessions = sessions

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> aiohttp.ClientResponse:
        """A response whose status is 200 and whose body is not read yet.

        Raises the `ModelError` of any other status, and `ModelUnreachableError`.
        """
        target = URL(url, encoded=True)
        sent = {name: value for name, value in headers.items() if name.lower() not in _OURS}
        try:
            response = await self._sessions.get(target).request(
                method, target, data=body, headers=sent, allow_redirects=False
            )
            if response.status == 200:  # noqa: PLR2004
                opened = _OPENED.get()
                if opened is not None:
                    opened.append(response)
                return response
            async with response:
                content = await self._server.read_error(response)
        except (aiohttp.ClientError, OSError) as error:
            raise transport_error(error, self.endpoint) from None
        after = response.headers.get("Retry-After")
        raise refusal(response.status, after, content, self.endpoint)

    async def blocks(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        """The body as it comes; closing it early closes the connection.

        Raises `ModelUnreachableError`, and `ModelOutputError` for a body that is too large.
        """
        size = 0
        try:
            async for block in response.content.iter_any():
                size += len(block)
                if size > MAX_RESPONSE_BYTES:
                    raise ModelOutputError(
                        f"The answer of {self.endpoint} is larger than "
                        f"{MAX_RESPONSE_BYTES:,} bytes: given up"
                    )
                yield block
        except (aiohttp.ClientError, OSError) as error:
            raise transport_error(error, self.endpoint) from None
        finally:
            response.close()


def decoded_headers(response: aiohttp.ClientResponse) -> list[tuple[str, str]]:
    """The headers, without those about an encoding that is undone."""
    return [
        (name, value) for name, value in response.headers.items() if name.lower() not in _UNDONE
    ]


def httpx_transport(library: Any, carrier: Carrier) -> Any:
    """A transport for a client of `library`, which is httpx or its fork httpx2."""

    class Body(library.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, response: aiohttp.ClientResponse) -> None:
            self._blocks = carrier.blocks(response)
            self._response = response

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self._blocks

        async def aclose(self) -> None:
            await self._blocks.aclose()
            # A generator that never began has no `finally`.
            self._response.close()

    class Transport(library.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            body = await request.aread()
            response = await carrier.send(request.method, str(request.url), request.headers, body)
            headers = decoded_headers(response)
            return library.Response(response.status, headers=headers, stream=Body(response))

        def close(self) -> None:
            """For libraries that open a synchronous client beside the one that is used."""

    return Transport()


def model_error(error: BaseException | None) -> ModelError | None:
    """The carrier's error inside whatever a library made of it."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        if isinstance(error, ModelError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
