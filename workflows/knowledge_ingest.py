"""knowledge_ingest: a file in; its chunks in a collection of the knowledge base."""

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

from rotina.graphs.ingestion import Ingested, build_ingestion
from rotina.runs import FileReference, Workflow


class IngestInput(BaseModel):
    """What starts a run."""

    document: FileReference
    collection: str
    uri: str | None = None
    """What the document replaces; the file's name unless given."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    language: Literal["en", "pt"] | None = None
    access: list[str] = Field(default_factory=list)
    """Labels of which who searches needs one; everybody when empty."""
    valid_from: AwareDatetime | None = None
    valid_to: AwareDatetime | None = None
    """The first moment when it no longer holds."""


class IngestOutput(BaseModel):
    """What a run ends with."""

    ingested: Ingested


KNOWLEDGE_INGEST = Workflow(
    name="knowledge_ingest",
    description="Put a document into a collection of the knowledge base.",
    input=IngestInput,
    output=IngestOutput,
    build=build_ingestion,
)
