"""Search: one statement, and the choice between exact distances and the HNSW index."""

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

EXACT_CHUNKS = 20_000
"""Chunks up to which every distance is computed: some ten milliseconds, and nothing is missed."""
CANDIDATES = 100
"""What each half of a search hands on, at least."""
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
RARE = 0.02
"""Share of the chunks that hold it up to which a word always brings in its chunks."""
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

    def shape(self, *, nearest: bool) -> Shape:
        """What its plan depends on; `nearest` is through the HNSW index."""
        return Shape(
            chunk_home=self.collection.home,
            vector_home=self.space.home,
            space=self.space.id,
            dimension=self.space.dimension,
            by_text=self.by_text,
            by_vectors=self.by_vectors,
            nearest=nearest,
            restricted=self.is_restricted,
            ranks=self.weights.fusion == "ranks",
            candidates=self.candidates,
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
            "k": self.k,
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


async def search(pool: Pool, tenant: str, question: Question) -> list[dict[str, Any]] | None:
    """Rows of the statement `search`, best first; None when the collection has changed.

    With an index, an unrestricted search and one that leaves many chunks go through it; any other
    computes every distance. Should the index run dry behind a filter, that happens as well.
    """
    nearest = question.space.indexed and question.by_vectors
    if nearest and question.is_restricted:
        nearest = await _leaves_many(pool, tenant, question)
    rows = await _run(pool, tenant, question, nearest=nearest)
    wanted = min(question.k, question.collection.chunks)
    if nearest and question.is_restricted and rows is not None and len(rows) < wanted:
        rows = await _run(pool, tenant, question, nearest=False)
    return rows


async def _leaves_many(pool: Pool, tenant: str, question: Question) -> bool:
    """Whether going through the index costs less than reading all that the filter leaves.

    With a share s of n chunks left, exact search reads s·n vectors; HNSW looks at c/s of them until
    c pass. PostgreSQL's statistics estimate s.
    """
    collection = question.collection
    sql = load_queries("rotina.knowledge")
    estimate = SQL(sql["estimate_documents"])
    rows = await query_as_tenant(pool, tenant, estimate, question.scoped())
    share = max(1, rows[0]["documents"]) / max(1, collection.documents)
    left = share * collection.chunks
    return bool(left > EXACT_CHUNKS or left > SCANNED_COST * question.candidates / share)


async def _run(
    pool: Pool, tenant: str, question: Question, *, nearest: bool
) -> list[dict[str, Any]] | None:
    sql = load_queries("rotina.knowledge")
    looked_at = min(1000, max(40, 2 * question.candidates)) if nearest else 40
    rows = await query_as_tenant(
        pool,
        tenant,
        statement(question.shape(nearest=nearest)),
        question.parameters(),
        enter=SQL(sql["enter_search"]),
        settings={
            "candidates": str(looked_at),
            # Without words and filters it is the same plan whatever is asked.
            "plans": "auto" if question.by_text or question.is_restricted else "force_generic_plan",
        },
    )
    if not rows:
        return None
    return [row for row in rows if row["chunk_id"] is not None]
