"""The exact nearest rows by cosine similarity."""

import numpy as np
import numpy.typing as npt

from rotina.errors import KnowledgeError
from rotina.knowledge.analysis.matrix import Matrix

Similarities = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


def nearest(
    examples: Matrix, number: int, queries: Matrix | None = None
) -> tuple[Similarities, Rows]:
    """Cosine similarities, (m, number), of the nearest examples to each query, and their rows.

    `examples` (n, d) and `queries` (m, d) have rows of length 1. Without queries each example is
    one, and is not its own neighbour. Nearest first. Exact: all pairs are compared, in blocks.

    Raises `KnowledgeError` when there are fewer than `number` examples to find.
    """
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415

    check_neighbours(number, len(examples) - (queries is None))
    # Between rows of length 1, distance² = 2 - 2 × cosine: the same order, and scikit-learn's
    # Euclidean search is the one that works in blocks of bounded memory.
    search = NearestNeighbors(n_neighbors=number, algorithm="brute", metric="euclidean")
    distances, rows = search.fit(examples).kneighbors(queries)
    return 1 - np.asarray(distances, dtype=np.float64) ** 2 / 2, rows


def check_neighbours(number: int, most: int) -> None:
    """Raise `KnowledgeError` unless 1 ≤ number ≤ most."""
    if not 1 <= number <= most:
        raise KnowledgeError(
            f"{number} neighbours were asked for, and there are {most} rows to find them in: "
            f"give a number from 1 to {most}"
        )
