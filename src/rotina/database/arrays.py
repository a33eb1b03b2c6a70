"""Arrays as parameters, made at once.

psycopg asks a dumper for each element, which takes three times as long as all the rest of a large
insert's parameters. The form is PostgreSQL's `array_send`: dimensions, whether there are nulls, the
elements' type, length and lower bound, then each element after its length, all big-endian.
"""

import struct
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

_NULL = b"\xff\xff\xff\xff"
_UUID = b"\0\0\0\x10"


class Texts(list[str | None]):
    """A `text[]`, or anything that PostgreSQL reads from a text: cast the elements."""


class Integers(list[int | None]):
    """An `integer[]`."""


class Uuids(list[UUID]):
    """A `uuid[]`."""


def _array(element: int, count: int, parts: Iterable[bytes], *, nulls: bool = False) -> bytes:
    if not count:
        return struct.pack(">iii", 0, 0, element)
    return struct.pack(">iiiii", 1, nulls, element, count, 1) + b"".join(parts)


class _TextsDumper(Dumper):
    format = Format.BINARY
    oid = 1009

    def dump(self, obj: Any) -> bytes:
        parts: list[bytes] = []
        for text in obj:
            if text is None:
                parts.append(_NULL)
            else:
                encoded = text.encode()
                parts += (len(encoded).to_bytes(4, "big"), encoded)
        return _array(25, len(obj), parts, nulls=None in obj)


class _IntegersDumper(Dumper):
    format = Format.BINARY
    oid = 1007

    def dump(self, obj: Any) -> bytes:
        parts = [_NULL if n is None else struct.pack(">ii", 4, n) for n in obj]
        return _array(23, len(obj), parts, nulls=None in obj)


class _UuidsDumper(Dumper):
    format = Format.BINARY
    oid = 2951

    def dump(self, obj: Any) -> bytes:
        return _array(2950, len(obj), [_UUID + each.bytes for each in obj])


psycopg.adapters.register_dumper(Texts, _TextsDumper)
psycopg.adapters.register_dumper(Integers, _IntegersDumper)
psycopg.adapters.register_dumper(Uuids, _UuidsDumper)
