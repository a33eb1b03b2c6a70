"""Writes compound files (MS-CFB, version 3) and Outlook's messages in them (MS-OXMSG)."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Union

Tree = Mapping[str, Union[bytes, "Tree"]]

_SECTOR, _MINI, _CUTOFF = 512, 64, 4096
_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_NONE = 0xFFFFFFFF


@dataclass
class _Entry:
    name: str
    kind: int
    data: bytes = b""
    left: int = _NONE
    right: int = _NONE
    child: int = _NONE
    start: int = _END


@dataclass
class _Sectors:
    """Sectors, and for each the one that follows it."""

    size: int
    content: bytearray = field(default_factory=bytearray)
    next: list[int] = field(default_factory=list)

    def add(self, data: bytes) -> int:
        """Where a chain of sectors with this content begins."""
        if not data:
            return _END
        first = len(self.next)
        count = -(-len(data) // self.size)
        self.content += data.ljust(count * self.size, b"\0")
        self.next += [*range(first + 1, first + count), _END]
        return first


def compound_file(tree: Tree) -> bytes:
    """The bytes of a compound file with these storages (mappings) and streams (bytes)."""
    entries = [_Entry("Root Entry", 5)]
    entries[0].child = _add(entries, tree)
    mini, sectors = _Sectors(_MINI), _Sectors(_SECTOR)
    for entry in entries[1:]:
        if entry.kind == 2:
            entry.start = (mini if len(entry.data) < _CUTOFF else sectors).add(entry.data)
    entries[0].data = bytes(mini.content)
    entries[0].start = sectors.add(entries[0].data)
    mini_table = sectors.add(_table(mini.next))
    directory = sectors.add(b"".join(map(_directory_entry, entries)))
    fats = 1
    while fats * _SECTOR // 4 < len(sectors.next) + fats:
        fats += 1
    places = [*range(len(sectors.next), len(sectors.next) + fats)]
    fat = _table([*sectors.next, *[_FAT] * fats]).ljust(fats * _SECTOR, b"\xff")
    header = struct.pack(
        "<8s16xHHHHH6xIIIIIIIII",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0x3E, 3, 0xFFFE, 9, 6,
        0, fats, directory, 0, _CUTOFF, mini_table, -(-len(mini.next) * 4 // _SECTOR), _END, 0,
    )  # fmt: skip
    return header + _table(places).ljust(436, b"\xff") + bytes(sectors.content) + fat


def _table(values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def _add(entries: list[_Entry], tree: Tree) -> int:
    """The children of one storage as a balanced search tree; its root."""
    places = {}
    for name, value in sorted(tree.items(), key=lambda item: (len(item[0]), item[0].upper())):
        places[name] = len(entries)
        if isinstance(value, bytes):
            entries.append(_Entry(name, 2, value))
        else:
            entries.append(_Entry(name, 1))
            entries[places[name]].child = _add(entries, value)
    return _balanced(entries, list(places.values()))


def _balanced(entries: list[_Entry], places: list[int]) -> int:
    if not places:
        return _NONE
    middle = len(places) // 2
    entry = entries[places[middle]]
    entry.left = _balanced(entries, places[:middle])
    entry.right = _balanced(entries, places[middle + 1 :])
    return places[middle]


def _directory_entry(entry: _Entry) -> bytes:
    name = entry.name.encode("utf-16-le") + b"\0\0"
    return struct.pack(
        "<64sHBBIII16xI8x8xIQ",
        name, len(name), entry.kind, 1, entry.left, entry.right, entry.child,
        0, 0 if entry.kind == 1 else entry.start, len(entry.data),
    )  # fmt: skip


def properties(header: int, **values: object) -> bytes:
    """The stream of properties of fixed size: `p3705=1` is property 0x3705, a 32-bit integer."""
    stream = bytes(header)
    for name, value in values.items():
        property_ = int(name[1:], 16)
        if isinstance(value, datetime):
            ticks = int((value.timestamp() + 11_644_473_600) * 10_000_000)
            stream += struct.pack("<HHIQ", 0x0040, property_, 6, ticks)
        else:
            stream += struct.pack("<HHIiI", 0x0003, property_, 6, value, 0)
    return stream


def texts(**values: str) -> dict[str, bytes]:
    """Streams of texts in UTF-16: `p0037="Hello"` is property 0x0037."""
    return {
        f"__substg1.0_{name[1:].upper()}001F": value.encode("utf-16-le", "surrogatepass")
        for name, value in values.items()
    }
