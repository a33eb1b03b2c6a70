"""A document as text, with maps from characters back to pages and lines."""

from bisect import bisect_right
from functools import cached_property
from itertools import pairwise
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Page(BaseModel):
    """One page (or sheet) of a document: `document.text[start:end]`."""

    model_config = ConfigDict(frozen=True)

    number: int = Field(ge=1)
    start: int = Field(ge=0)
    end: int = Field(ge=0)


class Heading(BaseModel):
    """A heading that the format marks as one: `document.text[start:end]`."""

    model_config = ConfigDict(frozen=True)

    level: int = Field(ge=1)
    """1 stands above 2."""
    start: int = Field(ge=0)
    end: int = Field(ge=1)


class Document(BaseModel):
    """A document's text. Offsets are Python string indices (Unicode code points)."""

    model_config = ConfigDict(frozen=True)

    name: str
    media_type: str
    sha256: str
    """Hash of the original bytes, in hex."""
    text: str
    pages: list[Page] = Field(default_factory=list)
    """Empty for formats without pages."""
    headings: list[Heading] = Field(default_factory=list)
    """In order; empty where the format does not say what a heading is (text, Markdown, PDF)."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Title, author, subject, sender, … as the format offers them."""

    @model_validator(mode="after")
    def _pages_lie_in_the_text(self) -> Self:
        for page in self.pages:
            if not page.start <= page.end <= len(self.text):
                raise ValueError(
                    f"page {page.number} is [{page.start}, {page.end}) of a text of "
                    f"{len(self.text)} characters"
                )
        for before, page in pairwise(self.pages):
            if page.start < before.end or page.number <= before.number:
                raise ValueError(f"page {page.number} does not follow page {before.number}")
        return self

    @model_validator(mode="after")
    def _headings_lie_in_the_text(self) -> Self:
        earliest = 0
        for heading in self.headings:
            if not earliest <= heading.start < heading.end <= len(self.text):
                raise ValueError(
                    f"the heading [{heading.start}, {heading.end}) is empty, out of order or "
                    f"outside of a text of {len(self.text)} characters"
                )
            earliest = heading.end
        return self

    @cached_property
    def _line_starts(self) -> list[int]:
        starts = [0]
        starts.extend(i + 1 for i, character in enumerate(self.text) if character == "\n")
        return starts

    def line_of(self, offset: int) -> int:
        """The 1-based line that holds the character at `offset`."""
        return bisect_right(self._line_starts, offset)

    def page_of(self, offset: int) -> int | None:
        """The page number that holds the character at `offset`, or None."""
        index = bisect_right([page.start for page in self.pages], offset) - 1
        return self.pages[index].number if index >= 0 else None
