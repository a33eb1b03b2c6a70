"""What goes into the knowledge base and what comes out of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Language = Literal["en", "pt"]


class Collection(BaseModel):
    """A set of documents embedded by one model."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    name: str
    route: str
    """The gateway's route that embeds documents and questions."""
    language: Language | None
    """None: each document's own."""
    dimension: int | None
    """Of its vectors; None until the first document is in."""
    model: str | None
    """The embedding model, as its server names it; None until the first document is in."""
    created_at: datetime


class Added(BaseModel):
    """What became of a document that was added."""

    model_config = ConfigDict(frozen=True)

    document_id: UUID
    chunks: int
    unchanged: bool
    """The content was there already: nothing was embedded."""
    version: int = 1


class StoredDocument(BaseModel):
    """A document of a collection, without its text."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    uri: str
    version: int
    name: str
    title: str | None
    language: Language
    sha256: str
    """Of the file's bytes."""
    metadata: dict[str, Any]
    chunks: int
    characters: int


class Passage(BaseModel):
    """A chunk that a search found: `document's text[start:end] == text`."""

    model_config = ConfigDict(frozen=True)

    chunk_id: UUID
    document_id: UUID
    collection: str
    document: str
    """The document's name."""
    uri: str = ""
    title: str | None = None
    text: str
    start: int
    end: int
    page: int | None = None
    score: float
    """`Weights.text * text_score + Weights.vectors * vector_score`."""
    text_score: float = 0.0
    """Share of the question's words that the chunk holds, weighed as BM25 does; in [0, 1)."""
    vector_score: float = 0.0
    """Cosine between question and chunk."""
    metadata: dict[str, Any]


class CollectionStats(BaseModel):
    """How much a collection holds."""

    model_config = ConfigDict(frozen=True)

    collection: Collection
    documents: int
    chunks: int
    words: int
    characters: int
    languages: list[Language]
    indexed: bool
    """Whether it has an HNSW index; until it needs one, search is exact."""


@dataclass(frozen=True)
class Vectors:
    """The chunks of a collection and their vectors, scaled to length 1, in the same order."""

    ids: list[UUID]
    texts: list[str]
    documents: list[str]
    """Names of the chunks' documents."""
    metadata: list[dict[str, Any]]
    """Of the chunks' documents."""
    matrix: "NDArray[np.float32]"
    """Shape (number of chunks, dimension); (0, 0) when there is none."""


@dataclass(frozen=True)
class Weights:
    """How much the two halves of a search count; 0 leaves one out.

    The defaults were chosen by measurement on questions that the published figures do not use.
    """

    text: float = 1.0
    vectors: float = 0.4
