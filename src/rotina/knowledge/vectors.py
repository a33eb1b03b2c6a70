"""Vectors on their way into PostgreSQL and out of it: scaled to length 1, as half floats.

pgvector's binary form of a `halfvec` is its dimension, two bytes of nothing, and the components,
all big-endian (https://github.com/pgvector/pgvector, `halfvec_send`). Text takes four times the
room and ten times the time.
"""

import base64
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_REAL_ARRAY = 1021
"""The oid of `real[]`."""
_REAL = 700


class Halfvec(bytes):
    """One vector in pgvector's binary form; cast the parameter to `halfvec`."""


class Reals(bytes):
    """A flat `real[]` in PostgreSQL's binary form."""


class _HalfvecDumper(Dumper):
    format = Format.BINARY
    oid = 0  # an extension's types have other oids in each database: the cast tells

    def dump(self, obj: Any) -> bytes:
        return bytes(obj)


class _RealsDumper(_HalfvecDumper):
    oid = _REAL_ARRAY


psycopg.adapters.register_dumper(Halfvec, _HalfvecDumper)
psycopg.adapters.register_dumper(Reals, _RealsDumper)


def scale(vectors: Any) -> "NDArray[np.float32]":
    """Rows of length 1, shape (n, d); a row of zeros stays one."""
    import numpy as np  # noqa: PLC0415 - a tenth of a second

    matrix = np.asarray(vectors, dtype=np.float64)
    matrix = matrix.reshape(len(matrix), -1)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return (matrix / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def scale_one(vector: Sequence[float]) -> "NDArray[np.float32]":
    """One vector of length 1."""
    import numpy as np  # noqa: PLC0415 - a tenth of a second

    row = np.asarray(vector, dtype=np.float32)
    return row / (math.sqrt(float(row @ row)) or 1.0)


def pack(vectors: Sequence[Sequence[float]]) -> list[str]:
    """Each vector scaled to length 1, as base64 of little-endian half floats: for a checkpoint."""
    rows = scale(vectors).astype("<f2")
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in rows]


def unpack(packed: Sequence[str]) -> "NDArray[np.float32]":
    """What `pack` packed, shape (n, d). Raises `ValueError` when dimensions differ."""
    import numpy as np  # noqa: PLC0415 - a tenth of a second

    rows = [np.frombuffer(base64.b64decode(each), dtype="<f2") for each in packed]
    return np.stack(rows).astype(np.float32) if rows else np.zeros((0, 0), dtype=np.float32)


def dimension_of(packed: str) -> int:
    """How many components a packed vector has."""
    return len(base64.b64decode(packed)) // 2


def halfvec(row: "NDArray[np.float32]") -> Halfvec:
    """A row, as a parameter."""
    return Halfvec(row.size.to_bytes(2, "big") + b"\0\0" + row.astype(">f2").tobytes())


def reals(matrix: "NDArray[np.float32]") -> Reals:
    """All rows one after the other, as a parameter."""
    import numpy as np  # noqa: PLC0415 - a tenth of a second

    flat = matrix.reshape(-1)
    head = np.array([1, 0, _REAL, flat.size, 1], dtype=">i4").tobytes()
    body = np.empty(flat.size, dtype=[("size", ">i4"), ("value", ">f4")])
    body["size"], body["value"] = 4, flat
    return Reals(head + body.tobytes())


def read_halfvecs(rows: Sequence[bytes], dimension: int) -> "NDArray[np.float32]":
    """Vectors in pgvector's binary form, shape (n, dimension)."""
    import numpy as np  # noqa: PLC0415 - a tenth of a second

    if not rows:
        return np.zeros((0, 0), dtype=np.float32)
    joined = np.frombuffer(b"".join(bytes(row) for row in rows), dtype=">f2")
    return joined.reshape(len(rows), dimension + 2)[:, 2:].astype(np.float32)
