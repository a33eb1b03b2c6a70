"""Whether two sets of texts differ: this week's questions and those before, say."""

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from rotina.errors import KnowledgeError
from rotina.knowledge.analysis.matrix import Matrix, same_dimensions, unit_rows

SAMPLE = 1000
"""Rows of each set that are compared; larger sets are sampled."""
PERMUTATIONS = 999
"""Random relabellings; the smallest p-value they can give is 1 / 1000."""
LEAST = 10
"""Rows that each set needs."""
FOLDS = 5
NOISE = 1e-9

Kernel = npt.NDArray[np.float64]


class Drift(BaseModel):
    """Whether two sets of rows come from the same distribution."""

    model_config = ConfigDict(frozen=True)

    drifted: bool
    """p_value < level."""
    p_value: float
    """How often sets this different come about when nothing differs: permutation test of MMD²."""
    mmd: float
    """Unbiased MMD² with a Gaussian kernel: about 0 (may be below) when nothing differs."""
    auc: float
    """How well a classifier tells the sets apart: 0.5 not at all, 1 always."""
    compared: tuple[int, int]
    """Rows of `before` and of `after` that were compared."""
    newest: list[int]
    """Rows of `after` that the classifier is surest are not `before`, surest first."""


def drift(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    *,
    level: float = 0.05,
    permutations: int = PERMUTATIONS,
    newest: int = 5,
    seed: int = 0,
) -> Drift:
    """Compare two sets of rows, (n, d) and (m, d).

    The decision is a permutation test of the maximum mean discrepancy, with a Gaussian kernel of
    median width (Gretton et al., 2012), so a difference that is not there is reported in at most
    `level` of cases. How large the difference is says the AUC of a logistic regression that tells
    the sets apart, by cross-validation (classifier two-sample test; Lopez-Paz & Oquab, 2017).
    Both use at most 1000 rows of each set, drawn with `seed`.

    Raises `KnowledgeError` for a matrix that cannot be used, fewer than 10 rows in either, other
    dimensions, `level` outside 0..1 and `permutations` too few for `level` or above 100 000.
    """
    _check(level, permutations, newest)
    first = unit_rows(before, least=LEAST, what="before")
    second = unit_rows(after, least=LEAST, what="after")
    same_dimensions(first, second, ("before", "after"))
    random = np.random.default_rng(seed)
    rows = _sampled(len(second), random)
    first, second = first[_sampled(len(first), random)], second[rows]
    both = np.concatenate([first, second])
    mmd, p_value = _test(_kernel(both), len(first), permutations, random)
    auc, scores = _told_apart(both, len(first), seed)
    order = np.argsort(-scores[len(first) :], kind="stable")[:newest]
    return Drift(
        drifted=p_value < level,
        p_value=p_value,
        mmd=mmd,
        auc=auc,
        compared=(len(first), len(second)),
        newest=rows[order].tolist(),
    )


def _sampled(rows: int, random: np.random.Generator) -> npt.NDArray[np.intp]:
    if rows <= SAMPLE:
        return np.arange(rows)
    return np.sort(random.choice(rows, SAMPLE, replace=False))


def _kernel(unit: Matrix) -> Kernel:
    """(n, n): exp(-distance² / median distance²), with a zero diagonal."""
    wide = unit.astype(np.float64)
    squared = np.maximum(2 - 2 * wide @ wide.T, 0)
    width = float(np.median(squared[np.triu_indices(len(squared), k=1)]))
    if width < NOISE:  # more than half of the pairs are copies
        width = float(squared.mean()) or 1.0
    kernel: Kernel = np.exp(-squared / width)
    np.fill_diagonal(kernel, 0)
    return kernel


def _test(
    kernel: Kernel, first: int, permutations: int, random: np.random.Generator
) -> tuple[float, float]:
    """MMD² of the first rows against the others, and its permutation p-value."""
    sides = np.zeros((len(kernel), 1))
    sides[:first] = 1
    observed = float(_mmd(kernel, sides)[0])
    at_least = 0
    for start in range(0, permutations, 100):
        width = min(100, permutations - start)
        shuffled = random.permuted(np.repeat(sides, width, axis=1), axis=0)
        at_least += int((_mmd(kernel, shuffled) >= observed - NOISE).sum())
    return observed, (1 + at_least) / (1 + permutations)


def _mmd(kernel: Kernel, sides: Kernel) -> Kernel:
    """Unbiased MMD², (p,), for each column of `sides`, (n, p): 1 for one side, 0 for the other."""
    rows = len(kernel)
    first = float(sides[:, 0].sum())
    second = rows - first
    within = np.einsum("np,np->p", sides, kernel @ sides)
    touching = kernel.sum(axis=0) @ sides
    other = kernel.sum() - 2 * touching + within
    across = touching - within
    return np.asarray(
        within / (first * (first - 1))
        + other / (second * (second - 1))
        - 2 * across / (first * second)
    )


def _told_apart(both: Matrix, first: int, seed: int) -> tuple[float, Kernel]:
    """AUC, and each row's out-of-fold probability of belonging to the second set, (n,)."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415
    from sklearn.model_selection import (  # noqa: PLC0415
        StratifiedKFold,
        cross_val_predict,
    )

    sides = np.arange(len(both)) >= first
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    scores = cross_val_predict(model, both, sides, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(sides, scores)), scores


def _check(level: float, permutations: int, newest: int) -> None:
    if newest < 0:
        raise KnowledgeError(f"newest is {newest}: give 0 or more")
    if not 0 < level < 1:
        raise KnowledgeError(f"level is {level}: give a number between 0 and 1, 0.05 say")
    least = int(np.ceil(1 / level))
    if not least <= permutations <= 100_000:  # noqa: PLR2004 - minutes of work
        raise KnowledgeError(
            f"permutations is {permutations}: level {level} needs from {least} to 100000"
        )
