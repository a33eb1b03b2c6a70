"""Tools: what a support bot may look up or do besides answering, declared in code."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from rotina.graphs.context import Context
from rotina.graphs.language import Language
from rotina.graphs.support.arguments import wire_schema

Words = Mapping[Language, str]
"""The same in English and in Portuguese."""


@dataclass(frozen=True)
class Call:
    """On whose behalf a tool runs."""

    context: Context
    thread: UUID
    customer: str | None
    """Who opened the thread, as the program that opened it says; None: unknown."""
    language: Language
    text: str
    """The customer's message."""


@dataclass(frozen=True)
class Tool:
    """Something the bot can look up (`effect=False`) or do (`effect=True`).

    A model chooses the tool and copies arguments out of the conversation. An argument counts only
    if the customer wrote it: what a model made up is refused, and the customer is asked. Literals,
    booleans, and the fields named in `free` are exempt: a choice, or words of the model's own.

    An effect is carried out only after the customer has said yes to `confirmation`, and `run` must
    change things through `call.context.effects` alone, so that it happens once.
    """

    name: str
    description: str
    """One line for the model: when to use it."""
    arguments: type[BaseModel]
    run: Callable[[Call, Any], Awaitable[dict[str, Any]]]
    """Gets the validated arguments; returns JSON."""
    tells: Callable[[dict[str, Any], Language], str]
    """The reply for what `run` returned. Code words it, so it says nothing that is not so."""
    label: Words
    """What it does, as an infinitive: "open a ticket", "abrir um chamado"."""
    asks_for: Mapping[str, Words] = field(default_factory=dict)
    """How to ask for each argument: "the order number", "o número do pedido"."""
    effect: bool = False
    confirmation: Callable[[Any, Language], str] | None = None
    """The question that a customer answers with yes or no; required for an effect."""
    free: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Raises `ValueError` for a declaration that cannot work."""
        if self.effect and self.confirmation is None:
            raise ValueError(f"Tool {self.name!r} has an effect: give it a `confirmation`.")
        unworded = set(self.arguments.model_fields) - set(self.asks_for) - self.free
        if unworded:
            missing = ", ".join(sorted(unworded))
            raise ValueError(f"Tool {self.name!r} cannot ask for {missing}: add to `asks_for`.")

    @cached_property
    def wire(self) -> dict[str, Any]:
        """The schema in which a model copies the arguments."""
        return wire_schema(self.arguments)
