"""Which format a file has: what its bytes say, then what its name and media type say."""

import io
import re
import zipfile
from collections.abc import Iterable
from pathlib import PurePath
from typing import Literal

from rotina.errors import CorruptDocumentError, EncryptedDocumentError, UnsupportedDocumentError

Format = Literal[
    "pdf", "docx", "pptx", "xlsx", "html", "eml", "msg", "csv", "json", "jsonl", "markdown", "text",
    "png", "jpeg", "gif", "tiff", "bmp", "webp",
]  # fmt: skip

MEDIA_TYPES: dict[Format, str] = {
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
    "eml": "message/rfc822",
    "msg": "application/vnd.ms-outlook",
    "csv": "text/csv",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "markdown": "text/markdown",
    "text": "text/plain",
    "png": "image/png",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
    "webp": "image/webp",
}
_BY_MEDIA_TYPE = {media_type: format_ for format_, media_type in MEDIA_TYPES.items()} | {
    "application/xhtml+xml": "html",
    "application/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/x-ndjson": "jsonl",
    "application/x-jsonlines": "jsonl",
    "image/jpg": "jpeg",
}
_BY_SUFFIX: dict[str, Format] = {
    ".pdf": "pdf",
    ".docx": "docx",
    ".docm": "docx",
    ".pptx": "pptx",
    ".pptm": "pptx",
    ".ppsx": "pptx",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".eml": "eml",
    ".msg": "msg",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".gif": "gif",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".bmp": "bmp",
    ".webp": "webp",
}
_IMAGES: dict[Format, str] = {
    "png": "a PNG image",
    "jpeg": "a JPEG image",
    "gif": "a GIF image",
    "tiff": "a TIFF image",
    "bmp": "a BMP image",
    "webp": "a WebP image",
}
_SIGNATURES: tuple[tuple[bytes, Format], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"BM", "bmp"),
)
_BINARY = ("pdf", "docx", "pptx", "xlsx", "msg", *_IMAGES)
# Formats that people send and that no loader reads, by their first bytes.
_FOREIGN = (
    (b"RIFF", "a sound or a video"),
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
_OUTLOOK = "__properties_version1.0".encode("utf-16-le")
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
_ADVICE = "send a PDF, DOCX, PPTX, XLSX, CSV, JSON, HTML, e-mail (.eml, .msg), image or text file"


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
        return _ole(content, name, claimed)
    image = _image(content)
    if image is not None:
        return _as_image(image, name, claimed)
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
    if any(entry.startswith("ppt/slides/") for entry in entries):
        return "pptx"
    raise UnsupportedDocumentError(
        f"{_named(name, claimed)} holds {_container(entries)}: {_ADVICE}"
    )


def _container(entries: Iterable[str]) -> str:
    folders = {entry.partition("/")[0] for entry in entries}
    if "ppt" in folders:
        return "a presentation without slides"
    if "META-INF" in folders:
        return "an OpenDocument file, e-book or Java archive"
    return "a ZIP archive"


def _ole(content: bytes, name: str, claimed: Format | None) -> Format:
    """The container of Outlook's messages, of encrypted files, and of all that was before 2007."""
    if _OUTLOOK in content:
        return "msg"
    if "EncryptedPackage".encode("utf-16-le") in content:
        raise EncryptedDocumentError(f"{name!r} needs a password: save it without one")
    if claimed == "msg":
        raise CorruptDocumentError(
            f"{_named(name, claimed)} is damaged or cut short: save it in Outlook and send it again"
        )
    raise UnsupportedDocumentError(
        f"{_named(name, claimed)} holds an Office file from before 2007: save it as DOCX, PPTX or "
        "XLSX"
    )


def _image(content: bytes) -> Format | None:
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "webp"
    for signature, format_ in _SIGNATURES:
        # Letters alone make a weak signature: «BM» may as well begin a text.
        if content.startswith(signature) and (not signature.isalnum() or b"\0" in content[:64]):
            return format_
    return None


def _as_image(image: Format, name: str, claimed: Format | None) -> Format:
    """One kind of image may be called another; a document must not be an image in disguise."""
    if claimed is None or claimed in _IMAGES:
        return image
    raise UnsupportedDocumentError(
        f"{_named(name, claimed)} holds {_IMAGES[image]}: name it as an image, or {_ADVICE}"
    )


def _foreign(content: bytes) -> str | None:
    for magic, kind in _FOREIGN:
        # Letters alone make a weak signature: «MZ» may as well begin a text.
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
