"""State of the ingestion graph: JSON only, so that every checkpoint is plain data."""

import operator
from typing import Annotated, Any, NotRequired, TypedDict


class Batch(TypedDict):
    """Vectors of the chunks from `first` on, packed as `rotina.knowledge.store.pack` does."""

    first: int
    vectors: list[str]
    model: str


class BatchState(TypedDict):
    """What one `embed` task gets."""

    first: int
    texts: list[str]
    route: str


class IngestionState(TypedDict, total=False):
    """Input: all up to `language`. Output: `ingested`, an `Ingested`."""

    document: dict[str, Any]
    """A file reference."""
    collection: str
    uri: str | None
    """What the document replaces; the file's name unless given."""
    metadata: dict[str, Any]
    language: str | None
    loaded: dict[str, Any]
    batches: Annotated[list[Batch], operator.add]
    ingested: NotRequired[dict[str, Any]]
