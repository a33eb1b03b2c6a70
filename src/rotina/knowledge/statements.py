"""The statement of a search, put together from named parts once for each shape of question."""

import functools
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from psycopg.sql import SQL, Composable, Literal

from rotina.database import load_queries

# What a half adds to the score, by whether both halves are asked and whether ranks are fused.
_PARTS: dict[tuple[bool, bool], tuple[LiteralString, LiteralString]] = {
    (False, False): ("t.score", "n.cosine"),
    (False, True): ("1.0 / (%(constant)s + t.rank)", "1.0 / (%(constant)s + n.rank)"),
    (True, False): ("text_score", "cosine"),
    (True, True): (
        "case when in_text then 1.0 / (%(constant)s + text_rank) else 0 end",
        "case when in_vectors then 1.0 / (%(constant)s + vector_rank) else 0 end",
    ),
}

_JUDGEMENT: LiteralString = "%(filter)s::jsonpath, %(access)s::text[], %(moment)s::timestamptz"


@dataclass(frozen=True)
class Shape:
    """What a search's plan depends on."""

    chunk_home: UUID
    vector_home: UUID
    space: UUID
    dimension: int | None
    by_text: bool
    by_vectors: bool
    through: bool
    """Whether vectors are looked for in the HNSW index, and words in postings."""
    restricted: bool
    ranks: bool
    candidates: int
    k: int

    @property
    def listed(self) -> bool:
        """Whether the documents in scope are listed first."""
        return self.restricted and not self.through

    @property
    def judged(self) -> bool:
        """Whether each document is judged when a chunk of it has been found."""
        return self.restricted and self.through


@functools.lru_cache(maxsize=1024)
def statement(shape: Shape) -> bytes:
    """The statement `search`; ids of tables and limits stand in its text."""
    sql = load_queries("rotina.knowledge")
    both = shape.by_text and shape.by_vectors
    halves = "\n".join(
        sql[name]
        for name, wanted in (
            ("scope", shape.listed),
            ("text_half", shape.by_text),
            ("vector_half", shape.by_vectors),
            ("fuse_both", both),
            ("fuse_text", not both and shape.by_text),
            ("fuse_vectors", not both and not shape.by_text),
        )
        if wanted
    )
    text_part, vector_part = _PARTS[both, shape.ranks]
    composed = SQL(sql["search"]).format(
        halves=SQL(halves).format(
            documents=SQL("array(select id from scope)" if shape.listed else "null::uuid[]"),
            judgement=SQL(_JUDGEMENT if shape.judged else "null, null, null"),
            candidates=Literal(shape.candidates),
            k=Literal(shape.k),
            distance=_distance(shape),
            vector_home=Literal(shape.vector_home),
            space=Literal(shape.space),
            near_filter=_near_filter(shape),
            text_part=SQL(text_part),
            vector_part=SQL(vector_part),
        ),
        chunk_home=Literal(shape.chunk_home),
    )
    return composed.as_bytes()


def _near_filter(shape: Shape) -> Composable:
    if shape.judged:
        # Asked of one neighbour after the other: a join would be planned without the index.
        return _judged("v.document_id")
    return SQL("v.document_id in (select id from scope)" if shape.listed else "true")


def _judged(document: LiteralString) -> Composable:
    judgement = load_queries("rotina.knowledge")["is_in_scope"]
    return SQL("({})").format(SQL(judgement).format(document=SQL(document)))


def _distance(shape: Shape) -> Composable:
    """Only an expression with the dimension's cast is the index's."""
    if not shape.through:
        return SQL("v.embedding <=> %(vector)s::halfvec")
    dimension = Literal(shape.dimension)
    return SQL("v.embedding::halfvec({0}) <=> %(vector)s::halfvec({0})").format(dimension)
