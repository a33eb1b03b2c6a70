"""How varied a set of texts is, and which of them are nearly the same."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from rotina.errors import KnowledgeError
from rotina.knowledge.analysis.matrix import BLOCK_VALUES, Matrix, unit_rows

Kernel = npt.NDArray[np.float64]


class Pair(BaseModel):
    """Two rows that are nearly the same."""

    model_config = ConfigDict(frozen=True)

    first: int
    """Row of the matrix, from 0; smaller than `second`."""
    second: int
    similarity: float
    """Cosine."""


class Diversity(BaseModel):
    """How varied the rows are."""

    model_config = ConfigDict(frozen=True)

    rows: int
    vendi: float
    """Vendi score: how many completely different rows would be as varied; from 1 to `rows`."""
    mean_similarity: float
    """Mean cosine over all pairs of different rows."""
    near: float
    """Pairs with at least this cosine count as nearly the same."""
    near_pairs: int
    """How many such pairs there are."""
    pairs: list[Pair]
    """The most similar of them, most similar first."""


def diversity(matrix: npt.ArrayLike, *, near: float = 0.9, most: int = 100) -> Diversity:
    """How varied the rows of `matrix`, (n, d), are, and at most `most` pairs of near copies.

    All pairs are compared exactly, in blocks of bounded memory.

    Raises `KnowledgeError` for a matrix that cannot be used, fewer than two rows, `near` outside
    -1..1 and `most` below 0.
    """
    if not -1 <= near <= 1:
        raise KnowledgeError(f"near is {near}: give a cosine from -1 to 1")
    if most < 0:
        raise KnowledgeError(f"most is {most}: give 0 or more")
    unit = unit_rows(matrix)
    count, pairs = _near_pairs(unit, near, most)
    rows = len(unit)
    total = unit.sum(axis=0, dtype=np.float64)
    mean = (float(total @ total) - rows) / (rows * (rows - 1))
    return Diversity(
        rows=rows,
        vendi=_vendi(unit),
        mean_similarity=float(np.clip(mean, -1, 1)),
        near=near,
        near_pairs=count,
        pairs=pairs,
    )


def vendi_score(matrix: npt.ArrayLike) -> float:
    """The Vendi score of the rows of `matrix`, (n, d), with the cosine kernel: from 1 to n.

    exp(-Σ λ log λ) over the eigenvalues of K / n, K the (n, n) matrix of cosines (Friedman &
    Dieng, 2023): 1 for copies of one row, n for n orthogonal rows. Exact whatever n is: K = U Uᵀ
    and the (d, d) matrix Uᵀ U have the same eigenvalues above zero, and the smaller one is used.

    Raises `KnowledgeError` for a matrix that cannot be used; one row is enough.
    """
    return _vendi(unit_rows(matrix, least=1))


def _vendi(unit: Matrix) -> float:
    rows, dimensions = unit.shape
    kernel = _gram(unit) if dimensions < rows else _gram(unit.T)
    eigenvalues = np.linalg.eigvalsh(kernel / rows)
    positive = eigenvalues[eigenvalues > 0]
    shares = positive / positive.sum()
    entropy = -float(np.sum(shares * np.log(shares)))
    return float(np.clip(np.exp(entropy), 1, rows))


def _gram(unit: Matrix) -> Kernel:
    """MᵀM, (columns, columns), summed in float64 over blocks of rows."""
    rows, columns = unit.shape
    kernel = np.zeros((columns, columns))
    step = max(1, BLOCK_VALUES // columns)
    for start in range(0, rows, step):
        block = unit[start : start + step].astype(np.float64)
        kernel += block.T @ block
    return kernel


def _near_pairs(unit: Matrix, near: float, most: int) -> tuple[int, list[Pair]]:
    count = 0
    similarities, first, second = np.empty(0, np.float32), np.empty(0, int), np.empty(0, int)
    for block in _blocks(unit, near):
        count += len(block[0])
        similarities = np.concatenate([similarities, block[0]])
        # Stable: among equals the pair that comes first in the matrix stays first.
        order = np.argsort(-similarities, kind="stable")[:most]
        similarities = similarities[order]
        first = np.concatenate([first, block[1]])[order]
        second = np.concatenate([second, block[2]])[order]
    return count, [
        Pair(first=int(row), second=int(other), similarity=float(np.clip(similarity, -1, 1)))
        for similarity, row, other in zip(similarities, first, second, strict=True)
    ]


def _blocks(
    unit: Matrix, near: float
) -> Iterator[tuple[Matrix, npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Similarities and both rows of the near pairs, block by block."""
    rows = len(unit)
    step = max(1, BLOCK_VALUES // rows)
    for start in range(0, rows, step):
        block = unit[start : start + step] @ unit[start:].T
        # Float32 puts the cosine of two copies a little off 1; near = 1 must still find them.
        found = np.triu(block >= near - 1e-6, k=1)
        first, second = np.nonzero(found)
        yield block[first, second], first + start, second + start
