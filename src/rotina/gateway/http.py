"""HTTP to one model server: a keep-alive pool, bounded bodies, errors without secrets."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from rotina.errors import ModelOutputError, SettingsError
from rotina.gateway.failure import Endpoint, transport_error

CONNECT_SECONDS = 5.0
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Of the decompressed body: 32 long embeddings are 3 MB, the longest answers less."""
_MAX_ERROR_BYTES = 64 * 1024


class Sessions:
    """One aiohttp session a host, opened when first needed: deployments on a host share it."""

    def __init__(self) -> None:
        self._sessions: dict[URL, aiohttp.ClientSession] = {}

    def get(self, url: URL) -> aiohttp.ClientSession:
        """The session for the URL's host; needs a running loop."""
        origin = url.origin()
        session = self._sessions.get(origin)
        if session is None:
            session = self._sessions[origin] = _open_session()
        return session

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


def _open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # The deployment's own limit is the only one: two that interfere cannot be reasoned about.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0),
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        # More than that at once would hold a whole giant answer in the buffer.
        read_bufsize=2**18,
    )


class Server:
    """Posts JSON to one deployment's URL."""

    def __init__(self, endpoint: Endpoint, sessions: Sessions) -> None:
        self.endpoint = endpoint
        self._sessions = sessions
        self._base, self._headers = _address(endpoint)

    @asynccontextmanager
    async def post(self, path: str, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response, whatever its status; its body is not read yet.

        Leaving early closes the connection. Raises `ModelUnreachableError`.
        """
        url = self._base.with_path(self._base.path + path, keep_query=True)
        session = self._sessions.get(url)
        try:
            async with session.post(
                url, data=body, headers=self._headers, allow_redirects=False
            ) as response:
                yield response
        except (aiohttp.ClientError, OSError) as error:
            # `from None`: the cause's text and attributes hold the URL with its secrets.
            raise transport_error(error, self.endpoint) from None

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body; `ModelOutputError` when it is larger than `MAX_RESPONSE_BYTES`."""
        blocks, size = list[bytes](), 0
        async for block in response.content.iter_any():
            size += len(block)
            if size > MAX_RESPONSE_BYTES:
                raise ModelOutputError(
                    f"The answer of {self.endpoint} is larger than "
                    f"{MAX_RESPONSE_BYTES:,} bytes: given up"
                )
            blocks.append(block)
        return b"".join(blocks)

    async def read_error(self, response: aiohttp.ClientResponse) -> bytes:
        """The beginning of an error's body; errors have no reason to be long."""
        found = b""
        async for block in response.content.iter_any():
            found += block
            if len(found) > _MAX_ERROR_BYTES:
                # An unread rest would be taken for the next answer on this connection.
                response.close()
                break
        return found[:_MAX_ERROR_BYTES]


def _address(endpoint: Endpoint) -> tuple[URL, dict[str, Any]]:
    """The URL without credentials, and the headers that carry them."""
    url = endpoint.url
    headers = {"Content-Type": "application/json"}
    if endpoint.key:
        if not endpoint.key.isascii() or not endpoint.key.isprintable():
            raise SettingsError(
                f"The API key of {endpoint} holds a character that no HTTP header can carry: "
                "copy it again, without line breaks"
            )
        headers["Authorization"] = f"Bearer {endpoint.key}"
    elif url.user:
        pair = f"{url.user}:{url.password or ''}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return url.with_user(None).with_path(url.path.rstrip("/"), keep_query=True), headers
