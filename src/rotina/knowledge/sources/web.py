"""Pages and files on the web: a list of URLs, or what a sitemap lists (https://sitemaps.org)."""

import gzip
import re
import zlib
from collections.abc import AsyncIterator, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from selectolax.lexbor import LexborHTMLParser

from rotina.errors import SourceError
from rotina.knowledge.sources.guarded import Answer, request
from rotina.knowledge.sources.model import Fetched, Listed, SitemapSettings, Source, UrlSettings

MOST_SITEMAPS = 1000
SITEMAP_BYTES = 50_000_000
"""What the protocol allows a sitemap to have, unpacked."""


class Urls(Source):
    """Some URLs; ETag or Last-Modified tell whether the content has changed."""

    def __init__(self, settings: UrlSettings, hosts: Sequence[str], most_bytes: int) -> None:
        """`hosts` may be at private addresses; `most_bytes` is the largest answer."""
        self._urls = list(dict.fromkeys(settings.urls))
        self._hosts = hosts
        self._most = most_bytes

    async def listed(self) -> AsyncIterator[Listed]:
        """Each URL; one that does not answer is listed, and fails when it is fetched."""
        for url in self._urls:
            yield Listed(url, await self._fingerprint(url))

    async def fetch(self, uri: str) -> Fetched:
        """The body, named by the end of the path."""
        return fetched(await request("GET", uri, allowed=self._hosts, most_bytes=self._most))

    async def _fingerprint(self, url: str) -> str:
        try:
            answer = await request("HEAD", url, allowed=self._hosts, most_bytes=self._most)
        except SourceError:
            return f"unknown:{uuid4()}"
        told = [answer.headers.get(name, "") for name in ("etag", "last-modified")]
        # A server that says neither is asked for the content, which then tells.
        return "|".join(told) if any(told) else f"unknown:{uuid4()}"


class Sitemap(Source):
    """The URLs of a sitemap; `lastmod` tells whether one has changed."""

    def __init__(self, settings: SitemapSettings, hosts: Sequence[str], most_bytes: int) -> None:
        """As `Urls`. Raises `SourceError` for a `match` that is no regular expression."""
        self._settings = settings
        self._hosts = hosts
        self._most = most_bytes
        try:
            self._match = re.compile(settings.match)
        except re.error as error:
            raise SourceError(f"{settings.match!r} is no regular expression: {error}") from None

    async def listed(self) -> AsyncIterator[Listed]:
        """What the sitemap and those it points at list. Raises `SourceError`."""
        waiting, seen, count = [self._settings.url], set[str](), 0
        while waiting:
            url = waiting.pop()
            if url in seen:
                continue
            seen.add(url)
            if len(seen) > MOST_SITEMAPS:
                raise SourceError(f"{self._settings.url!r} leads to over {MOST_SITEMAPS} sitemaps")
            answer = await request("GET", url, allowed=self._hosts, most_bytes=SITEMAP_BYTES)
            tree = LexborHTMLParser(_unpacked(answer).decode("utf-8", "replace"))
            waiting += [each.text(strip=True) for each in tree.css("sitemap > loc")]
            for entry in tree.css("url"):
                loc, changed = entry.css_first("loc"), entry.css_first("lastmod")
                uri = loc.text(strip=True) if loc else ""
                if not self._match.search(uri) or not uri.startswith(("http://", "https://")):
                    continue
                count += 1
                if count > self._settings.most:
                    raise SourceError(
                        f"{self._settings.url!r} lists more than {self._settings.most} pages: "
                        "choose some with match, or raise most"
                    )
                told = changed.text(strip=True) if changed else ""
                yield Listed(uri, told or f"unknown:{uuid4()}")

    async def fetch(self, uri: str) -> Fetched:
        """As `Urls.fetch`."""
        return fetched(await request("GET", uri, allowed=self._hosts, most_bytes=self._most))


def fetched(answer: Answer) -> Fetched:
    """A body with a name that a person knows it by."""
    path = unquote(urlsplit(answer.url).path)
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip() or None
    name = PurePosixPath(path).name or urlsplit(answer.url).hostname or "page"
    return Fetched(name, answer.body, media_type)


def _unpacked(answer: Answer) -> bytes:
    if not answer.body.startswith(b"\x1f\x8b"):
        return answer.body
    try:
        unpacked = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(answer.body, SITEMAP_BYTES)
    except (zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{answer.url!r} cannot be unpacked: {error}") from None
    if len(unpacked) == SITEMAP_BYTES:
        raise SourceError(f"{answer.url!r} unpacks to more than {SITEMAP_BYTES} bytes")
    return unpacked
