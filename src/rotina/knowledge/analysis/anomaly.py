"""Rows unlike the rest: the mean distance to the nearest neighbours (Angiulli & Pizzuti, 2002)."""

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from rotina.errors import KnowledgeError
from rotina.knowledge.analysis.matrix import unit_rows
from rotina.knowledge.analysis.neighbours import nearest

NEIGHBOURS = 10
FENCE = 1.5
"""Widths of the middle half of the scores above it: Tukey's fence (1977)."""
NOISE = 1e-6
"""Scores that differ by less are equal: float32 tells no more apart."""


class Anomaly(BaseModel):
    """A row that is unlike the rest."""

    model_config = ConfigDict(frozen=True)

    row: int
    """Row of the matrix, from 0."""
    score: float


class Anomalies(BaseModel):
    """How unlike the rest each row is, and which rows stand out."""

    model_config = ConfigDict(frozen=True)

    scores: list[float]
    """One a row: 1 - mean cosine similarity to its nearest neighbours, from 0 (copies) to 2."""
    threshold: float
    """Rows with a score above stand out."""
    rule: str
    """Where the threshold comes from, in words."""
    neighbours: int
    found: list[Anomaly]
    """Highest score first."""


def anomalies(
    matrix: npt.ArrayLike,
    *,
    neighbours: int | None = None,
    threshold: float | None = None,
    share: float | None = None,
) -> Anomalies:
    """Score every row of `matrix`, (n, d), and say which stand out.

    A row's score is 1 - the mean cosine similarity to its `neighbours` nearest other rows (10, or
    as many as there are). What stands out is above `threshold`; or is the `share` of rows with the
    highest scores; or, by default, is above Tukey's fence: the third quartile of the scores + 1.5
    times their interquartile range. Where texts differ widely, nothing may be above it.

    More than `neighbours` copies of one odd text are neighbours of each other and do not stand
    out: look for copies first (`diversity`).

    Raises `KnowledgeError` for a matrix that cannot be used, both threshold and share, a share
    outside 0..1, and `neighbours` outside 1..n-1.
    """
    if threshold is not None and share is not None:
        raise KnowledgeError("threshold and share both say what stands out: give one")
    if share is not None and not 0 < share < 1:
        raise KnowledgeError(f"share is {share}: give a number between 0 and 1")
    unit = unit_rows(matrix)
    number = min(NEIGHBOURS, len(unit) - 1) if neighbours is None else neighbours
    similarities, _ = nearest(unit, number)
    scores = np.clip(1 - similarities.mean(axis=1), 0, 2)
    cut, rule = _cut(scores, threshold, share)
    order = np.argsort(-scores, kind="stable")
    return Anomalies(
        scores=scores.tolist(),
        threshold=cut,
        rule=rule,
        neighbours=number,
        found=[
            Anomaly(row=int(row), score=float(scores[row])) for row in order if scores[row] > cut
        ],
    )


def _cut(
    scores: npt.NDArray[np.float64], threshold: float | None, share: float | None
) -> tuple[float, str]:
    if threshold is not None:
        return threshold, f"score above {threshold:g}, as given"
    if share is not None:
        return float(np.quantile(scores, 1 - share)), f"the highest {share:.1%} of scores"
    first, third = (float(each) for each in np.quantile(scores, [0.25, 0.75]))
    cut = third + max(FENCE * (third - first), NOISE)
    return cut, f"Tukey's fence: {FENCE:g} interquartile ranges above the third quartile"
