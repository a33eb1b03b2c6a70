"""How good a ranking is, and how sure one may be of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

RESAMPLES = 2000
SEED = 7

Span = tuple[str, int, int]
"""Characters [start, end) of the document with this URI."""


class Estimate(BaseModel):
    """A mean over questions, and the interval that holds it in 95 of 100 samples of them."""

    model_config = ConfigDict(frozen=True)

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Answer:
    """What answers a question: a document, or some characters of it."""

    uri: str
    start: int | None = None
    end: int | None = None

    def is_in(self, found: Span) -> bool:
        """Whether what was found is of that document, and shares a character where it matters."""
        uri, start, end = found
        if uri != self.uri or self.start is None or self.end is None:
            return uri == self.uri
        return start < self.end and self.start < end


def measure(found: Sequence[Span], answers: Sequence[Answer], k: int) -> dict[str, float]:
    """`recall`, `ndcg`, `mrr` of the first `k` results of one question; of characters, if told.

    An answer counts once, at the first result that holds some of it. nDCG is that of binary
    relevance (Järvelin & Kekäläinen, 2002). `characters_recall`, `_precision` and `_iou` compare
    the characters found with those that answer, where every answer says which.
    """
    left = list(answers)
    gain, first = 0.0, 0.0
    for rank, span in enumerate(found[:k], 1):
        hit = [answer for answer in left if answer.is_in(span)]
        if hit:
            gain += 1 / math.log2(rank + 1)
            first = first or 1 / rank
            left = [answer for answer in left if answer not in hit]
    most = min(k, len(answers))
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, most + 1))
    told = {"recall": 1 - len(left) / len(answers), "ndcg": min(1.0, gain / ideal), "mrr": first}
    if all(answer.start is not None for answer in answers):
        told |= _characters(found[:k], answers)
    return told


def _characters(found: Sequence[Span], answers: Sequence[Answer]) -> dict[str, float]:
    wanted = {(a.uri, n) for a in answers for n in range(a.start or 0, a.end or 0)}
    seen = {(uri, n) for uri, start, end in found for n in range(start, end)}
    both = len(wanted & seen)
    return {
        "characters_recall": both / len(wanted),
        "characters_precision": both / len(seen) if seen else 0.0,
        "characters_iou": both / len(wanted | seen),
    }


def estimate(values: Sequence[float]) -> Estimate:
    """The mean with its bootstrap interval (percentiles; Efron & Tibshirani, 1993), seeded."""
    import numpy as np  # noqa: PLC0415 - a tenth of a second

    given = np.asarray(values, dtype=np.float64)
    chosen = np.random.default_rng(SEED).integers(len(given), size=(RESAMPLES, len(given)))
    low, high = np.percentile(given[chosen].mean(axis=1), (2.5, 97.5))
    return Estimate(mean=float(given.mean()), low=float(low), high=float(high))
