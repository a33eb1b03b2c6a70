"""What goes into the knowledge base and what comes out of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from rotina.errors import KnowledgeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Language = Literal["en", "pt"]


class Space(BaseModel):
    """The vectors of a collection by one embedding model."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    route: str
    """The gateway's route that embeds documents and questions."""
    model: str | None
    """The embedding model, as its server names it; None until the first vector is in."""
    dimension: int | None
    """Of its vectors; None until the first is in."""
    home: UUID = Field(exclude=True)
    indexed: bool
    """Whether it has an HNSW index; until it needs one, search is exact."""
    state: Literal["building", "ready", "current"]
    """`current` answers unless told otherwise; `building` lacks vectors still."""


class Collection(BaseModel):
    """A set of documents, embedded by one model or by several side by side."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    name: str
    language: Language | None
    """None: each document's own."""
    created_at: datetime
    documents: int
    chunks: int
    words: int
    english: int = Field(exclude=True)
    portuguese: int = Field(exclude=True)
    restricted: int
    """Documents with access labels or a time of validity."""
    home: UUID = Field(exclude=True)
    generation: int = Field(exclude=True)
    unposted: int = Field(exclude=True)
    """Chunks whose words are read one by one, after those that are looked up."""
    dead: int = Field(exclude=True)
    """Chunks that are no more, and that their words may still lead to."""
    chunk_limit: int
    """Characters of a chunk at most."""
    chunk_overlap: int
    """Characters that a chunk may share with the one before."""
    spaces: list[Space]
    """The current one first."""

    @property
    def current(self) -> Space:
        """The space that answers."""
        return self.spaces[0]

    @property
    def route(self) -> str:
        """The gateway's route that embeds documents and questions."""
        return self.current.route

    @property
    def model(self) -> str | None:
        """The embedding model; None until the first document is in."""
        return self.current.model

    @property
    def dimension(self) -> int | None:
        """Of its vectors; None until the first document is in."""
        return self.current.dimension

    @property
    def is_settled(self) -> bool:
        """Whether it has tables of its own."""
        return self.home == self.id

    @property
    def languages(self) -> list[Language]:
        """Of its documents."""
        found: list[tuple[Language, int]] = [("en", self.english), ("pt", self.portuguese)]
        return [language for language, documents in found if documents]

    def space(self, route: str | None) -> Space:
        """The space that a route embeds, or the current one. Raises `KnowledgeError`."""
        if route is None:
            return self.current
        for space in self.spaces:
            if space.route == route and space.state != "building":
                return space
        known = ", ".join(repr(each.route) for each in self.spaces if each.state != "building")
        raise KnowledgeError(
            f"{self.name!r} has no vectors by route {route!r}, only by {known}: `rotina kb reindex "
            f"{self.name} --route {route}` embeds it so"
        )


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
    access: list[str] = []
    """Who may see it: who has one of these labels; everybody when there is none."""
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    """The first moment when it no longer holds."""
    chunks: int
    characters: int


class Citation(BaseModel):
    """Characters of a document: `document_text[start:end] == quote`, always."""

    model_config = ConfigDict(frozen=True)

    chunk_id: UUID
    document_id: UUID
    document: str
    """The document's name."""
    uri: str = ""
    version: int = 1
    """Of the document: a later one may say something else."""
    title: str | None
    section: str = ""
    """The headings above it."""
    page: int | None
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    quote: str


class Passage(BaseModel):
    """A chunk that a search found: `document's text[start:end] == text`."""

    model_config = ConfigDict(frozen=True)

    chunk_id: UUID
    document_id: UUID
    collection: str
    document: str
    """The document's name."""
    uri: str = ""
    version: int = 1
    title: str | None = None
    section: str = ""
    """The headings above it, outermost first, parted by ` › `."""
    text: str
    start: int
    end: int
    page: int | None = None
    index: int = 0
    """Its place among the document's chunks, from 0."""
    score: float
    """What passages are ordered by: see `Weights.fusion`, and `rerank_score` where reranked."""
    text_score: float = 0.0
    """Share of the question's words that the chunk holds, weighed as BM25 does; in [0, 1)."""
    vector_score: float = 0.0
    """Cosine between question and chunk."""
    rerank_score: float | None = None
    """What a reranker said, in [0, 1] unless its scores are logits (`rerank_logits`); None where
    none was asked, or it did not answer in time."""
    metadata: dict[str, Any]

    def cite(self, start: int | None = None, end: int | None = None) -> Citation:
        """The passage, or [start, end) of the document within it, as a citation.

        Raises `ValueError` for characters outside the passage.
        """
        first = self.start if start is None else start
        last = self.end if end is None else end
        if not self.start <= first <= last <= self.end:
            raise ValueError(f"[{first}, {last}) is not within [{self.start}, {self.end})")
        shared = self.model_dump(include=Citation.model_fields.keys() - {"start", "end", "quote"})
        quote = self.text[first - self.start : last - self.start]
        return Citation(**shared, start=first, end=last, quote=quote)


class CitingRun(BaseModel):
    """A run that stands on a document."""

    model_config = ConfigDict(frozen=True)

    run_id: UUID
    workflow: str
    finished_at: datetime
    document_id: UUID
    version: int
    """Of the document, when the run read it; the latest of several."""
    present: bool
    """Whether that is what the document says now; a replaced or deleted one does not."""
    quoted: bool
    """Whether the run's result cites it; otherwise the run was started with the same file."""


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
    fusion: Literal["scores", "ranks"] = "scores"
    """`scores`: text * text_score + vectors * vector_score. `ranks`: reciprocal rank fusion, the
    sum of weight / (rank_constant + rank) over the halves that found the chunk (Cormack et al.,
    SIGIR 2009)."""
    rank_constant: int = 60

    def __post_init__(self) -> None:
        """Raises `KnowledgeError` for weights that order nothing."""
        if min(self.text, self.vectors) < 0 or not self.text + self.vectors > 0:
            raise KnowledgeError(
                f"The weights are text {self.text} and vectors {self.vectors}: give numbers of 0 "
                "or more, one of them above 0"
            )
        if self.rank_constant < 1:
            raise KnowledgeError(f"rank_constant is {self.rank_constant}: give 1 or more")
