"""What a user declares, and what comes back."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rotina.graphs.language import Language

ProblemKind = Literal["invented", "missing", "avoided", "placeholder", "language", "length"]
"""`invented`: a number, date, amount, code or address that the briefing does not state;
`missing`: a term that must be there; `avoided`: one that must not; `placeholder`: a gap left to be
filled in, as `[name]`; `language`: the wrong one; `length`: too many words."""


class DraftProblem(BaseModel):
    """What is wrong with a draft."""

    model_config = ConfigDict(frozen=True)

    kind: ProblemKind
    what: str
    """What it is about, as it is written, or a sentence."""


class Draft(BaseModel):
    """A text for a person to look through, and what code found wrong with it."""

    title: str
    """Empty where the model gave none."""
    text: str
    language: Language
    words: int
    """Of the text, without the title."""
    problems: list[DraftProblem] = Field(default_factory=list)
    """Empty when every check passed, at once or after a repair."""
    repaired: bool = False
    """Whether it was asked for once more; the better of the two is here."""


@dataclass(frozen=True)
class Drafting:
    """How texts are drafted."""

    instructions: str = ""
    """House style, who writes; part of the system prompt."""
    avoid: tuple[str, ...] = ()
    """Words and phrases that no draft may have, compared without case and accents."""
    route: str = "smart"
    answer_tokens: int = 2500
    """Tokens that one answer may take at most; fewer words get fewer."""
