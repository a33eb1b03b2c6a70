"""What a user declares, and what comes back."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rotina.graphs.coding.sandbox import Outcome, SandboxLimits

Author = Literal["caller", "model"]


class Attempt(BaseModel):
    """One round: code, and what became of it."""

    model_config = ConfigDict(frozen=True)

    code: str
    """Empty when the model's answer held none."""
    outcome: Outcome | Literal["no_code"]
    passed_cases: int = 0
    output: str
    """What the code printed and what went wrong, or why there is no code."""
    guards: list[str] = Field(default_factory=list)
    """See `SandboxReport.guards`."""


class CodingResult(BaseModel):
    """Python code, and whether it passed its tests."""

    code: str
    """Of the first attempt that passed, else of the one that passed most tests, the latest such."""
    passed: bool
    outcome: Outcome | Literal["no_code"]
    tests: str
    tests_by: Author
    """Tests that the model wrote prove less: they may be wrong, or test too little."""
    output: str
    rounds: int
    attempts: list[Attempt]


@dataclass(frozen=True)
class Coding:
    """How code is written and how often it is repaired."""

    instructions: str = ""
    """House rules; part of the system prompt."""
    rounds: int = 3
    """Attempts in all: the first one and its repairs."""
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    at_once: int = 4
    """Tests that one worker process runs at the same time; others wait."""
    route: str = "smart"
    answer_tokens: int = 1200
    """Tokens that one answer may take."""
