"""Office containers (ZIP with XML), unpacked within limits before any library sees them.

Sizes in a ZIP directory are claims. They are checked first, since it is cheap, and then each entry
is read under the same limits. The libraries get a copy in which nothing is compressed, so none of
them can unpack more than was counted here.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator

from rotina.errors import CorruptDocumentError, DocumentTooLargeError, EncryptedDocumentError

_MAX_ENTRIES = 10_000
_MAX_RATIO = 200
"""Office XML shrinks 5 to 50 times; DEFLATE's limit, which a bomb aims for, is 1,032."""
_SMALL = 1_000_000
"""Bytes below which a ratio means nothing."""
_CHUNK = 65536
_ENCRYPTED = 0x1


def unpacked(content: bytes, *, max_bytes: int) -> bytes:
    """A copy of the ZIP file `content` with its entries stored, not compressed.

    Raises `DocumentTooLargeError` for a bomb, `CorruptDocumentError` for damage or an XML document
    type declaration (ECMA-376 part 2 forbids it, and entity bombs need it), and
    `EncryptedDocumentError`.
    """
    target = io.BytesIO()
    try:
        with (
            zipfile.ZipFile(io.BytesIO(content)) as source,
            zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as copy,
        ):
            _check_directory(source.infolist(), max_bytes)
            left = max_bytes
            for entry in source.infolist():
                data = _read(source, entry, left)
                left -= len(data)
                _refuse_doctype(entry.filename, data)
                copy.writestr(entry.filename, data)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise CorruptDocumentError(
            f"the container is damaged ({error}): save and send it again"
        ) from error
    return target.getvalue()


def _check_directory(entries: list[zipfile.ZipInfo], max_bytes: int) -> None:
    if len(entries) > _MAX_ENTRIES:
        raise DocumentTooLargeError(
            f"the container has {len(entries)} entries and {_MAX_ENTRIES} are allowed: "
            "save the document anew"
        )
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise CorruptDocumentError("the container has two entries of one name: save it anew")
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise EncryptedDocumentError("the container needs a password: save it without one")
    total = sum(entry.file_size for entry in entries)
    if total > max_bytes:
        raise _too_large(f"{total} bytes", max_bytes)
    for entry in entries:
        _check_ratio(entry.filename, entry.file_size, entry.compress_size)


def _read(source: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int) -> bytes:
    data = bytearray()
    for chunk in _chunks(source, entry):
        data += chunk
        if len(data) > left:
            raise _too_large(f"more than {left} bytes in {entry.filename!r}", left)
        _check_ratio(entry.filename, len(data), entry.compress_size)
    return bytes(data)


def _chunks(source: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    with source.open(entry) as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _check_ratio(name: str, size: int, compressed: int) -> None:
    if size > _SMALL and size > _MAX_RATIO * max(compressed, 1):
        raise DocumentTooLargeError(
            f"{name!r} unpacks to over {_MAX_RATIO} times its size, as a ZIP bomb does: "
            "save the document anew"
        )


def _too_large(what: str, max_bytes: int) -> DocumentTooLargeError:
    return DocumentTooLargeError(
        f"the container unpacks to {what}, and max_unzipped_bytes allows {max_bytes}: "
        "split the document"
    )


def _refuse_doctype(name: str, data: bytes) -> None:
    if not name.lower().endswith((".xml", ".rels", ".vml")):
        return
    # Without the zero bytes, UTF-16 and UTF-32 spell the words as ASCII does.
    plain = data.replace(b"\x00", b"") if b"\x00" in data[:64] else data
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise CorruptDocumentError(
            f"{name!r} declares XML entities, which an Office file must not: save it anew"
        )
