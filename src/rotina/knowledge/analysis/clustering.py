"""Topics: rows that belong together, with the terms and texts that show what each is about."""

from collections.abc import Iterator, Sequence
from typing import Literal, assert_never

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from rotina.errors import KnowledgeError
from rotina.knowledge.analysis.matrix import (
    Matrix,
    distinct_rows,
    row_order,
    same_length,
    unit_rows,
)
from rotina.knowledge.analysis.terms import distinctive_terms

ClusterMethod = Literal["kmeans", "hdbscan"]
Labels = npt.NDArray[np.intp]

MOST_TOPICS = 20
STARTS = 4
"""K-means runs from so many random starts and keeps the best."""
SILHOUETTE_ROWS = 2000
"""Rows that a silhouette is measured on; it compares all their pairs."""
HDBSCAN_ROWS = 20_000
"""Rows that HDBSCAN takes: its time grows with their square."""
HDBSCAN_DIMENSIONS = 50
"""Density means little in hundreds of dimensions: HDBSCAN gets so many principal components."""
NO_TOPIC = -1
LABEL_TERMS = 3


class Topic(BaseModel):
    """Rows that belong together."""

    model_config = ConfigDict(frozen=True)

    number: int
    """From 0, the largest topic first."""
    size: int
    """Rows in it."""
    label: str
    """Its three most distinctive terms; empty when there are no texts."""
    terms: list[str]
    """Most distinctive first."""
    rows: list[int]
    """Rows nearest to its centre, nearest first."""
    cohesion: float
    """Mean cosine similarity of its rows to its centre, from 0 to 1."""


class Trial(BaseModel):
    """A number of topics that was tried."""

    model_config = ConfigDict(frozen=True)

    k: int
    silhouette: float


class Clusters(BaseModel):
    """The topics of a set of rows."""

    model_config = ConfigDict(frozen=True)

    method: ClusterMethod
    silhouette: float | None
    """How well the topics are apart, from -1 to 1; None where it is not defined."""
    labels: list[int]
    """The topic of each row; -1 for none (only HDBSCAN)."""
    topics: list[Topic]
    tried: list[Trial]
    """What the number of topics was chosen from; empty when it was given."""


def cluster(  # noqa: PLR0913 - all but two by name
    matrix: npt.ArrayLike,
    texts: Sequence[str] | None = None,
    *,
    k: int | None = None,
    method: ClusterMethod = "kmeans",
    most: int = MOST_TOPICS,
    smallest: int = 5,
    terms: int = 8,
    representatives: int = 3,
    seed: int = 0,
) -> Clusters:
    """Group the rows of `matrix`, (n, d), into topics.

    `kmeans` puts every row into one of `k` topics; without `k`, the number from 2 to `most` with
    the highest silhouette (Rousseeuw, 1987). `hdbscan` (Campello et al., 2013) finds the number
    itself: groups of at least `smallest` rows that lie denser than their surroundings; the other
    rows get no topic. With `texts`, one a row, each topic is described by its distinctive terms.
    The same rows and seed give the same topics, in whatever order the rows come.

    Raises `KnowledgeError` for a matrix that cannot be used, another number of texts than rows,
    k above the number of different rows, and other parameters out of range.
    """
    unit = unit_rows(matrix)
    if texts is not None:
        same_length(len(unit), len(texts), ("matrix", "texts"))
    order = row_order(unit)
    if terms < 0 or representatives < 0:
        raise KnowledgeError(
            f"terms is {terms} and representatives {representatives}: give 0 or more"
        )
    given = unit[order]
    tried: list[Trial] = []
    match method:
        case "kmeans":
            found, tried = _kmeans(given, k, most, seed)
        case "hdbscan":
            found = _hdbscan(given, k, smallest, seed)
        case _:
            assert_never(method)
    labels = np.empty(len(unit), dtype=np.intp)
    labels[order] = _by_size(found)
    return Clusters(
        method=method,
        silhouette=_silhouette(given, labels[order], seed),
        labels=labels.tolist(),
        topics=list(_topics(unit, labels, texts, terms, representatives)),
        tried=tried,
    )


def _kmeans(unit: Matrix, k: int | None, most: int, seed: int) -> tuple[Labels, list[Trial]]:
    distinct = distinct_rows(unit)
    if k is not None:
        if not 1 <= k <= distinct:
            raise KnowledgeError(
                f"k is {k}, and there are {distinct} different rows in {len(unit)}: give a k from "
                f"1 to {distinct}"
            )
        return _fit(unit, k, seed), []
    if most < 2:  # noqa: PLR2004 - one topic is no choice
        raise KnowledgeError(f"most is {most}: allow at least 2 topics, or give k=1")
    best: tuple[float, Labels] | None = None
    tried = []
    for number in _candidates(min(most, distinct, len(unit) - 1)):
        labels = _fit(unit, number, seed)
        silhouette = _silhouette(unit, labels, seed)
        if silhouette is not None:
            tried.append(Trial(k=number, silhouette=silhouette))
            if best is None or silhouette > best[0]:
                best = silhouette, labels
    # Two rows, or copies of one: nothing says that they are two topics.
    return (best[1] if best else np.zeros(len(unit), dtype=np.intp)), tried


def _candidates(most: int) -> Iterator[int]:
    """Each number from 2 to 10, then steps of about a tenth."""
    number = 2
    while number <= most:
        yield number
        number += max(1, number // 10)


def _fit(unit: Matrix, k: int, seed: int) -> Labels:
    from sklearn.cluster import KMeans  # noqa: PLC0415

    model = KMeans(n_clusters=k, n_init=STARTS, random_state=seed)
    return np.asarray(model.fit_predict(unit), dtype=np.intp)


def _hdbscan(unit: Matrix, k: int | None, smallest: int, seed: int) -> Labels:
    from sklearn.cluster import HDBSCAN  # noqa: PLC0415
    from sklearn.decomposition import PCA  # noqa: PLC0415

    if k is not None:
        raise KnowledgeError(f"k is {k}, and hdbscan finds the number itself: leave k out")
    if not 2 <= smallest <= len(unit):  # noqa: PLR2004 - one row is no group
        raise KnowledgeError(
            f"smallest is {smallest}: give a number from 2 to the {len(unit)} rows there are"
        )
    if len(unit) > HDBSCAN_ROWS:
        raise KnowledgeError(
            f"hdbscan takes at most {HDBSCAN_ROWS} rows, not {len(unit)}: use kmeans, or a sample"
        )
    reduced = unit
    if min(unit.shape) > HDBSCAN_DIMENSIONS:
        reduced = PCA(HDBSCAN_DIMENSIONS, random_state=seed).fit_transform(unit)
    model = HDBSCAN(min_cluster_size=smallest, copy=True)
    return np.asarray(model.fit_predict(reduced), dtype=np.intp)


def _by_size(labels: Labels) -> Labels:
    """Topics renumbered from 0, the largest first; equal ones by their first row."""
    found, first, sizes = np.unique(labels[labels >= 0], return_index=True, return_counts=True)
    renamed = np.full(len(found) + 1, NO_TOPIC, dtype=np.intp)  # the last stands for -1
    for number, place in enumerate(np.lexsort((first, -sizes))):
        renamed[found[place]] = number
    return renamed[labels]


def _silhouette(unit: Matrix, labels: Labels, seed: int) -> float | None:
    """Mean silhouette over the rows with a topic, at most `SILHOUETTE_ROWS` of them."""
    from sklearn.metrics import silhouette_score  # noqa: PLC0415

    rows = np.flatnonzero(labels >= 0)
    if len(rows) > SILHOUETTE_ROWS:
        rows = np.random.default_rng(seed).choice(rows, SILHOUETTE_ROWS, replace=False)
    if not 2 <= len(np.unique(labels[rows])) < len(rows):  # noqa: PLR2004 - its definition
        return None
    return float(silhouette_score(unit[rows], labels[rows]))


def _topics(
    unit: Matrix,
    labels: Labels,
    texts: Sequence[str] | None,
    terms: int,
    representatives: int,
) -> Iterator[Topic]:
    words = {} if texts is None else distinctive_terms(texts, labels, terms)
    for number in range(int(labels.max()) + 1):
        rows = np.flatnonzero(labels == number)
        centre = unit[rows].mean(axis=0)
        length = float(np.linalg.norm(centre))
        near = unit[rows] @ centre
        order = np.argsort(-near, kind="stable")[:representatives]
        own = words.get(number, [])
        yield Topic(
            number=number,
            size=len(rows),
            label=", ".join(own[:LABEL_TERMS]),
            terms=own,
            rows=rows[order].tolist(),
            cohesion=min(length, 1.0),
        )
