"""What a user declares, and what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rotina.graphs.language import Language

ProblemKind = Literal[
    "missing", "invented", "paragraphs", "language", "length", "glossary", "untranslated"
]
"""`missing`: a number, date, placeholder, … of the source that is not in the translation;
`invented`: the reverse; `paragraphs`: not as many as in the source; `language`: the wrong one;
`length`: much shorter or longer than the source; `glossary`: a term that had a fixed translation;
`untranslated`: no usable answer, the part stands there as it was."""


class TranslationProblem(BaseModel):
    """What is wrong with a part of the translation."""

    model_config = ConfigDict(frozen=True)

    kind: ProblemKind
    part: int
    """From 1 on."""
    what: str
    """The token concerned as it is written, or a sentence."""


class TranslationResult(BaseModel):
    """A translation, and what code found wrong with it."""

    text: str
    source_language: Language
    language: Language
    unchanged: bool = False
    """The source was in the target language: the text is the source, and no model was asked."""
    problems: list[TranslationProblem] = Field(default_factory=list)
    """Empty when every check passed, at once or after a repair."""
    parts: int
    """Parts that went to the model."""
    repaired: int = 0
    """Parts that were asked for twice."""


@dataclass(frozen=True)
class Translation:
    """How texts are translated."""

    instructions: str = ""
    """On subject and register; part of the system prompt."""
    glossary: Mapping[str, Mapping[Language, str]] = field(default_factory=dict)
    """Terms with a fixed translation: a name of your choice to the term in each language."""
    route: str = "smart"
    answer_tokens: int = 1500
    """Tokens that one answer may take; parts are made small enough for it."""
    most_parts: int = 256
    """A longer text is refused: each part costs a call."""
