"""State of the support graph: JSON only, so that every checkpoint is plain data."""

from typing import Any, NotRequired, TypedDict

from rotina.gateway import Message
from rotina.graphs.language import Language


class Pending(TypedDict):
    """What waits for the customer's yes or no; kept in the thread's state."""

    tool: str
    """A tool's name, or `person`."""
    arguments: dict[str, Any]
    asked: str
    """The question, as the customer read it."""
    language: Language


class Decision(TypedDict):
    """What the customer wants."""

    action: str
    """`answer`, `person`, `talk`, `confirm`, `decline`, or a tool's name."""
    question: NotRequired[str]
    """The question so that it stands alone."""
    arguments: NotRequired[dict[str, Any]]
    """As the model copied them: nothing is checked yet."""


class SupportState(TypedDict, total=False):
    """Input: `thread` and `text`. Output: `reply`, a `SupportReply`."""

    thread: str
    text: str
    today: str
    language: Language
    customer: str | None
    history: list[Message]
    """What was said before, oldest first."""
    pending: Pending | None
    decision: Decision
    passages: list[dict[str, Any]]
    reply: dict[str, Any]
    next_pending: Pending | None
    """What the reply asks a yes or no for."""
