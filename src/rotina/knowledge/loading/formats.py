"""Which format a file has: what its bytes say, then what its name and media type say."""

import io
import re
import zipfile
from collections.abc import Iterable
from pathlib import PurePath
from typing import Literal

from rotina.errors import CorruptDocumentError, EncryptedDocumentError, UnsupportedDocumentError

Format = Literal["pdf", "docx", "xlsx", "html", "eml", "csv", "markdown", "text"]

MEDIA_TYPES: dict[Format, str] = {
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
    "eml": "message/rfc822",
    "csv": "text/csv",
    "markdown": "text/markdown",
    "text": "text/plain",
}
_BY_MEDIA_TYPE = {media_type: format_ for format_, media_type in MEDIA_TYPES.items()} | {
    "application/xhtml+xml": "html",
    "application/csv": "csv",
    "text/tab-separated-values": "csv",
}
_BY_SUFFIX: dict[str, Format] = {
    ".pdf": "pdf",
    ".docx": "docx",
    ".docm": "docx",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".eml": "eml",
    ".csv": "csv",
    ".tsv": "csv",
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
}
_BINARY = ("pdf", "docx", "xlsx")
# Formats that people send and that no loader reads, by their first bytes.
_FOREIGN = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"BM", "a BMP image"),
    (b"RIFF", "a WebP image, sound or video"),
    (b"{\\rtf", "an RTF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"%!PS", "a PostScript document"),
    (b"SQLite format 3\x00", "a SQLite database"),
    (b"ID3", "a sound"),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_HTML = re.compile(
    rb"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_MAIL_HEADER = re.compile(
    rb"^(from|to|subject|date|received|return-path|mime-version|message-id|delivered-to|"
    rb"content-type|reply-to|cc):[ \t]",
    re.IGNORECASE | re.MULTILINE,
)
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_STRAY_CONTROLS, _STRAY_SHARE = 3, 0.02
"""So many control characters, and that share of the rest, are accidents in a text."""
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b\x08"))
_ADVICE = "send a PDF, DOCX, XLSX, CSV, HTML, e-mail (.eml) or text file"


def detect(content: bytes, *, name: str, media_type: str | None) -> Format:
    """The format of `content`; its bytes win over `name` and `media_type`.

    Raises `UnsupportedDocumentError`, `EncryptedDocumentError` (an Office file behind a password)
    or `CorruptDocumentError` (neither the promised format nor any other).
    """
    claimed = _claimed(name, media_type)
    if b"%PDF-" in content[:1024]:
        return "pdf"
    if content.startswith(b"PK\x03\x04"):
        return _office(content, name, claimed)
    if content.startswith(_OLE):
        _refuse_ole(content, name, claimed)
    foreign = _foreign(content)
    if foreign is not None:
        raise UnsupportedDocumentError(f"{_named(name, claimed)} holds {foreign}: {_ADVICE}")
    if _is_binary(content):
        _refuse_binary(name, claimed)
    return _text_format(content, name, claimed)


def _claimed(name: str, media_type: str | None) -> Format | None:
    by_name = _BY_SUFFIX.get(PurePath(name).suffix.lower())
    essence = (media_type or "").partition(";")[0].strip().lower()
    return by_name or _BY_MEDIA_TYPE.get(essence)


def _named(name: str, claimed: Format | None) -> str:
    return f"{name!r} (called {claimed.upper()})" if claimed else repr(name)


def _office(content: bytes, name: str, claimed: Format | None) -> Format:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CorruptDocumentError(
            f"{_named(name, claimed)} is a damaged ZIP container ({error}): save and send it again"
        ) from error
    if any(entry.startswith("word/") for entry in entries):
        return "docx"
    if any(entry.startswith("xl/") for entry in entries):
        return "xlsx"
    raise UnsupportedDocumentError(
        f"{_named(name, claimed)} holds {_container(entries)}: {_ADVICE}"
    )


def _container(entries: Iterable[str]) -> str:
    folders = {entry.partition("/")[0] for entry in entries}
    if "ppt" in folders:
        return "a PowerPoint presentation"
    if "META-INF" in folders:
        return "an OpenDocument file, e-book or Java archive"
    return "a ZIP archive"


def _refuse_ole(content: bytes, name: str, claimed: Format | None) -> None:
    if "EncryptedPackage".encode("utf-16-le") in content:
        raise EncryptedDocumentError(f"{name!r} needs a password: save it without one")
    raise UnsupportedDocumentError(
        f"{_named(name, claimed)} holds an Office file from before 2007: save it as DOCX or XLSX"
    )


def _foreign(content: bytes) -> str | None:
    for magic, kind in _FOREIGN:
        # Letters alone make a weak signature: «BM» or «MZ» may as well begin a text.
        if content.startswith(magic) and (not magic.isalnum() or _is_binary(content)):
            return kind
    return None


def _is_binary(content: bytes) -> bool:
    """Whether there are more control characters than a text gathers by accident."""
    if content.startswith(_BOMS):
        return False
    sample = content[:65536]
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    return controls > _STRAY_CONTROLS + _STRAY_SHARE * len(sample)


def _refuse_binary(name: str, claimed: Format | None) -> None:
    if claimed in _BINARY:
        raise CorruptDocumentError(
            f"{_named(name, claimed)} does not begin as such a file does: save and send it again"
        )
    raise UnsupportedDocumentError(f"{_named(name, claimed)} holds unknown binary data: {_ADVICE}")


def _text_format(content: bytes, name: str, claimed: Format | None) -> Format:
    html = _HTML.match(content[:4096].removeprefix(_BOMS[0])) is not None
    if claimed in _BINARY:
        held = "an HTML page" if html else "plain text"
        raise UnsupportedDocumentError(f"{_named(name, claimed)} holds {held}: {_ADVICE}")
    if claimed == "eml":
        return "eml"
    if html:
        return "html"
    if claimed in {None, "text"} and _is_mail(content):
        return "eml"
    return claimed or "text"


def _is_mail(content: bytes) -> bool:
    """Whether the first line is a mail header and at least three kinds of them follow."""
    head = content[:16384].replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    kinds = {kind.lower() for kind in _MAIL_HEADER.findall(head)}
    return _MAIL_HEADER.match(head) is not None and len(kinds) >= 3  # noqa: PLR2004
