"""Search: one statement, and the choice between exact distances and the HNSW index."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composable, Literal

from rotina.database import load_queries
from rotina.knowledge.filters import Values
from rotina.knowledge.model import Collection, Weights
from rotina.knowledge.words import CONFIGURATIONS, fold

EXACT_CHUNKS = 20_000
"""Chunks up to which every distance is computed: some ten milliseconds, and nothing is missed."""
CANDIDATES = 100
"""What each half of a search hands on, at least."""
LONGEST_QUESTION = 200
"""Different words of a question that count: a pasted page must not cost a scan a word."""
K1, B = 1.2, 0.75
"""BM25's saturation and length normalisation (Robertson & Zaragoza, 2009)."""


@dataclass(frozen=True)
class Question:
    """A search, ready for SQL."""

    collection: Collection
    text: str
    vector: str | None
    """In pgvector's text form; None for a search by words alone."""
    k: int
    weights: Weights
    condition: Composable
    """The filter, over `d.metadata`."""
    values: Values
    filtered: bool
    scope: Mapping[str, Any]
    """Chunks, words and languages behind the filter."""

    @property
    def candidates(self) -> int:
        """What each half hands on."""
        return max(CANDIDATES, 2 * self.k)

    def parameters(self) -> dict[str, Any]:
        """Of the statement `search`."""
        languages = [self.collection.language] if self.collection.language else None
        words = list(dict.fromkeys(fold(self.text)))[:LONGEST_QUESTION]
        vector = self.vector or literal_zero(self.collection.dimension or 1)
        return {
            **self.values,
            "collection_id": self.collection.id,
            "words": words if self.weights.text else [],
            "configurations": [
                CONFIGURATIONS[each] for each in languages or self.scope["languages"]
            ],
            "chunks": self.scope["chunks"],
            "mean_length": max(1.0, self.scope["words"] / self.scope["chunks"]),
            "k1": K1,
            "b": B,
            "vector": vector,
            "text_candidates": self.candidates,
            "vector_candidates": self.candidates if self.vector else 0,
            "text_weight": self.weights.text,
            "vector_weight": self.weights.vectors if self.vector else 0.0,
            "k": self.k,
        }


def literal_zero(dimension: int) -> str:
    """A vector without direction: its cosine with any other counts as 0."""
    return "[" + ",".join(["0"] * dimension) + "]"


async def search(
    connection: AsyncConnection[DictRow], question: Question, *, indexed: bool
) -> list[dict[str, Any]]:
    """Rows of the statement `search`, best first.

    With an index, an unfiltered search and one whose filter leaves many chunks go through it; any
    other computes every distance. Should the index run dry behind a filter, that happens as well.
    """
    nearest = indexed and question.vector is not None and question.scope["chunks"] > EXACT_CHUNKS
    if nearest:
        tune = {"candidates": str(min(1000, 2 * question.candidates))}
        await connection.execute(load_queries("rotina.knowledge")["tune_scan"], tune)
        rows = await _run(connection, question, nearest=True)
        if len(rows) == min(question.k, question.scope["chunks"]):
            return rows
    return await _run(connection, question, nearest=False)


async def _run(
    connection: AsyncConnection[DictRow], question: Question, *, nearest: bool
) -> list[dict[str, Any]]:
    statement = SQL(load_queries("rotina.knowledge")["search"]).format(
        filter=question.condition,
        hit_filter=SQL("h.document_id in (select id from scope)" if question.filtered else "true"),
        near_filter=_near_filter(question, nearest=nearest),
        distance=_distance(question, nearest=nearest),
    )
    return await (await connection.execute(statement, question.parameters())).fetchall()


def _near_filter(question: Question, *, nearest: bool) -> Composable:
    if not question.filtered:
        return SQL("true")
    if not nearest:
        return SQL("c.document_id in (select id from scope)")
    # Asked of one neighbour after the other: a join would be planned without the index.
    return SQL("(select {} from rotina.document d where d.id = c.document_id)").format(
        question.condition
    )


def _distance(question: Question, *, nearest: bool) -> Composable:
    """Only an expression with the dimension's cast is the index's."""
    if not nearest:
        return SQL("c.embedding <=> %(vector)s::halfvec")
    dimension = Literal(question.collection.dimension)
    return SQL("c.embedding::halfvec({0}) <=> %(vector)s::halfvec({0})").format(dimension)
