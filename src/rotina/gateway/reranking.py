"""Asking one deployment how relevant documents are to a query."""

import functools
import math
from collections.abc import Sequence

from rotina.gateway.answer import RankedDocument
from rotina.gateway.budget import Need
from rotina.gateway.call import Call
from rotina.gateway.check import check_scores
from rotina.gateway.encoding import to_json

_TEMPLATE = 128
"""Tokens that a server may put around a query and a document: instructions of some models."""


def need_of(query: str, documents: Sequence[str]) -> Need:
    """The most that it takes: a cross-encoder reads the query anew with each document."""
    pairs = [[query, document] for document in documents]
    return Need(len(to_json(pairs)) + _TEMPLATE * len(pairs), 0, texts=len(pairs))


async def scored(call: Call, query: str, documents: Sequence[str]) -> list[RankedDocument]:
    """All documents, the best first, within an entered call; in batches one after the other.

    Raises a `ModelError`.
    """
    provider = call.lane.provider
    found: list[tuple[float, int]] = []
    logits = False
    for start in range(0, len(documents), provider.rerank_batch):
        batch = list(documents[start : start + provider.rerank_batch])
        reply = await call.tried(functools.partial(provider.rerank, query, batch))
        call.count(reply.usage, reply.model)
        check_scores(reply.scores, len(batch), call.lane)
        found += [(-score, start + index) for index, score in reply.scores]
        logits = reply.logits
    squash = _sigmoid if logits else float
    # Put in order before they are squashed: of large logits the sigmoid is the same.
    return [RankedDocument(index=index, score=squash(-worse)) for worse, index in sorted(found)]


def _sigmoid(logit: float) -> float:
    # Of a large negative number the plain form overflows.
    small = math.exp(-abs(logit))
    return (1 if logit >= 0 else small) / (1 + small)
