"""E-mail as an effect, on a real SMTP server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from aiosmtplib import SMTPServerDisconnected
from pydantic import BaseModel

from rotina.database import Pool
from rotina.errors import EffectNotDoneError, InvalidInputError, ReceiverDownError
from rotina.runs import Effects, RunStore, WorkerLease, Workflow, send_mail


class Nothing(BaseModel):
    """Input and output."""


@dataclass
class Mailbox:
    """A mail server on loopback: what it got, and what it says to the next message."""

    got: list[EmailMessage] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    url: str = ""

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name and form
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("gone@"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer == "break" or answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.got.append(read(envelope.content))
        if answer == "break":
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return answer


def read(content: bytes) -> EmailMessage:
    return message_from_bytes(content, policy=policy.default)


def letter(to: str = "bia@example.com") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Ana <ana@example.org>"
    message["To"] = to
    message["Subject"] = "Confirmação"
    message.set_content("Olá, está pago.")
    return message


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    box = Mailbox()
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: SMTP(box, loop=loop), "127.0.0.1", 0) as server:
        box.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield box


async def test_a_message_is_known_again_by_its_id(mailbox: Mailbox) -> None:
    key = uuid4()
    receipt = await send_mail(mailbox.url, letter())(key)
    again = await send_mail(mailbox.url, letter())(key)
    assert receipt == again == {"message_id": f"<{key}@example.org>", "refused": {}}
    assert {got["Message-ID"] for got in mailbox.got} == {f"<{key}@example.org>"}
    first = mailbox.got[0]
    assert (first["Subject"], first["Date"] is not None) == ("Confirmação", True)
    assert first.get_content().strip() == "Olá, está pago."


async def test_who_is_not_there_is_in_the_receipt(mailbox: Mailbox) -> None:
    receipt = await send_mail(mailbox.url, letter("bia@example.com, gone@example.com"))(uuid4())
    assert receipt["refused"] == {"gone@example.com": "550 no such mailbox"}
    with pytest.raises(EffectNotDoneError, match=r"550 gone@example\.com: no such mailbox"):
        await send_mail(mailbox.url, letter("gone@example.com"))(uuid4())


@pytest.mark.parametrize(
    ("answer", "error"),
    [("451 busy", ReceiverDownError), ("554 no", EffectNotDoneError)],
)
async def test_a_refusal_says_that_nothing_was_sent(
    mailbox: Mailbox, answer: str, error: type[Exception]
) -> None:
    mailbox.answers = [answer]
    with pytest.raises(error, match=answer):
        await send_mail(mailbox.url, letter())(uuid4())
    assert mailbox.got == []


async def test_a_server_that_is_down_is_tried_later() -> None:
    with pytest.raises(ReceiverDownError, match="No mail server was reached"):
        await send_mail("smtp://127.0.0.1:1", letter())(uuid4())


async def test_a_message_whose_receipt_was_lost_is_sent_again_under_its_id(
    mailbox: Mailbox, pool: Pool
) -> None:
    def never() -> Any:
        raise AssertionError("no graph is driven here")

    accepted = await RunStore(pool, tenant="acme").accept(
        Workflow("mail", Nothing, Nothing, never), {}
    )
    mailbox.answers = ["break"]
    async with WorkerLease(pool, 60).held() as lease, lease.claimed(accepted.id) as claim:
        assert claim is not None
        effects = Effects(claim.fence)
        with pytest.raises(SMTPServerDisconnected):
            await effects.call("tell", send_mail(mailbox.url, letter()), repeatable=True)
        known = await effects.known("tell")
        assert known is not None
        assert known["state"] == "intent", "nobody knows what came of it"
        receipt = await effects.call("tell", send_mail(mailbox.url, letter()), repeatable=True)
    ids = [got["Message-ID"] for got in mailbox.got]
    assert ids == [receipt["message_id"]] * 2
    assert UUID(receipt["message_id"].strip("<").partition("@")[0]) == effects.key("tell")


@pytest.mark.parametrize("url", ["http://mail", "smtp://", "mail.example.com"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError, match="smtp://"):
        send_mail(url, letter())


def test_a_message_to_nobody_is_refused() -> None:
    message = letter()
    del message["To"]
    with pytest.raises(InvalidInputError, match="To, Cc or Bcc"):
        send_mail("smtp://mail", message)
