"""Nodes of summaries: read, split, note (once a part), plan, condense (once a batch), check."""

import asyncio
from collections.abc import Sequence
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
from rotina.graphs.language import LANGUAGE_NAMES, detect
from rotina.graphs.source_text import source_text
from rotina.graphs.splitting import halve, room, split
from rotina.graphs.summary.condensing import batches, latest, thinned
from rotina.graphs.summary.prompts import (
    condense_messages,
    condense_schema,
    note_messages,
    note_schema,
)
from rotina.graphs.summary.proof import Proof
from rotina.graphs.summary.state import BatchState, Note, Notes, PartState, SummaryState
from rotina.graphs.summary.summary import (
    FlaggedSentence,
    Summary,
    SummaryResult,
    SummarySentence,
)

DEFAULT_SENTENCES = 5
_NOTES_A_PART = 4


class Nodes:
    """The nodes of one summary graph."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary

    async def read(self, state: SummaryState, runtime: Runtime[Context]) -> SummaryState:
        """The source and both languages. Raises `InvalidInputError`, `DocumentError`."""
        source = await source_text(state, runtime.context)
        written = await asyncio.to_thread(detect, source)
        language = state.get("language") or written
        return {
            "source": source,
            "source_language": written,
            "language": language,
            "sentences": state.get("sentences") or DEFAULT_SENTENCES,
        }

    async def split(self, state: SummaryState, runtime: Runtime[Context]) -> SummaryState:
        """Parts that fit the model's context. Raises `ContextTooLongError` when none would."""
        constant = note_messages("", 1, "en", self._summary.instructions)
        pieces = split(state["source"], [], self._room(runtime.context, constant))
        if len(pieces) > self._summary.most_parts:
            raise InvalidInputError(
                f"The text takes {len(pieces)} calls of the route {self._summary.route!r}, and "
                f"{self._summary.most_parts} are allowed: split it, raise most_parts, or use a "
                "model with more context."
            )
        return {"parts": pieces}

    def fan_out(self, state: SummaryState) -> list[Send]:
        """One `note` task a part; finished ones are checkpointed one by one."""
        whole = len(state["parts"]) == 1
        sentences = state["sentences"] if whole else min(state["sentences"], _NOTES_A_PART)
        return [
            Send(
                "note",
                PartState(
                    index=part["index"],
                    text=state["source"][part["start"] : part["end"]],
                    sentences=sentences,
                    language=state["language"] or "en",
                ),
            )
            for part in state["parts"]
        ]

    async def note(self, state: PartState, runtime: Runtime[Context]) -> SummaryState:
        """What one part says. An unusable answer is a problem of this part, not of the others."""
        try:
            notes = await self._notes(state, state["text"], runtime.context)
            problem = None if notes else "the model found nothing to say"
        except (ModelOutputError, ContextTooLongError) as error:
            notes, problem = [], str(error)
        if problem:
            problem = f"Part {state['index'] + 1} is not in the summary: {problem}"
        found = Notes(level=0, index=state["index"], notes=notes, problem=problem)
        return {"notes": [found]}

    async def plan(self, state: SummaryState, runtime: Runtime[Context]) -> SummaryState:
        """Batches of notes to condense; none when the notes are the summary."""
        level, notes = latest(state["notes"])
        constant = condense_messages([], 1, "en", self._summary.instructions)
        limit = self._room(runtime.context, constant)
        language = state["language"] or "en"
        return {"batches": batches(notes, level, limit, state["sentences"], language)}

    def after_plan(self, state: SummaryState) -> list[Send] | Literal["check"]:
        """Condense, until few enough notes are left."""
        return [Send("condense", batch) for batch in state["batches"]] or "check"

    async def condense(self, state: BatchState, runtime: Runtime[Context]) -> SummaryState:
        """Fewer notes that say the same. Without a usable answer some are left out, and told."""
        problem = None
        try:
            notes = await self._condensed(state, runtime.context)
        except (ModelOutputError, ContextTooLongError) as error:
            notes = []
            problem = f"Notes were left out instead of merged: {error}"
        if not notes:
            problem = problem or "Notes were left out instead of merged: the model merged none"
            notes = thinned(state["notes"], state["sentences"])
        found = Notes(level=state["level"], index=state["index"], notes=notes, problem=problem)
        return {"notes": [found]}

    async def check(self, state: SummaryState) -> SummaryState:
        """Keep the sentences whose facts the source states, each with what it rests on."""
        result = await asyncio.to_thread(_checked, state)
        return {"summary": result.model_dump(mode="json")}

    def _room(self, context: Context, constant: Sequence[Message]) -> int:
        return room(context.gateway, self._summary.route, self._summary.answer_tokens, constant)

    async def _notes(self, state: PartState, text: str, context: Context) -> list[Note]:
        count, language = state["sentences"], state["language"]
        try:
            answer = await context.at("note").chat(
                note_messages(text, count, language, self._summary.instructions),
                route=self._summary.route,
                schema=note_schema(count),
                schema_name="summary",
                max_tokens=self._summary.answer_tokens,
            )
        except (ContextTooLongError, ModelTruncatedError):
            halves = halve(text)
            if not halves:
                raise
            return [note for half in halves for note in await self._notes(state, half, context)]
        return [
            {"text": said["text"], "quotes": [said["quote"]]}
            for said in answer.data["sentences"]
            if said["text"].strip()
        ]

    async def _condensed(self, state: BatchState, context: Context) -> list[Note]:
        notes, count, language = state["notes"], state["sentences"], state["language"]
        answer = await context.at("condense").chat(
            condense_messages(notes, count, language, self._summary.instructions),
            route=self._summary.route,
            schema=condense_schema(count),
            schema_name="summary",
            max_tokens=self._summary.answer_tokens,
        )
        return [
            {"text": said["text"], "quotes": _quotes(said["notes"], notes)}
            for said in answer.data["sentences"]
            if said["text"].strip()
        ]


def _quotes(numbers: list[int], notes: list[Note]) -> list[str]:
    """The quotes of the notes with these numbers, from 1 on; others do not exist."""
    named = [notes[number - 1] for number in numbers if 0 < number <= len(notes)]
    return list(dict.fromkeys(quote for note in named for quote in note["quotes"]))


def _checked(state: SummaryState) -> SummaryResult:
    language = state["language"] or "en"
    written = state["source_language"]
    proof = Proof(state["source"], state["parts"], written)
    _, notes = latest(state["notes"])
    checked = [proof.check(note, language) for note in notes]
    kept = list(
        {each.text: each for each in checked if isinstance(each, SummarySentence)}.values()
    )[: state["sentences"]]
    text = " ".join(sentence.text for sentence in kept)
    problems = [group["problem"] for group in state["notes"] if group["problem"]]
    if not kept:
        problems.append("No sentence could be kept.")
    elif detect(text, default=language) != language:
        problems.append(f"The summary is not written in {LANGUAGE_NAMES[language]}.")
    return SummaryResult(
        text=text,
        sentences=kept,
        flagged=[each for each in checked if isinstance(each, FlaggedSentence)],
        problems=problems,
        language=language,
        source=state["source"],
        parts=len(state["parts"]),
    )
