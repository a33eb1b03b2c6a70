"""HTTP to addresses on the open Internet only (OWASP, Server-Side Request Forgery Prevention).

Whoever names a URL must not reach what this host can reach: its own services, the neighbours' and
the cloud's metadata. So a name is resolved once, and the connection goes to the addresses that were
judged; each redirect is judged anew.
"""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from rotina.errors import SourceError

SECONDS = 60.0
REDIRECTS = 5
REDIRECTED = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    url: str
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
    resolver = GuardedResolver(allowed)
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False)
    try:
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers={"User-Agent": "rotina"}
        ) as session:
            for _ in range(REDIRECTS + 1):
                _judge_literal(resolver, url)
                async with session.request(method, url, allow_redirects=False) as response:
                    if response.status not in REDIRECTED:
                        return await _answer(response, most_bytes)
                    url = urljoin(url, response.headers.get("Location", ""))
                    if not url.lower().startswith(("http://", "https://")):
                        raise SourceError(f"a redirect leads to {url!r}, which is no web address")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        cause: Any = error
        while cause is not None and not isinstance(cause, SourceError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        raise SourceError(f"{url!r} cannot be fetched: {type(error).__name__}: {error}") from None
    raise SourceError(f"{url!r} redirects more than {REDIRECTS} times")


def _judge_literal(resolver: GuardedResolver, url: str) -> None:
    """An address in a URL is never resolved."""
    host = urlsplit(url).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return
    resolver.judge(host, host)


async def _answer(response: aiohttp.ClientResponse, most_bytes: int) -> Answer:
    url = str(response.url)
    if not response.ok:
        raise SourceError(f"{url!r} answers {response.status} {response.reason or ''}".rstrip())
    body = bytearray()
    async for piece in response.content.iter_chunked(64 * 1024):
        body += piece
        if len(body) > most_bytes:
            raise SourceError(f"{url!r} has more than {most_bytes} bytes, which are allowed")
    return Answer(url, {k.lower(): v for k, v in response.headers.items()}, bytes(body))
