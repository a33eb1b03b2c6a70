"""Nodes of drafting: read, write, repair."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from langgraph.runtime import Runtime

from rotina.errors import ContextTooLongError, InvalidInputError, ModelOutputError
from rotina.gateway import Message
from rotina.graphs.context import Context
from rotina.graphs.drafting.checks import check
from rotina.graphs.drafting.drafting import Draft, Drafting
from rotina.graphs.drafting.prompts import SCHEMA, Order, messages, repair
from rotina.graphs.drafting.state import DraftingState
from rotina.graphs.language import detect
from rotina.graphs.source_text import source_text
from rotina.graphs.splitting import room

DEFAULT_WORDS = 150
_TOKENS_A_WORD, _FORM_TOKENS = 3, 100
"""What an answer takes: Portuguese has about two tokens a word, and models overrun."""


class Nodes:
    """The nodes of one drafting graph."""

    def __init__(self, drafting: Drafting) -> None:
        self._drafting = drafting

    async def read(self, state: DraftingState, runtime: Runtime[Context]) -> DraftingState:
        """The briefing, and whether it fits.

        Raises `InvalidInputError` when it is empty or too long, `DocumentError`,
        `ContextTooLongError` when the prompt alone is too long.
        """
        spec, context = self._drafting, runtime.context
        empty = self._order({**state, "briefing": "", "language": "en"})
        briefing = await source_text(state, context)
        limit = room(
            context.gateway,
            spec.route,
            # Twice: a repair holds the draft before it as well.
            2 * self._tokens(empty),
            messages(empty, spec.instructions),
        )
        if len(briefing) > limit:
            raise InvalidInputError(
                f"The briefing has {len(briefing)} characters, and {limit} fit the route "
                f"{spec.route!r}: shorten it (the workflow `summarize` can), or use a model with "
                "more context."
            )
        language = state.get("language") or await asyncio.to_thread(detect, briefing)
        return {"briefing": briefing, "language": language}

    async def write(self, state: DraftingState, runtime: Runtime[Context]) -> DraftingState:
        """The first draft, checked. Raises `ModelOutputError` when there is none to be had."""
        order = self._order(state)
        asked = messages(order, self._drafting.instructions)
        draft = await self._ask(order, asked, runtime.context, "write")
        return {"draft": draft.model_dump(mode="json")}

    def after_write(self, state: DraftingState) -> Literal["repair", "end"]:
        """A draft with problems is asked for once more."""
        return "repair" if state["draft"]["problems"] else "end"

    async def repair(self, state: DraftingState, runtime: Runtime[Context]) -> DraftingState:
        """The better of the two drafts."""
        order, first = self._order(state), Draft.model_validate(state["draft"])
        asked = messages(order, self._drafting.instructions)
        asked += repair(first.title, first.text, first.problems)
        try:
            second = await self._ask(order, asked, runtime.context, "repair")
        except (ModelOutputError, ContextTooLongError):
            second = first
        better = second if len(second.problems) <= len(first.problems) else first
        return {"draft": better.model_copy(update={"repaired": True}).model_dump(mode="json")}

    def _order(self, state: DraftingState) -> Order:
        return Order(
            briefing=state["briefing"],
            language=state.get("language") or "en",
            words=state.get("words") or DEFAULT_WORDS,
            kind=state.get("kind"),
            audience=state.get("audience"),
            tone=state.get("tone"),
            must_mention=tuple(state.get("must_mention") or ()),
            avoid=(*self._drafting.avoid, *(state.get("avoid") or ())),
        )

    def _tokens(self, order: Order) -> int:
        return min(self._drafting.answer_tokens, _FORM_TOKENS + _TOKENS_A_WORD * order.words)

    async def _ask(
        self, order: Order, asked: Sequence[Message], context: Context, node: str
    ) -> Draft:
        answer = await context.at(node).chat(
            asked,
            route=self._drafting.route,
            schema=SCHEMA,
            schema_name="draft",
            max_tokens=self._tokens(order),
        )
        title, text = (str(answer.data[name]).strip() for name in ("title", "text"))
        if not text:
            raise ModelOutputError("The draft is empty: try another model.")
        return Draft(
            title=title,
            text=text,
            language=order.language,
            words=len(text.split()),
            problems=await asyncio.to_thread(check, order, title, text),
        )
