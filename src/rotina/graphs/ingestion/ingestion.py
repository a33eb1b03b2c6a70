"""How to ingest, and what comes back."""

from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class Ingested(BaseModel):
    """A document that is in its collection."""

    model_config = ConfigDict(frozen=True)

    collection: str
    uri: str
    document_id: UUID
    version: int
    chunks: int
    unchanged: bool
    """The same content was there already: nothing was embedded."""


@dataclass(frozen=True)
class Ingestion:
    """How documents are ingested."""

    batch: int = 64
    """Chunks that are embedded, and checkpointed, as one task."""
