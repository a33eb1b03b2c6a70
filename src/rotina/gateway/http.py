"""HTTP to one model server: a keep-alive pool, bounded bodies, errors without secrets."""

import base64
import copy
import io
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from rotina.errors import ModelOutputError, SettingsError
from rotina.gateway.failure import Endpoint, transport_error

CONNECT_SECONDS = 5.0
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Of the decompressed body: 32 long embeddings are 3 MB, the longest answers less."""
_MAX_ERROR_BYTES = 64 * 1024
_AT_ONCE = 512 * 1024


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
    """One deployment's URL, which is sent JSON."""

    def __init__(
        self, endpoint: Endpoint, sessions: Sessions, key_header: str | None = None
    ) -> None:
        """The key goes into `key_header` as it is; without one it is a bearer token.

        Raises `SettingsError` for a key that no header can carry.
        """
        self.endpoint = endpoint
        self._sessions = sessions
        self._base, self._headers = _address(endpoint)
        if key_header and endpoint.key:
            del self._headers["Authorization"]
            self._headers[key_header] = endpoint.key

    def post(self, path: str, body: bytes) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """The response, whatever its status; its body is not read yet.

        Leaving early closes the connection. Raises `ModelUnreachableError`.
        """
        return self._request("POST", path, body)

    def get(self, path: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """As `post`, without a body."""
        return self._request("GET", path, None)

    def root(self) -> "Server":
        """The same server above `/v1`, where llama.cpp and vLLM have what OpenAI has not."""
        above = copy.copy(self)
        path = self._base.path.removesuffix("/v1").rstrip("/")
        above._base = self._base.with_path(path, keep_query=True)  # noqa: SLF001 - its own
        return above

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, body: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        # Of a URL without a path yarl says that it is "/".
        url = self._base.with_path(self._base.path.rstrip("/") + path, keep_query=True)
        session = self._sessions.get(url)
        try:
            async with session.request(
                method,
                url,
                data=None if body is None else _payload(body),
                headers=self._headers,
                allow_redirects=False,
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


def _payload(body: bytes) -> bytes | io.BytesIO:
    """aiohttp writes bytes at once, which holds up the event loop where there are many."""
    return body if len(body) < _AT_ONCE else io.BytesIO(body)


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
