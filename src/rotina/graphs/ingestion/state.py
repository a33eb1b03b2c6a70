"""State of the ingestion graph: JSON only, so that every checkpoint is plain data."""

import operator
from typing import Annotated, Any, NotRequired, TypedDict


class Batch(TypedDict):
    """Vectors of some chunks in one space, packed as `rotina.knowledge.vectors.pack` does."""

    space: str
    places: list[int]
    vectors: list[str]
    model: str


class BatchState(TypedDict):
    """What one `embed` task gets."""

    space: str
    places: list[int]
    texts: list[str]
    route: str


class IngestionState(TypedDict, total=False):
    """Input: all up to `valid_to`. Output: `ingested`, an `Ingested`."""

    document: dict[str, Any]
    """A file reference."""
    collection: str
    uri: str | None
    """What the document replaces; the file's name unless given."""
    metadata: dict[str, Any]
    language: str | None
    access: list[str]
    """Labels of which who searches needs one; everybody when empty."""
    valid_from: str | None
    valid_to: str | None
    """ISO 8601, with a time zone."""
    loaded: dict[str, Any]
    batches: Annotated[list[Batch], operator.add]
    ingested: NotRequired[dict[str, Any]]
