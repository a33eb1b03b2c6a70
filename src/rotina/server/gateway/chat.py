"""The gateway in OpenAI's protocol: `/v1/chat/completions`."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from uuid_utils.compat import uuid7

from rotina.errors import ModelOutputError, RotinaError
from rotina.gateway import ChatAnswer, ChatChunk, Gateway, Usage
from rotina.gateway.encoding import to_json
from rotina.server.gateway.chat_forms import ChatCompletionRequest, CompletionUsage
from rotina.server.gateway.exchange import Exchange
from rotina.server.gateway.models import check_model
from rotina.server.gateway.trail import Trail
from rotina.server.problems import problem_of
from rotina.server.streaming import encode_event

DONE = encode_event("[DONE]")
UNFINISHED = frozenset({"length", "max_tokens", "content_filter"})
"""Reasons to stop early for which the protocols have words: the answer says so itself."""


async def complete(exchange: Exchange) -> None:
    """One answer of a model, whole or streamed; `model` is a route or a model's own name."""
    wanted = await exchange.form(ChatCompletionRequest)
    check_model(exchange.face.settings, wanted.model)
    if wanted.stream:
        await exchange.stream(_Stream(wanted, exchange.gateway, exchange.trail).pieces())
        return
    asking = exchange.gateway.chat(
        wanted.gateway_messages(), route=wanted.model, **wanted.parameters()
    )
    answer = await exchange.while_connected(legitimate(asking))
    await exchange.answer(_completion(answer))


async def legitimate(asking: Any) -> ChatAnswer:
    """The answer that is awaited; also one that is cut, filtered or refused: it says so itself.

    For agents these are errors, since nobody may take them for whole; the protocols have words
    for them.
    """
    try:
        answer: ChatAnswer = await asking
    except ModelOutputError as error:
        found = error.answer
        if not isinstance(found, ChatAnswer) or not (
            found.refusal or found.finish_reason in UNFINISHED
        ):
            raise
        return found
    return answer


def reason_of(finish_reason: str | None) -> str:
    """The finish reason in the protocol's words."""
    return "length" if finish_reason == "max_tokens" else finish_reason or "stop"


def _completion(answer: ChatAnswer) -> dict[str, Any]:
    """As `ChatCompletion` declares it."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.tool_calls:
        message["tool_calls"] = list(answer.tool_calls)
    if answer.refusal:
        message["refusal"] = answer.refusal
    return {
        "id": _new_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": answer.model,
        "choices": [
            {"index": 0, "message": message, "finish_reason": reason_of(answer.finish_reason)}
        ],
        "usage": _usage(answer.usage),
    }


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    """None where the model server did not say."""
    if usage is None or usage == Usage():
        return None
    return CompletionUsage.of(usage).model_dump()


def _new_id() -> str:
    return f"chatcmpl-{uuid7().hex}"


class _Stream:
    """One answer on its way, in pieces."""

    def __init__(self, wanted: ChatCompletionRequest, gateway: Gateway, trail: Trail) -> None:
        self._wanted = wanted
        self._gateway = gateway
        self._trail = trail
        self._id = _new_id()
        self._created = int(time.time())
        self._model = wanted.model
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._refusal = ""

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events.

        What fails before the first piece is raised; later it is an event with an `error`, and the
        stream ends without `[DONE]`. The finish reason is sent once the answer is checked.
        """
        begun = False
        try:
            async with aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    if not begun:
                        begun = True
                        yield self._piece({"role": "assistant", "content": ""})
                    if delta := _delta(chunk):
                        yield self._piece(delta)
        except RotinaError as error:
            if not begun:
                raise
            yield self._trail.comment() + encode_event(problem_of(error).openai())
            return
        yield self._piece({}, finish_reason=reason_of(self._finish))
        if self._wanted.includes_usage:
            yield self._event(choices=[], usage=_usage(self._usage))
        yield self._trail.comment() + DONE

    async def _chunks(self) -> AsyncGenerator[ChatChunk, None]:
        stream = self._gateway.stream(
            self._wanted.gateway_messages(), route=self._wanted.model, **self._wanted.parameters()
        )
        try:
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    self._note(chunk)
                    yield chunk
        except ModelOutputError:
            if self._finish not in UNFINISHED and not self._refusal:
                raise

    def _note(self, chunk: ChatChunk) -> None:
        self._usage = chunk.usage or self._usage
        self._model = chunk.model or self._model
        self._finish = chunk.finish_reason or self._finish
        self._refusal += chunk.refusal or ""

    def _piece(self, delta: dict[str, Any], *, finish_reason: str | None = None) -> bytes:
        return self._event(
            choices=[{"index": 0, "delta": delta, "finish_reason": finish_reason}], usage=None
        )

    def _event(self, *, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> bytes:
        body: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }
        if self._wanted.includes_usage:
            body["usage"] = usage
        return encode_event(to_json(body).decode())


def _delta(chunk: ChatChunk) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    if chunk.text:
        delta["content"] = chunk.text
    if chunk.tool_calls:
        delta["tool_calls"] = list(chunk.tool_calls)
    if chunk.refusal:
        delta["refusal"] = chunk.refusal
    return delta
