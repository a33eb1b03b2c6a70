"""What a run waits for, as LangGraph's interrupt carries it from the node to the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

from langgraph.types import Interrupt
from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

MARK = "__rotina__"
"""The key by which an interrupt of ours is told from LangGraph's own."""


@dataclass(frozen=True)
class Question:
    """What a node asks a person."""

    interrupt_id: str
    question: str
    form: Mapping[str, Any]
    data: Mapping[str, Any]
    assignee: str | None = None
    seconds: float | None = None
    """How long it may take; None: for ever."""
    otherwise: Mapping[str, Any] | None = None
    """The answer that counts when that time is over; None: the node hears that nobody came."""

    def row(self) -> dict[str, Any]:
        """The question as parameters of `insert_review`."""
        return {
            **vars(self),
            "id": uuid7(),
            "form": Jsonb(self.form),
            "data": Jsonb(self.data),
            "otherwise": None if self.otherwise is None else Jsonb(self.otherwise),
        }


@dataclass(frozen=True)
class Wait:
    """A moment, an event or a group of runs that a node waits for."""

    interrupt_id: str
    kind: Literal["timer", "event", "children"]
    name: str | None = None
    key: str | None = None
    seconds: float | None = None
    until: datetime | None = None

    @classmethod
    def of(cls, interrupt_id: str, value: Mapping[str, Any]) -> Self:
        """What `request` made, as it comes out of a checkpoint."""
        until = value.get("until")
        fields = {**value, "until": None if until is None else datetime.fromisoformat(until)}
        return cls(interrupt_id, **fields)

    def row(self) -> dict[str, Any]:
        """The wait as parameters of `insert_wait`."""
        return {**vars(self), "id": uuid7()}


def read(interrupt: Interrupt) -> Question | Wait:
    """What a node asked; LangGraph's own `interrupt` is a question that takes any JSON object."""
    asked = interrupt.value
    if isinstance(asked, dict) and MARK in asked:
        fields = {name: value for name, value in asked.items() if name != MARK}
        if asked[MARK] == "wait":
            return Wait.of(interrupt.id, fields)
        return Question(interrupt.id, **fields)
    return Question(interrupt.id, str(asked), {"type": "object"}, {})
