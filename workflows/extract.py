"""extract: any document against any JSON Schema."""

from typing import Any

from pydantic import BaseModel, Field

from rotina.graphs.extraction import ExtractionResult, build_extraction
from rotina.runs import FileReference, Workflow


class ExtractInput(BaseModel):
    """What starts a run."""

    document: FileReference
    json_schema: dict[str, Any] = Field(alias="schema")


class ExtractOutput(BaseModel):
    """What a run ends with."""

    extraction: ExtractionResult


EXTRACT = Workflow(
    name="extract",
    description="Take what a JSON Schema asks for out of a document, with proof.",
    input=ExtractInput,
    output=ExtractOutput,
    build=build_extraction,
)
