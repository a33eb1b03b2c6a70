"""Messages of a folder of an IMAP server (RFC 3501 and 9051)."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote

from rotina.errors import SourceError
from rotina.knowledge.sources.guarded import GuardedResolver
from rotina.knowledge.sources.model import Fetched, Listed, MailboxSettings, Source

CONNECT_SECONDS = 10.0
SECONDS = 60.0
WINDOW = 50_000
"""Numbers that one search covers: imaplib refuses lines of more than a megabyte."""
FOLDERS = 20
"""How many names of folders an error lists."""


class Mailbox(Source):
    """A message never changes, so its number tells its content.

    Nothing is marked as read. One connection, to an address that was judged, serves all.
    """

    def __init__(self, settings: MailboxSettings, hosts: Sequence[str], most_bytes: int) -> None:
        """`hosts` may be at private addresses; `most_bytes` is the largest message that is read.

        Raises `SourceError` when the environment variable is not set, or when a password would
        cross to a host that is not one of `hosts` in the clear.
        """
        self._settings = settings
        self._resolver = GuardedResolver(hosts)
        self._most = most_bytes
        self._password = os.environ.get(settings.password, "")
        self._client: Any = None
        self._selected: dict[bytes, Any] = {}
        self._one = asyncio.Lock()
        if not self._password:
            raise SourceError(
                f"The environment variable {settings.password} is not set for this worker: it "
                f"holds the password of {settings.user!r} at {settings.host!r}"
            )
        if settings.security == "none" and settings.host not in hosts:
            raise SourceError(
                f"Without encryption the password would cross to {settings.host!r} in the clear: "
                "use tls or starttls, or list a host of your own in the setting source_hosts"
            )

    async def listed(self) -> AsyncIterator[Listed]:
        """All messages of the folder that are not marked as deleted. Raises `SourceError`."""
        first, after = 1, 1
        while first <= after:
            numbers, after = await self._ask(partial(self._window, first))
            for number in sorted(numbers):
                yield Listed(self._uri(number), "1")
            first += WINDOW

    async def fetch(self, uri: str) -> Fetched:
        """One message as it came. Raises `SourceError`."""
        place, _, number = uri.rpartition("/;UID=")

        def read(client: Any) -> Any:
            # Numbers count in one generation of a folder only.
            if not number.isdigit() or uri != self._uri(int(number)):
                return None
            return client.fetch([int(number)], [f"BODY.PEEK[]<0.{self._most + 1}>"])

        found = await self._ask(read)
        content = found[int(number)].get(b"BODY[]<0>") if found else None
        if content is None:
            raise SourceError(f"The message {uri!r} is gone from {place!r} since it was listed")
        if len(content) > self._most:
            raise SourceError(f"{uri!r} has more than {self._most} bytes, which are allowed")
        return Fetched(f"{number}.eml", content, "message/rfc822")

    async def close(self) -> None:
        """Log out."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(_quit, client)

    def _window(self, first: int, client: Any) -> tuple[list[int], int]:
        """Numbers of messages from the first on, and the last that may be in use."""
        next_number = self._selected.get(b"UIDNEXT")
        last = first + WINDOW - 1 if next_number else "*"
        wanted: list[Any] = ["UID", f"{first}:{last}", "UNDELETED"]
        if self._settings.since is not None:
            wanted += ["SINCE", self._settings.since]
        return list(client.search(wanted)), int(next_number or 1) - 1

    def _uri(self, number: int) -> str:
        """RFC 5092."""
        own = self._settings
        user, folder = quote(own.user, safe=""), quote(own.folder)
        generation = self._selected.get(b"UIDVALIDITY", 0)
        return f"imap://{user}@{own.host}/{folder};UIDVALIDITY={generation}/;UID={number}"

    async def _ask(self, work: Callable[[Any], Any]) -> Any:
        """What the work gives; a connection that was lost is opened again, once."""
        from imapclient.exceptions import (  # noqa: PLC0415 - a worker that reads no mail
            IMAPClientAbortError,
            IMAPClientError,
        )

        host = self._settings.host
        async with self._one:
            for again in (True, False):
                try:
                    if self._client is None:
                        await self._open()
                    return await asyncio.to_thread(work, self._client)
                except (OSError, IMAPClientAbortError) as error:
                    await self.close()
                    if not again:
                        said = f"{type(error).__name__}: {error}"
                        raise SourceError(f"{host!r} cannot be asked: {said}") from None
                except IMAPClientError as error:
                    raise SourceError(f"{host!r} answers: {error}") from None
        raise AssertionError("unreachable")

    async def _open(self) -> None:
        own = self._settings
        found = await self._resolver.resolve(own.host, own.port_number)
        self._client, self._selected = await asyncio.to_thread(self._enter, found[0]["host"])

    def _enter(self, address: str) -> tuple[Any, dict[bytes, Any]]:
        """In a thread: logged in, with the folder selected."""
        from imapclient import IMAPClient, SocketTimeout  # noqa: PLC0415 - as above

        own = self._settings
        context = _Named(own.host)
        client = IMAPClient(
            address,
            own.port_number,
            ssl=own.security == "tls",
            ssl_context=context,
            timeout=SocketTimeout(CONNECT_SECONDS, SECONDS),
        )
        try:
            if own.security == "starttls":
                client.starttls(context)
            self._login(client)
            return client, self._select(client)
        except BaseException:
            _quit(client)
            raise

    def _login(self, client: Any) -> None:
        from imapclient.exceptions import LoginError  # noqa: PLC0415 - as above

        own = self._settings
        # LOGIN knows ASCII only; PLAIN (RFC 4616) is UTF-8.
        ascii_only = (own.user + self._password).isascii()
        login = client.login if ascii_only else client.plain_login
        try:
            login(own.user, self._password)
        except LoginError as error:
            raise SourceError(
                f"{own.host!r} refuses the login of {own.user!r} ({error}): the environment "
                f"variable {own.password} holds the password, for some servers one for apps"
            ) from None

    def _select(self, client: Any) -> dict[bytes, Any]:
        from imapclient.exceptions import IMAPClientError  # noqa: PLC0415 - as above

        own = self._settings
        try:
            selected: dict[bytes, Any] = client.select_folder(own.folder, readonly=True)
        except IMAPClientError as error:
            names = sorted(str(name) for _, _, name in client.list_folders())
            known = ", ".join(names[:FOLDERS]) + (", …" if len(names) > FOLDERS else "")
            raise SourceError(
                f"{own.host!r} has no folder {own.folder!r} ({error}): it has {known}"
            ) from None
        return selected


class _Named:
    """Encrypts to the address that was judged, with a certificate for the host's name."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._inner = ssl.create_default_context()

    def wrap_socket(self, plain: socket.socket, server_hostname: str) -> ssl.SSLSocket:
        """As `ssl.SSLContext` does."""
        del server_hostname  # The address.
        return self._inner.wrap_socket(plain, server_hostname=self._host)


def _quit(client: Any) -> None:
    from imapclient.exceptions import IMAPClientError  # noqa: PLC0415 - as above

    with suppress(IMAPClientError, OSError):
        client.logout()
        return
    with suppress(OSError):
        client.shutdown()
