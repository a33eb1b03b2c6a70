"""MSG: what Outlook saves a message as, read as an e-mail is (MS-OXMSG, MS-OXPROPS).

A compound file holds a stream for each property, named by its number and type. `olefile` reads the
container; the libraries that read messages are under the GPL or unfinished.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_string
from email.message import Message
from email.utils import format_datetime

import olefile

from rotina.errors import CorruptDocumentError
from rotina.knowledge.loading.charset import decode
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.mail import decoded, letter
from rotina.knowledge.loading.markup import visible_text
from rotina.knowledge.loading.rich_text import rich_text
from rotina.knowledge.loading.text import Parsed, check_length, one_line

_SUBJECT, _HEADERS, _MESSAGE_ID, _SENT, _DELIVERED = 0x0037, 0x007D, 0x1035, 0x0039, 0x0E06
_BODY, _RTF, _HTML = 0x1000, 0x1009, 0x1013
_SENDER = ((0x0C1A, (0x5D01, 0x0C1F)), (0x0042, (0x5D02, 0x0065)))
"""Name and addresses of who sent it, then of whom it was sent for."""
_NAME, _ADDRESSES, _RECIPIENT_KIND = 0x3001, (0x39FE, 0x3003), 0x0C15
_TO, _CC = 1, 2
_FILE_NAMES, _METHOD, _EMBEDDED = (0x3707, 0x3704, 0x3001), 0x3705, 5
_CODE_PAGES = (0x3FDE, 0x3FFD)
_TEXT, _BYTES_TEXT, _BINARY, _OBJECT = "001F", "001E", "0102", "000D"
_PROPERTIES = "__properties_version1.0"
_RECIPIENT, _ATTACHMENT = "__recip_version1.0_", "__attach_version1.0_"
_DEEPEST = 10
"""Messages within messages that are read."""
_LONGEST_NAME = 65_536
"""Bytes of a name or an address; whatever is longer is none."""
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_UTF8_PAGE = 65001


def parse(content: bytes, limits: Limits) -> Parsed:
    """Read a message, and the messages attached to it."""
    with olefile.OleFileIO(io.BytesIO(content)) as container:
        message = _Storage(_File(container, len(content)))
        if not message.holds(_PROPERTIES):
            raise CorruptDocumentError(
                "the message is damaged or cut short: save it in Outlook and send it again"
            )
        text, metadata = _read(message, limits.max_text_chars, _DEEPEST)
    return Parsed([text], metadata=metadata)


@dataclass
class _File:
    """The compound file: what is in each folder, and how large all of it is."""

    container: olefile.OleFileIO
    size: int
    streams: dict[tuple[str, ...], set[str]] = field(default_factory=dict)
    folders: dict[tuple[str, ...], set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.container.listdir(streams=True, storages=True):
            is_stream = self.container.get_type(path) == olefile.STGTY_STREAM
            known = self.streams if is_stream else self.folders
            known.setdefault(tuple(path[:-1]), set()).add(path[-1])


class _Storage:
    """A message, a recipient or an attachment: a folder of the compound file."""

    def __init__(self, file: _File, path: tuple[str, ...] = ()) -> None:
        self._file = file
        self._path = path
        self._streams = file.streams.get(path, set())
        self._folders = file.folders.get(path, set())

    def holds(self, name: str) -> bool:
        """Whether there is a stream of that name."""
        return name in self._streams

    def folders(self, prefix: str) -> Iterator["_Storage"]:
        """Those whose names begin so, in the order of their numbers."""
        for name in sorted(self._folders):
            if name.startswith(prefix):
                yield _Storage(self._file, (*self._path, name))

    def stream(self, name: str, most: int | None = None) -> bytes:
        """Its bytes; none when it is missing or has more than `most`."""
        if name not in self._streams:
            return b""
        path = [*self._path, name]
        # A damaged table may claim more than there is, and go round in circles.
        whole = self._file.size
        if self._file.container.get_size(path) > min(most or whole, whole):
            return b""
        with self._file.container.openstream(path) as stream:
            return bytes(stream.read())

    def fixed(self, property_: int) -> bytes:
        """The eight bytes of a property of fixed size; none when it is missing."""
        entries = self.stream(_PROPERTIES)
        # A header comes first; its length depends on what this is, and is a multiple of 8.
        for start in range(len(entries) % 16, len(entries) - 15, 16):
            if struct.unpack_from("<H", entries, start + 2)[0] == property_:
                return entries[start + 8 : start + 16]
        return b""

    def number(self, property_: int) -> int | None:
        """A property that is an integer of 32 bits."""
        value = self.fixed(property_)
        return struct.unpack_from("<i", value)[0] if value else None

    def text(self, property_: int, most: int | None = None) -> str:
        """A property that is a text, in UTF-16 or in the message's code page."""
        wide = self.stream(f"__substg1.0_{property_:04X}{_TEXT}", most)
        if wide:
            return wide.decode("utf-16-le", "replace").rstrip("\0")
        narrow = self.stream(f"__substg1.0_{property_:04X}{_BYTES_TEXT}", most)
        return decode(narrow, self.charset())[0].rstrip("\0") if narrow else ""

    def name(self, *properties: int) -> str:
        """The first of these texts that says anything, on one line."""
        found = (one_line(self.text(each, _LONGEST_NAME)) for each in properties)
        return next(filter(None, found), "")

    def charset(self) -> str | None:
        """Python's name for the code page of texts that are not Unicode."""
        for property_ in _CODE_PAGES:
            page = self.number(property_)
            if page:
                return "utf-8" if page == _UTF8_PAGE else f"cp{page}"
        return None


def _read(message: _Storage, max_chars: int, depth: int) -> tuple[str, dict[str, str]]:
    """A message and those within it as text, and what is known about the outer one."""
    headers = message_from_string(message.text(_HEADERS))
    attached = list(message.folders(_ATTACHMENT))
    names = [each.name(*_FILE_NAMES) or "unnamed attachment" for each in attached]
    fields = _fields(message, headers)
    text = letter(fields, names, _body(message))
    check_length(len(text), max_chars)
    for each in attached:
        if depth and each.number(_METHOD) == _EMBEDDED:
            for inner in each.folders(f"__substg1.0_3701{_OBJECT}"):
                text += "\n\n" + _read(inner, max_chars - len(text), depth - 1)[0]
    metadata = {
        "sender": fields["From"],
        "recipients": fields["To"],
        "title": fields["Subject"],
        "date": fields["Date"],
        "message_id": message.name(_MESSAGE_ID) or one_line(str(headers.get("Message-ID") or "")),
        "attachments": ", ".join(names),
    }
    return text, metadata


def _fields(message: _Storage, headers: Message) -> dict[str, str]:
    """By name; what the message was sent with comes before what Outlook made of it."""
    people = list(message.folders(_RECIPIENT))
    made = {
        "From": next(filter(None, (_person(message, *each) for each in _SENDER)), ""),
        "To": ", ".join(_people(people, _TO)),
        "Cc": ", ".join(_people(people, _CC)),
        "Subject": message.name(_SUBJECT),
        "Date": _date(message),
    }
    sent = {name: one_line(decoded(str(headers.get(name) or ""))) for name in made}
    return {name: sent[name] or made[name] for name in made}


def _people(recipients: list[_Storage], kind: int) -> Iterator[str]:
    for each in recipients:
        if each.number(_RECIPIENT_KIND) == kind and (person := _person(each, _NAME, _ADDRESSES)):
            yield person


def _person(storage: _Storage, name: int, addresses: tuple[int, ...]) -> str:
    called = storage.name(name)
    found = (storage.name(each) for each in addresses)
    # Inside of one organisation an address may be a directory's path, which tells nobody anything.
    address = next((each for each in found if "@" in each), "")
    if not address or address == called:
        return address or called
    return f"{called} <{address}>" if called else address


def _date(message: _Storage) -> str:
    for property_ in (_SENT, _DELIVERED):
        value = message.fixed(property_)
        if value:
            ticks = struct.unpack("<Q", value)[0]
            try:
                return format_datetime(_EPOCH + timedelta(microseconds=ticks // 10))
            except OverflowError:  # a date after the year 9999 is none
                continue
    return ""


def _body(message: _Storage) -> str:
    """Plain text where there is any, else what can be read of HTML, else of RTF."""
    plain = message.text(_BODY)
    if plain.strip():
        return plain
    html = message.stream(f"__substg1.0_{_HTML:04X}{_BINARY}")
    page = decode(html, message.charset())[0] if html else message.text(_HTML)
    if page.strip():
        return visible_text(page)
    return rich_text(message.stream(f"__substg1.0_{_RTF:04X}{_BINARY}"))
