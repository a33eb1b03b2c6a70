"""More like these, not like those."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from rotina.errors import KnowledgeError
from rotina.knowledge.analysis.matrix import Matrix, unit_rows

POOL = 5
"""With `spread`, how many times `k` rows are looked at."""


class Recommended(BaseModel):
    """A row to recommend."""

    model_config = ConfigDict(frozen=True)

    row: int
    """Row of the matrix, from 0."""
    score: float
    """Cosine similarity to what is wanted, from -1 to 1."""


def recommend(
    matrix: npt.ArrayLike,
    like: Sequence[int],
    unlike: Sequence[int] = (),
    *,
    k: int = 10,
    against: float = 0.5,
    spread: float = 0.0,
) -> list[Recommended]:
    """The `k` rows of `matrix`, (n, d), most like the rows `like` and least like `unlike`.

    Best first; the given rows are not among them, and there are fewer than `k` when no more are
    left. Wanted is the direction mean(like) - against × mean(unlike) (Rocchio, 1971). `spread`
    above 0 trades likeness for variety: maximal marginal relevance (Carbonell & Goldstein, 1998)
    with λ = 1 - spread, over the best 5 × k rows.

    Raises `KnowledgeError` for a matrix that cannot be used, no `like`, a row that does not exist,
    k below 1, `against` below 0, `spread` outside 0..1, and likes that the dislikes cancel out.
    """
    unit = unit_rows(matrix)
    _check(len(unit), like, unlike, k)
    _check_weights(against, spread)
    wanted = _wanted(unit, list(like), list(unlike), against)
    scores = unit @ wanted
    given = {*like, *unlike}
    order = [int(row) for row in np.argsort(-scores, kind="stable") if row not in given]
    if spread > 0:
        order = _spread(unit, scores, order[: POOL * k], k, spread)
    return [Recommended(row=row, score=float(np.clip(scores[row], -1, 1))) for row in order[:k]]


def _wanted(unit: Matrix, like: list[int], unlike: list[int], against: float) -> Matrix:
    wanted = unit[like].mean(axis=0, dtype=np.float64)
    if unlike:
        wanted -= against * unit[unlike].mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(wanted))
    if length < 1e-6:  # noqa: PLR2004 - float32 noise
        raise KnowledgeError(
            "What is liked and what is disliked cancel out: give others, or a smaller against"
        )
    direction: Matrix = (wanted / length).astype(np.float32)
    return direction


def _spread(unit: Matrix, scores: Matrix, pool: list[int], k: int, spread: float) -> list[int]:
    """Rows of the pool in the order in which maximal marginal relevance takes them."""
    chosen: list[int] = []
    nearest_chosen = np.full(len(pool), -1.0, dtype=np.float32)
    relevance = (1 - spread) * scores[pool]
    free = np.ones(len(pool), dtype=bool)
    while len(chosen) < k and free.any():
        penalty = spread * nearest_chosen if chosen else np.zeros_like(nearest_chosen)
        place = int(np.where(free, relevance - penalty, -np.inf).argmax())
        free[place] = False
        chosen.append(pool[place])
        np.maximum(nearest_chosen, unit[pool] @ unit[pool[place]], out=nearest_chosen)
    return chosen


def _check(rows: int, like: Sequence[int], unlike: Sequence[int], k: int) -> None:
    if not like:
        raise KnowledgeError("Nothing to be like was given: name at least one row")
    for row in (*like, *unlike):
        if not 0 <= row < rows:
            raise KnowledgeError(f"There is no row {row}: the rows are 0 to {rows - 1}")
    both = sorted(set(like) & set(unlike))
    if both:
        raise KnowledgeError(f"Row {both[0]} is liked and disliked: name it once")
    if k < 1:
        raise KnowledgeError(f"k is {k}: ask for at least 1 row")


def _check_weights(against: float, spread: float) -> None:
    if not against >= 0:
        raise KnowledgeError(f"against is {against}: give 0 or more")
    if not 0 <= spread <= 1:
        raise KnowledgeError(f"spread is {spread}: give a number from 0 (none) to 1")
