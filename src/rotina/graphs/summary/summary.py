"""What a user declares, and what comes back."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from rotina.graphs.language import Language
from rotina.grounding import Evidence


class SummarySentence(BaseModel):
    """A sentence whose facts all stand in the source."""

    model_config = ConfigDict(frozen=True)

    text: str
    supported: bool
    """Whether there is evidence: characters of the source that it rests on."""
    evidence: list[Evidence] = Field(default_factory=list)
    """`source[start:end] == quote`, always."""


class FlaggedSentence(BaseModel):
    """A sentence that was left out: it states what the source does not."""

    model_config = ConfigDict(frozen=True)

    text: str
    missing: list[str]
    """Numbers, dates, amounts and codes, as written, that are nowhere in the source."""


class SummaryResult(BaseModel):
    """A summary, each sentence with what it rests on."""

    text: str
    """The sentences, one after the other; empty when none could be kept."""
    sentences: list[SummarySentence]
    flagged: list[FlaggedSentence] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)
    """Parts that could not be summarised, and the like."""
    language: Language
    source: str
    """The text that was summarised: what every `start` and `end` counts in."""
    parts: int
    """Parts the source was read in."""


@dataclass(frozen=True)
class Summary:
    """How texts are summarised."""

    instructions: str = ""
    """What matters in these texts; part of the system prompt."""
    route: str = "smart"
    answer_tokens: int = 1200
    """Tokens that one answer may take."""
    most_parts: int = 64
    """A longer text is refused: each part costs a call."""
