"""E-mail: who, whom, what, when; then the body; then the names of what is attached."""

from collections.abc import Iterator, Mapping, Sequence
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.utils import collapse_rfc2231_value

from rotina.knowledge.loading.charset import decode
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.markup import visible_text
from rotina.knowledge.loading.text import Parsed, one_line

_SHOWN = ("From", "To", "Cc", "Subject", "Date")
_METADATA = {
    "from": "sender",
    "to": "recipients",
    "subject": "title",
    "date": "date",
    "message-id": "message_id",
}


def parse(content: bytes, limits: Limits) -> Parsed:  # noqa: ARG001 - the parsers' common form
    """Read an e-mail (RFC 5322 and MIME)."""
    # The old policy: the new one's header parser raises over headers that real mail contains.
    message = message_from_bytes(content.lstrip())
    attachments = list(_attachments(message))
    metadata = {key: _header(message, name) for name, key in _METADATA.items()}
    metadata["attachments"] = ", ".join(attachments)
    return Parsed([_letter(message, attachments)], metadata=metadata)


def letter(fields: Mapping[str, str], attachments: Sequence[str], body: str) -> str:
    """An e-mail as text; `fields` by the names of their headers."""
    head = [f"{name}: {fields[name]}" for name in _SHOWN if fields.get(name)]
    if attachments:
        head.append(f"Attachments: {', '.join(attachments)}")
    return "\n".join(head) + "\n\n" + body


def _letter(message: Message, attachments: list[str]) -> str:
    fields = {name: _header(message, name) for name in _SHOWN}
    return letter(fields, attachments, _body(message))


def _header(message: Message, name: str) -> str:
    return one_line(decoded(str(message.get(name) or "")))


def decoded(value: str) -> str:
    """RFC 2047 words as characters; what is not valid stays as it is written."""
    try:
        parts = decode_header(value)
    except (HeaderParseError, ValueError):
        return value
    words = []
    for part, charset in parts:
        if isinstance(part, str):
            words.append(_raw(part))
        else:
            words.append(decode(part, charset)[0])
    return "".join(words)


def _raw(value: str) -> str:
    """Bytes outside ASCII that a careless sender left in a header."""
    return decode(value.encode("utf-8", "surrogateescape"))[0]


def _body(part: Message) -> str:
    """The text of a part: of alternatives the plain one, of a mixture all that is shown."""
    if part.get_content_type() == "message/rfc822":
        return "\n\n".join(_letter(inner, []) for inner in _parts(part))
    if part.get_content_type() == "multipart/alternative":
        return _alternative([inner for inner in _parts(part) if not _is_attached(inner)])
    if part.is_multipart():
        bodies = (_body(inner) for inner in _parts(part) if not _is_attached(inner))
        return "\n\n".join(body for body in bodies if body.strip())
    return _leaf(part)


def _alternative(parts: list[Message]) -> str:
    """Plain text where there is any, else the last form, which is the richest (RFC 2046, 5.1.4)."""
    plain = [part for part in parts if part.get_content_type() == "text/plain"]
    for part in (*plain, *reversed(parts)):
        if (body := _body(part)).strip():
            return body
    return ""


def _leaf(part: Message) -> str:
    if part.get_content_maintype() != "text":
        return ""
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return ""
    text, _ = decode(payload, _charset(part))
    return visible_text(text) if part.get_content_type() == "text/html" else text


def _charset(part: Message) -> str | None:
    charset = part.get_param("charset")
    return collapse_rfc2231_value(charset).strip() if charset else None


def _parts(part: Message) -> list[Message]:
    payload = part.get_payload()
    return [inner for inner in payload if isinstance(inner, Message)] if part.is_multipart() else []


def _is_attached(part: Message) -> bool:
    return part.get_content_disposition() == "attachment" or bool(
        part.get_filename() and part.get_content_maintype() != "multipart"
    )


def _attachments(message: Message) -> Iterator[str]:
    """Names in the order of the message; what is inside an attached message counts as its own."""
    for part in _parts(message):
        if _is_attached(part):
            name = decoded(part.get_filename() or "")
            yield one_line(name) or f"unnamed {part.get_content_type()}"
        else:
            yield from _attachments(part)
