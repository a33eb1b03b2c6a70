"""Bytes in, `Document` out: format, parser, cleaning, limits."""

import hashlib
import re
from collections.abc import Callable
from importlib import import_module

from rotina.errors import (
    CorruptDocumentError,
    DocumentError,
    DocumentTooLargeError,
    EmptyDocumentError,
    NoTextLayerError,
)
from rotina.knowledge.document import Document
from rotina.knowledge.loading.formats import MEDIA_TYPES, Format, detect
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.ocr import EXTRA, is_available
from rotina.knowledge.loading.text import Parsed, assemble, one_line

Parser = Callable[[bytes, Limits], Parsed]

_PARSERS: dict[Format, str] = {
    "pdf": "pdf",
    "docx": "word",
    "pptx": "slides",
    "xlsx": "workbook",
    "msg": "outlook",
    "html": "markup",
    "eml": "mail",
    "csv": "table",
    "json": "records",
    "jsonl": "records",
    "png": "image",
    "jpeg": "image",
    "gif": "image",
    "tiff": "image",
    "bmp": "image",
    "webp": "image",
    "markdown": "plain",
    "text": "plain",
}
"""The module for each format, imported when it is needed: their libraries are heavy."""

_OBJECT = re.compile(r"<[^<>]* at 0x[0-9a-f]+>")
"""What an object says of itself in a library's error: nobody can use it."""


def load(
    content: bytes, *, name: str, media_type: str | None = None, limits: Limits | None = None
) -> Document:
    """Turn a file's bytes into text.

    `name` is the file's name and `media_type` what its sender calls it; the bytes decide. The clock
    and the memory are not watched here: `load_in_child` does.

    Raises a `DocumentError`: `EmptyDocumentError`, `UnsupportedDocumentError`,
    `EncryptedDocumentError`, `NoTextLayerError`, `DocumentTooLargeError` or `CorruptDocumentError`.
    """
    limits = limits or Limits()
    name = one_line(name)
    check_size(content, name=name, limits=limits)
    format_ = detect(content, name=name, media_type=media_type)
    parsed = _parse(content, name=name, format_=format_, limits=limits)
    found = assemble(parsed.texts, max_chars=limits.max_text_chars)
    if not found.text.strip():
        _refuse_blank(name, format_)
    return Document(
        name=name,
        media_type=MEDIA_TYPES[format_],
        sha256=hashlib.sha256(content).hexdigest(),
        text=found.text,
        pages=found.pages if parsed.paged else [],
        headings=found.headings,
        metadata={
            key: value
            for key, value in ((key, one_line(value)) for key, value in parsed.metadata.items())
            if value
        },
    )


def check_size(content: bytes, *, name: str, limits: Limits) -> None:
    """Raise `EmptyDocumentError` or `DocumentTooLargeError` for what needs no parser to refuse."""
    if not content:
        raise EmptyDocumentError(f"{name!r} has 0 bytes: send the file again")
    if len(content) > limits.max_bytes:
        raise DocumentTooLargeError(
            f"{name!r} has {len(content)} bytes and {limits.max_bytes} are allowed: "
            "split it, or raise the setting max_file_bytes"
        )


def _parse(content: bytes, *, name: str, format_: Format, limits: Limits) -> Parsed:
    parser: Parser = import_module(f"rotina.knowledge.loading.{_PARSERS[format_]}").parse
    try:
        return parser(content, limits)
    except DocumentError as error:
        raise type(error)(f"{name!r}: {error}") from error
    except MemoryError as error:
        raise DocumentTooLargeError(
            f"{name!r} needs more memory than allowed: raise the setting parse_memory_mb"
        ) from error
    # A parser meets hostile bytes, and its library may raise anything over them.
    except Exception as error:
        said = _OBJECT.sub("…", one_line(str(error)))[:200]
        raise CorruptDocumentError(
            f"{name!r} is not a readable {format_.upper()} file ({type(error).__name__}: {said}): "
            "save and send it again"
        ) from error


def _refuse_blank(name: str, format_: Format) -> None:
    if format_ != "pdf":
        raise EmptyDocumentError(f"{name!r} holds nothing but white space: send the file again")
    if is_available():
        raise NoTextLayerError(
            f"{name!r} holds no text, and OCR finds none on its pages: send a better scan"
        )
    raise NoTextLayerError(
        f"{name!r} is a scan: its pages hold no text. Scans are read by OCR, which is an extra: "
        f"{EXTRA}"
    )
