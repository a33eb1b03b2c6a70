"""Asking one deployment: down the ladder of schemas, and again where an answer is not valid."""

import functools
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from rotina.errors import ContextTooLongError, ModelError, ModelOutputError
from rotina.gateway.answer import ChatAnswer, ChatChunk, Message, Reply, Usage
from rotina.gateway.budget import REPAIR_BYTES
from rotina.gateway.call import UNPAID, Call, OpenedStream, open_stream
from rotina.gateway.check import check_reply, not_valid
from rotina.gateway.guards import Guarded
from rotina.gateway.ladder import Ladder
from rotina.gateway.mirror import agreement
from rotina.gateway.provider import SchemaRefusedError
from rotina.gateway.structured import Contract

_REPAIR = (
    "That answer cannot be used:\n{problems}\n"
    "Answer again with the whole JSON value, corrected, and with nothing else."
)

_MOST_REPEATED = 50_000
"""Characters of a bad answer that its model is shown again."""
_PROSE = re.compile(r"\s*[^\s{\[\"\d-]")
"""How no JSON begins but true, false and null."""


@dataclass(frozen=True)
class Terms:
    """What an answer is held to, and who looks at it on the way."""

    contract: Contract | None = None
    repairs: int = 0
    guarded: Guarded | None = None

    @property
    def as_json(self) -> bool:
        """Whether the answer is to be JSON."""
        return self.contract is not None

    async def given(self, reply: Reply) -> Reply:
        """The reply as the caller gets it."""
        if self.guarded is None:
            return reply
        return await self.guarded.given(reply, as_json=self.as_json)

    def shown(self, reply: Reply) -> Reply:
        """The reply as errors may show it."""
        return reply if self.guarded is None else self.guarded.shown(reply)

    def masked(self, text: str) -> str:
        """What is said of a reply, as errors and its model may see it."""
        return text if self.guarded is None else self.guarded.masked(text)


async def ask(call: Call, ladder: Ladder, terms: Terms) -> ChatAnswer:
    """One complete answer of the call's deployment, repaired as often as the terms allow."""
    async with call:
        try:
            reply, data = await _valid(call, ladder, terms)
            if call.twin is not None:
                call.agreement = agreement(call.twin, reply.text, data)
        except ModelOutputError as error:
            if call.given is not None:
                error.answer = _as_answer(call.given, None, call)
            raise
    return _as_answer(reply, data, call)


def _as_answer(reply: Reply, data: Any, call: Call) -> ChatAnswer:
    return ChatAnswer(
        text=reply.text,
        data=data,
        tool_calls=reply.tool_calls,
        finish_reason=str(reply.finish_reason),
        refusal=reply.refusal,
        confidence=reply.confidence,
        truncated_messages=call.truncated,
        **call.facts(),
    )


async def _valid(call: Call, ladder: Ladder, terms: Terms) -> tuple[Reply, Any]:
    said: list[Message] = []
    invalid: ModelOutputError | None = None
    repairs = terms.repairs
    while True:
        try:
            raw = call.told = await _sent(call, ladder, said)
            call.count(raw.usage, raw.model)
            reply = call.given = await terms.given(raw)
            found = check_reply(
                reply, terms.contract, call.lane, fenced=ladder.fenced, shown=terms.shown(reply)
            )
        except ModelError as error:
            if invalid is not None and _says_less(error):
                raise invalid from None
            raise
        if not found.problems:
            ladder.worked()
            return reply, found.data
        problems = [terms.masked(problem) for problem in found.problems]
        invalid = not_valid(terms.shown(reply), problems[0], call.lane)
        if repairs == 0:
            raise invalid
        repairs -= 1
        said += _repair(raw.text, problems)
        if not found.is_json and _PROSE.match(raw.text):
            # A server that constrains its output begins with JSON: this one lets it be.
            ladder.descend(invalid)


def _says_less(error: ModelError) -> bool:
    """Whether the failure of a repair hides what matters: the answer that was to be repaired."""
    return isinstance(error, ContextTooLongError) or not error.elsewhere


def _repair(text: str, problems: Sequence[str]) -> list[Message]:
    """The messages that tell a model what is wrong with its answer."""
    told = "\n".join(f"- It {problem}" for problem in problems)
    return [
        Message(role="assistant", content=text[:_MOST_REPEATED]),
        Message(role="user", content=_REPAIR.format(problems=told[: REPAIR_BYTES // 5])),
    ]


async def _sent(call: Call, ladder: Ladder, said: Sequence[Message]) -> Reply:
    """What the server replies, at the highest level that it takes."""
    while True:
        request = call.asked = call.prepared(ladder.request(said))
        try:
            return await call.tried(functools.partial(call.lane.provider.chat, request))
        except SchemaRefusedError as refused:
            if not ladder.descend(refused.error):
                raise refused.error from None
        except UNPAID:
            raise
        except BaseException:
            # What a repair has cost is unknown, so what all has cost is.
            call.count(Usage(), None)
            raise


async def pieces(call: Call, ladder: Ladder, terms: Terms) -> AsyncGenerator[ChatChunk, None]:
    """The pieces of a streamed answer, at the highest level that the server takes."""
    opened = await _opened(call, ladder)
    ladder.worked()
    cut = {"truncated_messages": call.truncated}
    given = call.rest(opened)
    if terms.guarded is not None:
        given = terms.guarded.pieces(given, as_json=terms.as_json)
    async with aclosing(given) as chunks:
        async for chunk in chunks:
            yield chunk.model_copy(update=cut) if cut["truncated_messages"] else chunk
            cut["truncated_messages"] = 0


async def _opened(call: Call, ladder: Ladder) -> OpenedStream:
    while True:
        call.asked = call.prepared(ladder.request())
        opening = functools.partial(open_stream, call.lane.provider, call.asked)
        try:
            return await call.tried(opening)
        except SchemaRefusedError as refused:
            if not ladder.descend(refused.error):
                raise refused.error from None
