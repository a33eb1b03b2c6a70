"""Checked matrices: every analysis starts here, so every one refuses the same bad input."""

import numpy as np
import numpy.typing as npt

from rotina.errors import KnowledgeError

Matrix = npt.NDArray[np.float32]
"""(n, d): one embedding a row."""

MAX_ROWS = 100_000
"""Rows an analysis takes: some compare every row with every other, in blocks."""

MAX_VALUES = 64_000_000
"""Rows times dimensions: 256 MB as float32. An analysis holds at most four such arrays."""

BLOCK_VALUES = 4_000_000
"""Similarities held at a time while all pairs are compared: 16 MB."""


def unit_rows(matrix: npt.ArrayLike, *, least: int = 2, what: str = "matrix") -> Matrix:
    """A copy of `matrix`, (n, d), as float32 with rows of length 1.

    Raises `KnowledgeError`, which calls the matrix `what`: it is no (n, d) array of real numbers,
    has fewer than `least` rows or more than the bounds above, or has a row with NaN, an infinity
    or only zeros.
    """
    array = _real(matrix, what)
    check_size(*array.shape, what=what)
    if len(array) < least:
        raise KnowledgeError(
            f"{what} has {_rows(len(array))}, and this needs at least {least}: add texts, or widen "
            f"the filter"
        )
    if not len(array):
        return np.empty(array.shape, dtype=np.float32)
    # The largest value of each row first: squares of very small or large numbers would not fit.
    scale = np.maximum(array.max(axis=1), -array.min(axis=1).astype(np.float64))
    _refuse_row(~np.isfinite(scale), what, "NaN or an infinity: embed its text again")
    _refuse_row(scale == 0, what, "only zeros, so it has no direction: drop it or embed it again")
    unit: Matrix = (array / scale[:, None].astype(array.dtype)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit


def check_size(rows: int, dimensions: int, *, what: str = "matrix") -> None:
    """Raise `KnowledgeError` for no dimensions, or more rows or values than the bounds."""
    if dimensions == 0:
        raise KnowledgeError(f"{what} has no dimensions: its vectors are empty")
    most = min(MAX_ROWS, MAX_VALUES // dimensions)
    if rows > most:
        raise KnowledgeError(
            f"{what} has {rows} rows of {dimensions} dimensions, and at most {most} fit: narrow "
            f"the filter, or take a sample"
        )


def same_dimensions(first: Matrix, second: Matrix, names: tuple[str, str]) -> None:
    """Raise `KnowledgeError` where the two matrices' rows have different lengths."""
    if first.shape[1] != second.shape[1]:
        raise KnowledgeError(
            f"{names[0]} has {first.shape[1]} dimensions and {names[1]} {second.shape[1]}: embed "
            f"both with the same model"
        )


def same_length(rows: int, values: int, names: tuple[str, str]) -> None:
    """Raise `KnowledgeError` unless there is one value a row."""
    if rows != values:
        raise KnowledgeError(f"{names[0]} has {rows} rows and {names[1]} {values}: give one each")


def row_order(unit: Matrix) -> npt.NDArray[np.intp]:
    """(n,): an order of the rows by their content, the same however they were given."""
    return np.argsort(_content(unit), kind="stable")


def distinct_rows(unit: Matrix) -> int:
    """How many different rows there are, rounded so that float noise makes no difference."""
    return len(np.unique(_content(np.round(unit, 5))))


def _content(matrix: Matrix) -> npt.NDArray[np.void]:
    plain = np.ascontiguousarray(matrix) + np.float32(0)  # -0.0 becomes 0.0
    return plain.view(np.dtype((np.void, plain.dtype.itemsize * plain.shape[1]))).ravel()


def _real(matrix: npt.ArrayLike, what: str) -> npt.NDArray[np.floating]:
    try:
        array = np.asarray(matrix)
    except ValueError:
        raise KnowledgeError(
            f"{what} has rows of different lengths: embed all with one model"
        ) from None
    if array.ndim != 2:  # noqa: PLR2004 - rows and columns
        raise KnowledgeError(
            f"{what} has the shape {array.shape}, and (rows, dimensions) is needed"
        )
    if array.dtype.kind not in "fiu":
        raise KnowledgeError(f"{what} holds {array.dtype}, not real numbers: give float32")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _refuse_row(bad: npt.NDArray[np.bool_], what: str, why: str) -> None:
    if bad.any():
        raise KnowledgeError(f"row {int(bad.argmax())} of {what} has {why}")


def _rows(number: int) -> str:
    return f"{number or 'no'} row{'' if number == 1 else 's'}"
