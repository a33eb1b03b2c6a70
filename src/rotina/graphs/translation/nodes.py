"""Nodes of translation: read, split, translate (once a part), join."""

import asyncio
from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Send

from rotina.errors import (
    ContextTooLongError,
    InvalidInputError,
    ModelOutputError,
    ModelTruncatedError,
)
from rotina.gateway import Message
from rotina.graphs.context import Context
from rotina.graphs.language import Language, detect
from rotina.graphs.source_text import source_text
from rotina.graphs.splitting import CHARACTERS_PER_TOKEN, halve, room
from rotina.graphs.translation.checks import Finding, check
from rotina.graphs.translation.marks import with_marks_of
from rotina.graphs.translation.parts import join, parts
from rotina.graphs.translation.prompts import SCHEMA, messages, repair
from rotina.graphs.translation.state import PartState, Translated, TranslationState
from rotina.graphs.translation.translation import (
    Translation,
    TranslationProblem,
    TranslationResult,
)

_GROWTH = 0.8
"""Of the characters an answer may have, those of its source: translations may be longer."""


class Nodes:
    """The nodes of one translation graph."""

    def __init__(self, translation: Translation) -> None:
        self._translation = translation

    async def read(self, state: TranslationState, runtime: Runtime[Context]) -> TranslationState:
        """The source and its language. Raises `InvalidInputError`, `DocumentError`."""
        to = state.get("to")
        if to not in ("en", "pt"):
            raise InvalidInputError(f"Cannot translate to {to!r}: set `to` to 'en' or 'pt'.")
        source = await source_text(state, runtime.context)
        written = state.get("source_language")
        if written is None:
            other: Language = "pt" if to == "en" else "en"
            written = await asyncio.to_thread(detect, source, default=other)
        return {"source": source, "source_language": written}

    def after_read(self, state: TranslationState) -> Literal["split", "join"]:
        """A text that is in the target language already is the answer."""
        return "join" if state["source_language"] == state["to"] else "split"

    async def split(self, state: TranslationState, runtime: Runtime[Context]) -> TranslationState:
        """Parts that fit the model's context. Raises `ContextTooLongError` when none would."""
        spec = self._translation
        constant = self._messages("", _languages(state))
        limit = room(runtime.context.gateway, spec.route, spec.answer_tokens, constant)
        limit = min(limit, int(spec.answer_tokens * CHARACTERS_PER_TOKEN * _GROWTH))
        spans = parts(state["source"], limit)
        if len(spans) > spec.most_parts:
            raise InvalidInputError(
                f"The text takes {len(spans)} calls of the route {spec.route!r}, and "
                f"{spec.most_parts} are allowed: split it, or raise most_parts."
            )
        return {"parts": spans}

    def fan_out(self, state: TranslationState) -> list[Send] | Literal["join"]:
        """One `translate` task a part; finished ones are checkpointed one by one."""
        return [
            Send(
                "translate",
                PartState(
                    index=part["index"],
                    text=state["source"][part["start"] : part["end"]],
                    source_language=_languages(state)[0],
                    to=state["to"],
                ),
            )
            for part in state["parts"]
        ] or "join"

    async def translate(self, state: PartState, runtime: Runtime[Context]) -> TranslationState:
        """One part, checked; asked for once more when a check fails."""
        languages = _languages(state)
        repaired = False
        try:
            text = await self._ask(state["text"], languages, runtime.context)
        except (ModelOutputError, ContextTooLongError) as error:
            text = state["text"]
            findings = [Finding("untranslated", str(error))]
        else:
            findings = await self._check(state["text"], text, languages)
            if findings:
                repaired = True
                text, findings = await self._repair(
                    state["text"], text, findings, languages, runtime.context
                )
        problems = [
            TranslationProblem(kind=kind, part=state["index"] + 1, what=what).model_dump()
            for kind, what in findings
        ]
        done = Translated(index=state["index"], text=text, problems=problems, repaired=repaired)
        return {"translated": [done]}

    async def join(self, state: TranslationState) -> TranslationState:
        """The parts in their places, with everything that stood between them."""
        written, to = _languages(state)
        done = sorted(state.get("translated", []), key=lambda each: each["index"])
        spans = state.get("parts", [])
        result = TranslationResult(
            text=join(state["source"], spans, [each["text"] for each in done]),
            source_language=written,
            language=to,
            unchanged=written == to,
            problems=[
                TranslationProblem.model_validate(problem)
                for each in done
                for problem in each["problems"]
            ],
            parts=len(spans),
            repaired=sum(each["repaired"] for each in done),
        )
        return {"translation": result.model_dump(mode="json")}

    async def _repair(
        self,
        source: str,
        text: str,
        findings: list[Finding],
        languages: tuple[Language, Language],
        context: Context,
    ) -> tuple[str, list[Finding]]:
        """The better one of two translations, and what is still wrong with it."""
        asked = [*self._messages(source, languages), *repair(text, findings)]
        try:
            again = await self._chat(asked, source, languages, context, "repair")
        except (ModelOutputError, ContextTooLongError):
            return text, findings
        remaining = await self._check(source, again, languages)
        return (again, remaining) if len(remaining) <= len(findings) else (text, findings)

    async def _ask(self, text: str, languages: tuple[Language, Language], context: Context) -> str:
        """The translation; what is too long after all is translated in halves."""
        try:
            asked = self._messages(text, languages)
            return await self._chat(asked, text, languages, context, "translate")
        except (ContextTooLongError, ModelTruncatedError):
            halves = halve(text)
            if not halves:
                raise
        done = [await self._ask(half.strip(), languages, context) for half in halves]
        gap = (
            halves[0][len(halves[0].rstrip()) :]
            + halves[1][: len(halves[1]) - len(halves[1].lstrip())]
        )
        return gap.join(done)

    async def _chat(
        self,
        asked: list[Message],
        source: str,
        languages: tuple[Language, Language],
        context: Context,
        node: str,
    ) -> str:
        answer = await context.at(node).chat(
            asked,
            route=self._translation.route,
            schema=SCHEMA,
            schema_name="translation",
            max_tokens=self._translation.answer_tokens,
        )
        text = str(answer.data["translation"]).strip()
        if not text:
            raise ModelOutputError("The translation is empty: try another model.")
        return with_marks_of(text, source, languages)

    async def _check(
        self, source: str, text: str, languages: tuple[Language, Language]
    ) -> list[Finding]:
        return await asyncio.to_thread(check, source, text, languages, self._translation.glossary)

    def _messages(self, text: str, languages: tuple[Language, Language]) -> list[Message]:
        return messages(text, languages, self._translation.instructions, self._translation.glossary)


def _languages(state: TranslationState | PartState) -> tuple[Language, Language]:
    """From and to; `read` has settled the first."""
    return state["source_language"] or "en", state["to"]
