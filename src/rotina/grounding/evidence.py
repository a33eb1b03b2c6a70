"""What grounding returns: a value, and the characters of the source that prove it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Method = Literal["exact", "text", "number", "date", "currency", "code"]
"""How the quote was matched: letter by letter; ignoring case, accents and white space; as a
number; as a date; as a currency sign or name; or as a code ignoring its punctuation."""


class Evidence(BaseModel):
    """Characters of a source: `source[start:end] == quote`, always."""

    model_config = ConfigDict(frozen=True)

    start: int = Field(ge=0)
    end: int = Field(ge=0)
    quote: str
    method: Method


class GroundedField(BaseModel):
    """One leaf value of an extraction."""

    model_config = ConfigDict(frozen=True)

    path: str
    """JSON Pointer (RFC 6901) of the leaf, e.g. `/lines/0/quantity`."""
    value: Any
    evidence: Evidence | None
    """None: no characters prove the value; it must not be shown as proven."""

    @property
    def proven(self) -> bool:
        """Whether characters of the source prove the value."""
        return self.evidence is not None
