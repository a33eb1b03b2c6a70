"""Labels from the nearest labelled rows (k nearest neighbours; Cover & Hart, 1967)."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from rotina.errors import KnowledgeError
from rotina.knowledge.analysis.matrix import same_dimensions, same_length, unit_rows
from rotina.knowledge.analysis.neighbours import check_neighbours, nearest

NEIGHBOURS = 5
CLOSEST = 1e-3
"""Distances below are taken as this one, so that float noise does not decide among copies."""


class Neighbour(BaseModel):
    """A labelled row near a query."""

    model_config = ConfigDict(frozen=True)

    row: int
    """Row of the examples, from 0."""
    label: str
    similarity: float
    """Cosine, from -1 to 1."""


class Classified(BaseModel):
    """What the neighbours say about one query."""

    model_config = ConfigDict(frozen=True)

    row: int
    """Row of the queries, from 0."""
    label: str | None
    """None when the nearest neighbour is less similar than `minimum`."""
    confidence: float
    """The label's share of the neighbours' votes, from 0 to 1. A share, not a probability."""
    similarity: float
    """Cosine similarity to the nearest neighbour, whatever its label."""
    neighbours: list[Neighbour]
    """Nearest first."""


def classify(
    queries: npt.ArrayLike,
    examples: npt.ArrayLike,
    labels: Sequence[str],
    *,
    neighbours: int | None = None,
    minimum: float = -1.0,
) -> list[Classified]:
    """The label of each query, (m, d), by the vote of the nearest of `examples`, (n, d).

    `labels` has one label an example. A neighbour's vote weighs 1 / its distance (Dudani, 1976),
    so the nearest count most; equal votes go to the label with the nearest neighbour.
    `neighbours` is 5 when not given, or as many as there are. A query whose nearest neighbour has
    a cosine below `minimum` gets the label None: nothing labelled resembles it.

    Raises `KnowledgeError` for a matrix that cannot be used, other dimensions, no examples, a
    number of labels that is not n, and more neighbours than examples.
    """
    known = unit_rows(examples, least=1, what="examples")
    asked = unit_rows(queries, least=0, what="queries")
    same_dimensions(asked, known, ("queries", "examples"))
    same_length(len(known), len(labels), ("examples", "labels"))
    number = min(NEIGHBOURS, len(known)) if neighbours is None else neighbours
    check_neighbours(number, len(known))
    if not len(asked):
        return []
    similarities, rows = nearest(known, number, asked)
    return [
        _vote(query, near, minimum)
        for query, near in enumerate(
            [
                Neighbour(row=int(row), label=labels[row], similarity=float(similarity))
                for similarity, row in zip(*pair, strict=True)
            ]
            for pair in zip(similarities, rows, strict=True)
        )
    ]


def leave_one_out(
    examples: npt.ArrayLike, labels: Sequence[str], *, neighbours: int | None = None
) -> float:
    """The share of `examples`, (n, d), that get their own label from the others: 0 to 1.

    What `classify` may be expected to achieve on texts like these. Errors as in `classify`; it
    needs two examples and two different labels.
    """
    known = unit_rows(examples, what="examples")
    same_length(len(known), len(labels), ("examples", "labels"))
    if len(set(labels)) == 1:
        raise KnowledgeError(f"every example is labelled {labels[0]!r}: there is nothing to learn")
    number = min(NEIGHBOURS, len(known) - 1) if neighbours is None else neighbours
    similarities, rows = nearest(known, number)
    right = 0
    for row, pair in enumerate(zip(similarities, rows, strict=True)):
        near = [
            Neighbour(row=int(other), label=labels[other], similarity=float(similarity))
            for similarity, other in zip(*pair, strict=True)
        ]
        right += _vote(row, near, -1.0).label == labels[row]
    return right / len(known)


def _vote(query: int, near: list[Neighbour], minimum: float) -> Classified:
    votes: dict[str, float] = defaultdict(float)
    for neighbour in near:
        distance = float(np.sqrt(max(2 - 2 * neighbour.similarity, 0)))
        votes[neighbour.label] += 1 / max(distance, CLOSEST)
    # max() keeps the first of equals, and labels come in the order of their nearest neighbour.
    label = max(votes, key=votes.__getitem__)
    return Classified(
        row=query,
        label=label if near[0].similarity >= minimum else None,
        confidence=votes[label] / sum(votes.values()),
        similarity=near[0].similarity,
        neighbours=near,
    )
