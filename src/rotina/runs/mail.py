"""E-mail as an effect: the effect's key is the `Message-ID`, by which mailboxes know it again."""

from email.message import EmailMessage
from email.utils import formatdate
from urllib.parse import unquote, urlsplit
from uuid import UUID

import aiosmtplib

from rotina.errors import EffectNotDoneError, InvalidInputError, ReceiverDownError
from rotina.runs.effects import Act, Receipt

DOMAIN = "rotina.invalid"
"""Right of the @ where the sender's address has none: reserved, so nobody's (RFC 2606)."""
LATER = range(400, 500)
"""SMTP's answers that say "not now" (RFC 5321, 4.2.1)."""


def send_mail(url: str, message: EmailMessage, *, timeout: float = 60.0) -> Act:
    """An `act` for `Effects.call`: hand the message to the SMTP server at `url`.

    `smtp://user:password@host:587` changes to TLS where the server offers it, `smtps://host:465`
    begins with it. `Message-ID` is made of the effect's key and so the same in every attempt; a
    mailbox that gets both shows one, as most do. Say `repeatable=True` to `call` where that is
    enough.

    The receipt is `{"message_id", "refused"}`, with the recipients the server did not take and
    why. Raises `ReceiverDownError` when nobody was reached or the answer was 4xx, and
    `EffectNotDoneError` for 5xx: then nothing was sent. A connection that breaks off leaves the
    outcome unknown. Raises `InvalidInputError` for a URL or a message that cannot be sent.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
        raise InvalidInputError("The mail server's URL is not of the form smtp://… or smtps://…")
    sender = message["From"]
    if sender is None or not (message["To"] or message["Cc"] or message["Bcc"]):
        raise InvalidInputError("A message needs From, and To, Cc or Bcc")

    async def act(key: UUID) -> Receipt:
        del message["Message-ID"]
        message["Message-ID"] = f"<{key}@{_domain(str(sender))}>"
        if message["Date"] is None:
            message["Date"] = formatdate(localtime=False)
        try:
            refused, _ = await aiosmtplib.send(
                message,
                hostname=parts.hostname,
                port=parts.port,
                username=None if parts.username is None else unquote(parts.username),
                password=None if parts.password is None else unquote(parts.password),
                use_tls=parts.scheme == "smtps",
                timeout=timeout,
            )
        except aiosmtplib.SMTPResponseException as error:
            raise _told(error.code, error.message) from None
        except aiosmtplib.SMTPRecipientsRefused as error:
            first = error.recipients[0]
            raise _told(first.code, f"{first.recipient}: {first.message}") from None
        except (aiosmtplib.SMTPConnectError, aiosmtplib.SMTPConnectTimeoutError) as error:
            raise ReceiverDownError(f"No mail server was reached: {error}") from None
        told = {to: f"{answer.code} {answer.message}" for to, answer in refused.items()}
        return {"message_id": message["Message-ID"], "refused": told}

    return act


def _told(code: int, text: str) -> EffectNotDoneError:
    message = f"The mail server answered {code} {text}"
    return ReceiverDownError(message) if code in LATER else EffectNotDoneError(message)


def _domain(sender: str) -> str:
    return sender.rpartition("@")[2].strip("> ") or DOMAIN
