"""The text jobs of a business, each a workflow: summarize, translate, draft, write_code."""

from typing import Annotated

from pydantic import BaseModel, Field

from rotina.graphs.coding import CodingResult, build_coding
from rotina.graphs.drafting import Draft, build_drafting
from rotina.graphs.language import Language
from rotina.graphs.source_text import TextInput
from rotina.graphs.summary import SummaryResult, build_summary
from rotina.graphs.translation import TranslationResult, build_translation
from rotina.runs import Workflow

Term = Annotated[str, Field(min_length=1, max_length=100)]


class SummaryInput(TextInput):
    """What starts a run: `text` or `document`."""

    sentences: int = Field(default=5, ge=1, le=20)
    """At most that many."""
    language: Language | None = None
    """Of the summary; None: the text's."""


class SummaryOutput(BaseModel):
    """What a run ends with."""

    summary: SummaryResult


class TranslationInput(TextInput):
    """What starts a run: `text` or `document`."""

    to: Language
    source_language: Language | None = None
    """None: detected."""


class TranslationOutput(BaseModel):
    """What a run ends with."""

    translation: TranslationResult


class DraftInput(TextInput):
    """What starts a run: the briefing, as `text` or `document`."""

    kind: str | None = Field(default=None, max_length=200)
    """What to write: an e-mail, a product description, …"""
    audience: str | None = Field(default=None, max_length=200)
    tone: str | None = Field(default=None, max_length=200)
    words: int = Field(default=150, ge=10, le=800)
    """At most about that many."""
    language: Language | None = None
    """None: the briefing's."""
    must_mention: list[Term] = Field(default_factory=list, max_length=20)
    avoid: list[Term] = Field(default_factory=list, max_length=50)


class DraftOutput(BaseModel):
    """What a run ends with."""

    draft: Draft


class CodeInput(BaseModel):
    """What starts a run."""

    task: str = Field(min_length=1, max_length=4000)
    """What the code shall do, with the names and parameters of its functions."""
    tests: str | None = Field(default=None, max_length=20_000)
    """Python source of tests for the module `solution`; None: the model writes some."""


class CodeOutput(BaseModel):
    """What a run ends with."""

    coding: CodingResult


SUMMARIZE = Workflow(
    name="summarize",
    description="Summarise a text of any length; facts that it does not state are left out.",
    input=SummaryInput,
    output=SummaryOutput,
    build=build_summary,
)
TRANSLATE = Workflow(
    name="translate",
    description="Translate between English and Portuguese; numbers and placeholders are checked.",
    input=TranslationInput,
    output=TranslationOutput,
    build=build_translation,
)
DRAFT = Workflow(
    name="draft",
    description="Draft a text from a briefing; facts that the briefing does not state are told.",
    input=DraftInput,
    output=DraftOutput,
    build=build_drafting,
)
WRITE_CODE = Workflow(
    name="write_code",
    description="Write a Python module and run its tests in a limited process.",
    input=CodeInput,
    output=CodeOutput,
    build=build_coding,
)
