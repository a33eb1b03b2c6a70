"""HTTP to addresses on the open Internet only (OWASP, Server-Side Request Forgery Prevention).

Whoever names a URL must not reach what this host can reach: its own services, the neighbours' and
the cloud's metadata. So a name is resolved once, and the connection goes to the addresses that were
judged; each redirect is judged anew.
"""

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from rotina.errors import SourceError

SECONDS = 60.0
REDIRECTS = 5
REDIRECTED = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Answer:
    """What a server answered; `headers` have names in lower case."""

    url: str
    status: int
    reason: str
    headers: dict[str, str]
    body: bytes


class GuardedResolver(AbstractResolver):
    """Resolves names to addresses that everybody may reach; `allowed` hosts to any."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = frozenset(host.lower() for host in allowed)
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises `SourceError` when one of the addresses is not public."""
        found = await self._inner.resolve(host, port, family)
        for each in found:
            self.judge(host, each["host"])
        return found

    def judge(self, host: str, address: str) -> None:
        """Raises `SourceError` unless the address is public or the host allowed."""
        if host.lower() in self._allowed:
            return
        number = ipaddress.ip_address(address.partition("%")[0])
        inner = getattr(number, "ipv4_mapped", None) or number
        if not inner.is_global or inner.is_multicast:
            raise SourceError(
                f"{host!r} is at {address}, which is no public address: list the host in the "
                "setting source_hosts if documents may be fetched there"
            )

    async def close(self) -> None:
        """Nothing to close."""


async def request(method: str, url: str, *, allowed: Sequence[str], most_bytes: int) -> Answer:
    """A URL's answer, redirects followed. Raises `SourceError` with what went wrong."""
    async with _session(allowed) as session:
        for _ in range(REDIRECTS + 1):
            answer = await _exchange(session, method, url, allowed=allowed, most_bytes=most_bytes)
            if answer.status not in REDIRECTED:
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    said = f"{answer.url!r} answers {answer.status} {answer.reason}"
                    raise SourceError(said.rstrip())
                return answer
            url = urljoin(url, answer.headers.get("location", ""))
            if not url.lower().startswith(("http://", "https://")):
                raise SourceError(f"a redirect leads to {url!r}, which is no web address")
    raise SourceError(f"{url!r} redirects more than {REDIRECTS} times")


async def exchange(
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    allowed: Sequence[str],
    most_bytes: int,
) -> Answer:
    """One request as it was signed, and its answer, whatever its status.

    Raises `SourceError` when there is none, or when it has more than `most_bytes`.
    """
    async with _session(allowed) as session:
        return await _exchange(
            session, method, url, headers, allowed=allowed, most_bytes=most_bytes
        )


def _session(allowed: Sequence[str]) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=GuardedResolver(allowed), use_dns_cache=False),
        timeout=aiohttp.ClientTimeout(total=SECONDS),
        headers={"User-Agent": "rotina"},
    )


async def _exchange(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    headers: Mapping[str, str] | None = None,
    *,
    allowed: Sequence[str],
    most_bytes: int,
) -> Answer:
    try:
        _judge_literal(allowed, url)
        # A signature is of the URL as it stands.
        asked = URL(url, encoded=headers is not None)
        async with session.request(
            method, asked, headers=headers, allow_redirects=False
        ) as response:
            return await _answer(response, most_bytes)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        cause: Any = error
        while cause is not None and not isinstance(cause, SourceError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        raise SourceError(f"{url!r} cannot be fetched: {type(error).__name__}: {error}") from None


def _judge_literal(allowed: Sequence[str], url: str) -> None:
    """An address in a URL is never resolved."""
    host = urlsplit(url).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return
    GuardedResolver(allowed).judge(host, host)


async def _answer(response: aiohttp.ClientResponse, most_bytes: int) -> Answer:
    url = str(response.url)
    body = bytearray()
    async for piece in response.content.iter_chunked(64 * 1024):
        body += piece
        if len(body) > most_bytes:
            raise SourceError(f"{url!r} has more than {most_bytes} bytes, which are allowed")
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(url, response.status, response.reason or "", headers, bytes(body))
