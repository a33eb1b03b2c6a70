"""A real IMAP server in a process of its own, and TLS in front of it."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from tests.bucket_server import started
from tests.scripted_model import unused_port

USER, PASSWORD = "ana@example.org", "de ação"


@dataclass
class MailServer:
    """What it holds is in its memory."""

    port: int

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Logged in."""
        from imapclient import IMAPClient

        with IMAPClient("127.0.0.1", self.port, ssl=False) as client:
            client.plain_login(USER, PASSWORD)
            yield client

    def deliver(self, subject: str, text: str, folder: str = "INBOX") -> None:
        """One more message at the end of a folder."""
        message = EmailMessage()
        message["Subject"], message["From"], message["To"] = subject, "bia@example.org", USER
        message.set_content(text)
        with self.client() as client:
            client.append(folder, message.as_bytes())


@contextmanager
def mail_server(*, certificate: Path | None = None) -> Iterator[MailServer]:
    """Listens on 127.0.0.1; offers STARTTLS where it has a certificate with its key."""
    port = unused_port()
    tls = ["--no-tls"] if certificate is None else ["--cert", str(certificate)]
    tls += [] if certificate is None else ["--key", str(certificate)]
    program = Path(sys.executable).with_name("pymap")
    served = [str(program), "--no-service", "admin", "--host", "127.0.0.1", "--port", str(port)]
    served += [*tls, "dict", "--demo-user", USER, "--demo-password", PASSWORD]
    with started(served, port):
        yield MailServer(port)


@dataclass
class TlsInFront:
    """Takes the TLS off connections to `port` and passes them on."""

    port: int = 0
    accepted: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """Every connection breaks."""
        for writer in self.open:
            writer.transport.abort()


@asynccontextmanager
async def tls_in_front(certificate: Path, port: int) -> AsyncIterator[TlsInFront]:
    """`certificate` has its key with it."""
    front = TlsInFront()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                writer.write(piece)
        with suppress(OSError, RuntimeError):
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        front.accepted += 1
        behind_reader, behind = await asyncio.open_connection("127.0.0.1", port)
        front.open |= {writer, behind}
        await asyncio.gather(passed(reader, behind), passed(behind_reader, writer))
        front.open -= {writer, behind}

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    front.port = server.sockets[0].getsockname()[1]
    try:
        yield front
    finally:
        server.close()
        front.cut()
        await server.wait_closed()
