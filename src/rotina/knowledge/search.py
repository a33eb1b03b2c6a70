"""Search: one statement, and the choice between exact distances and the HNSW index."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.sql import SQL

from rotina.database import Pool, load_queries, query_as_tenant
from rotina.knowledge.model import Collection, Space, Weights
from rotina.knowledge.statements import Shape, statement
from rotina.knowledge.vectors import Halfvec
from rotina.knowledge.words import CONFIGURATIONS, fold

EXACT_CHUNKS = 5_000
"""Chunks up to which every distance is computed: some milliseconds, and nothing is missed."""
CANDIDATES = 100
"""What each half of a search hands on, at least."""
NEIGHBOURS = 100
"""What HNSW looks at, at least (`hnsw.ef_search`)."""
LARGE_CHUNKS = 300_000
"""Chunks beyond which it looks at twice as many: at a million, .83 of the nearest were found."""
LONGEST_QUESTION = 200
"""Different words of a question that count: a pasted page must not cost a scan a word."""
K1, B = 1.2, 0.75
"""BM25's saturation and length normalisation (Robertson & Zaragoza, 2009)."""
LIKENESS = 0.55
"""Trigrams that two words have to share, of all that they have, to be taken for one another."""
LEAST_LETTERS = 4
"""Of a word that is likened to others: the trigrams of a shorter one say little."""
ENOUGH = 5
"""Times the candidates that a question's rarer words have to find before its common ones stop
bringing in chunks of their own."""
RARE = 4_000
"""Chunks that hold it up to which a word always brings in its chunks."""
SHARE_SECONDS = 60.0
"""How long it is remembered what share of the documents a filter leaves."""
KNOWN_SHARES = 1_000
SCANNED_COST = 8.0
"""What one vector costs that HNSW looks at and a filter judges, in units of one that is read by its
document's id. Chosen, not measured: `benchmarks.knowledge` shows what becomes of it."""


@dataclass(frozen=True)
class Scope:
    """Which documents a search may see."""

    filter: str | None = None
    """A jsonpath predicate over their metadata."""
    access: Sequence[str] | None = None
    """Labels of who asks; None sees everything."""
    moment: datetime | None = None
    """When they have to hold; None is whenever."""


@dataclass(frozen=True)
class Question:
    """A search, ready for SQL."""

    collection: Collection
    space: Space
    text: str
    vector: Halfvec | None
    """None for a search by words alone, and where there is no vector to compare with."""
    k: int
    weights: Weights
    scope: Scope

    @property
    def is_restricted(self) -> bool:
        """Whether some documents may have to be left out."""
        return self.scope.filter is not None or self.collection.restricted > 0

    @property
    def by_text(self) -> bool:
        """Whether words count."""
        return self.weights.text > 0

    @property
    def by_vectors(self) -> bool:
        """Whether vectors count."""
        return self.weights.vectors > 0 and self.vector is not None

    @property
    def candidates(self) -> int:
        """What each half hands on."""
        both = self.by_text and self.by_vectors
        return max(CANDIDATES, 2 * self.k) if both else max(CANDIDATES // 2, self.k)

    def scoped(self) -> dict[str, Any]:
        """Parameters of every statement with a scope; a condition that all documents meet is none.

        Otherwise PostgreSQL would guess how many do.
        """
        scope = self.scope if self.collection.restricted else Scope(self.scope.filter)
        return {
            "collection_id": self.collection.id,
            "filter": scope.filter,
            "access": None if scope.access is None else list(scope.access),
            "moment": scope.moment,
        }

    def shape(self, *, through: bool) -> Shape:
        """What its plan depends on; `through` is through indexes, of vectors and of words."""
        return Shape(
            chunk_home=self.collection.home,
            vector_home=self.space.home,
            space=self.space.id,
            dimension=self.space.dimension,
            by_text=self.by_text,
            by_vectors=self.by_vectors,
            through=through,
            restricted=self.is_restricted,
            ranks=self.weights.fusion == "ranks",
            candidates=self.candidates,
            k=self.k,
        )

    def parameters(self) -> dict[str, Any]:
        """Of the statement `search`."""
        return {
            **self.scoped(),
            **(self._words() if self.by_text else {}),
            "generation": self.collection.generation,
            "restricted": self.collection.restricted > 0,
            "english": self.collection.english > 0,
            "portuguese": self.collection.portuguese > 0,
            "vector": self.vector,
            "text_weight": self.weights.text,
            "vector_weight": self.weights.vectors,
            "constant": self.weights.rank_constant,
        }

    def _words(self) -> dict[str, Any]:
        fixed = self.collection.language
        return {
            "words": list(dict.fromkeys(fold(self.text)))[:LONGEST_QUESTION],
            "configurations": [
                CONFIGURATIONS[each] for each in ([fixed] if fixed else self.collection.languages)
            ],
            "enough": ENOUGH * self.candidates,
            "rare": RARE,
            "k1": K1,
            "b": B,
            "likeness": LIKENESS,
            "least_letters": LEAST_LETTERS,
        }


class Shares:
    """What share of a collection filters leave, as PostgreSQL expected lately.

    Asking costs as much as a small search. An old answer can only choose the slower plan.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], tuple[float, float]] = {}

    async def share(self, pool: Pool, tenant: str, question: Question) -> float:
        """Of the question's scope, in (0, 1]."""
        collection, scope = question.collection, question.scope
        access = None if scope.access is None else tuple(scope.access)
        key = (collection.id, collection.generation, scope.filter, access, scope.moment is None)
        now = time.monotonic()
        if (told := self._known.get(key)) is not None and now < told[0]:
            return told[1]
        sql = SQL(load_queries("rotina.knowledge")["estimate_documents"])
        rows = await query_as_tenant(pool, tenant, sql, question.scoped())
        share = min(1.0, max(1, int(rows[0]["documents"])) / max(1, collection.documents))
        if len(self._known) >= KNOWN_SHARES:
            self._known.clear()
        self._known[key] = (now + SHARE_SECONDS, share)
        return share


async def search(
    pool: Pool, tenant: str, question: Question, shares: Shares
) -> list[dict[str, Any]] | None:
    """Rows of the statement `search`, best first; None when the collection has changed.

    With an index, an unrestricted search and one that leaves many chunks go through it; any other
    computes every distance. So it is with words, which are looked up in postings or read. Should
    indexes run dry behind a filter, all is compared.
    """
    through = question.space.indexed if question.by_vectors else question.collection.is_settled
    if through and question.is_restricted:
        through = _leaves_many(question, await shares.share(pool, tenant, question))
    rows = await _run(pool, tenant, question, through=through)
    wanted = min(question.k, question.collection.chunks)
    if through and question.is_restricted and rows is not None and len(rows) < wanted:
        rows = await _run(pool, tenant, question, through=False)
    return rows


def _leaves_many(question: Question, share: float) -> bool:
    """Whether going through the index costs less than reading all that the filter leaves.

    With a share s of n chunks left, exact search reads s·n vectors; HNSW looks at c/s of them until
    c pass.
    """
    left = share * question.collection.chunks
    return left > EXACT_CHUNKS or left > SCANNED_COST * question.candidates / share


async def _run(
    pool: Pool, tenant: str, question: Question, *, through: bool
) -> list[dict[str, Any]] | None:
    sql = load_queries("rotina.knowledge")
    looked_at = max(NEIGHBOURS, question.candidates)
    if question.collection.chunks > LARGE_CHUNKS:
        looked_at *= 2
    rows = await query_as_tenant(
        pool,
        tenant,
        statement(question.shape(through=through)),
        question.parameters(),
        enter=SQL(sql["enter_search"]),
        settings={"candidates": str(min(1000, looked_at))},
    )
    if not rows:
        return None
    return [row for row in rows if row["chunk_id"] is not None]
