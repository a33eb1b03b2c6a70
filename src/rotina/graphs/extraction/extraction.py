"""What to extract, and what comes back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from rotina.graphs.extraction.schema import schema_of, wire_schema

Check = Callable[[Mapping[str, Any]], "list[Problem]"]
"""Looks at the extracted data (JSON values) and returns what is wrong with it."""


class Problem(BaseModel):
    """Something in the data that does not fit: a schema violation, or sums that do not add up."""

    model_config = ConfigDict(frozen=True)

    path: str
    """JSON Pointer of the value concerned; empty for the whole."""
    message: str


class ExtractedField(BaseModel):
    """One leaf value and its proof: `document.text[start:end] == quote`, or no proof at all."""

    model_config = ConfigDict(frozen=True)

    path: str
    value: Any
    proven: bool
    quote: str | None = None
    start: int | None = None
    end: int | None = None
    page: int | None = None
    line: int | None = None
    method: str | None = None


class ReadDocument(BaseModel):
    """The document as it was read: what every `start` and `end` counts in."""

    model_config = ConfigDict(frozen=True)

    name: str
    sha256: str
    media_type: str
    pages: int
    """0 for formats without pages."""
    text: str


class ExtractionResult(BaseModel):
    """What a document says, each value with its proof."""

    data: dict[str, Any]
    """In the shape of the user's schema; what was not found is null."""
    fields: list[ExtractedField]
    problems: list[Problem] = Field(default_factory=list)
    document: ReadDocument
    pieces: int = 1
    """Parts the document was read in."""


@dataclass(frozen=True)
class Extraction:
    """A kind of document and what to take from it.

    `shape` is a Pydantic model or a JSON Schema. `examples` are pairs of a document's text and
    the answer for it, values copied as they stand there; they become a constant prompt prefix.
    """

    shape: type[BaseModel] | Mapping[str, Any]
    instructions: str = ""
    examples: tuple[tuple[str, dict[str, Any]], ...] = ()
    checks: tuple[Check, ...] = ()
    route: str = "smart"
    answer_tokens: int = 1500
    """Tokens that one answer may take."""

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The user's schema without references; raises `SchemaError`."""
        return schema_of(self.shape)

    @cached_property
    def wire(self) -> dict[str, Any]:
        """The schema that the model fills in."""
        return wire_schema(self.schema)
