"""What a support bot is made of, and what it replies."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, Field

from rotina.graphs.language import Language
from rotina.graphs.support.phrases import GREETING
from rotina.graphs.support.tool import Call, Tool, Words
from rotina.knowledge import Citation

ReplyStatus = Literal[
    "answered",  # from the sources, with citations
    "unknown",  # the sources do not say; a person is offered
    "told",  # a tool looked it up
    "needs",  # a tool lacks arguments
    "asked",  # an effect waits for yes or no
    "done",  # an effect was carried out
    "declined",  # the customer said no
    "handed_over",  # a person takes over
    "talk",  # a greeting or thanks
]

PERSON = "person"
RESERVED = frozenset({"answer", PERSON, "talk", "confirm", "decline"})
"""Actions that are no tools."""


class SupportReply(BaseModel):
    """What the bot says, and why."""

    text: str
    status: ReplyStatus
    language: Language
    citations: list[Citation] = Field(default_factory=list)
    tool: str | None = None
    result: dict[str, Any] | None = None
    """What the tool, or the hand-over, returned."""
    dropped: list[str] = Field(default_factory=list)
    """Sentences of the model without proof; not shown to the customer."""


@dataclass(frozen=True)
class Support:
    """A support bot: its sources, its tools, and how it hands over to a person.

    `collections` names for each language where its answers come from; the other language's are
    searched when the customer's own have nothing. `examples` are pairs of a message and the
    decision for it (see `docs/reference/support.md`): a constant prompt prefix that small models
    need.
    """

    collections: Mapping[Language, tuple[str, ...]]
    tools: tuple[Tool, ...] = ()
    persona: str = ""
    """A line or two on who answers, in English."""
    greeting: Words = field(default_factory=lambda: GREETING)
    hand_over: Callable[[Call, str], Awaitable[dict[str, Any]]] | None = None
    """Tells a person, through `call.context.effects`; gets the reason. Without it, the reply's
    status alone says so."""
    examples: tuple[tuple[str, dict[str, Any]], ...] = ()
    k: int = 4
    floor: float | None = None
    route: str = "smart"

    def __post_init__(self) -> None:
        """Raises `ValueError` for names of tools that clash."""
        names = [tool.name for tool in self.tools]
        for name in names:
            if name in RESERVED or names.count(name) > 1:
                raise ValueError(f"Two actions are named {name!r}: rename the tool.")

    @cached_property
    def by_name(self) -> dict[str, Tool]:
        """The tools by name."""
        return {tool.name: tool for tool in self.tools}
