"""The gateway in OpenAI's protocol: `/v1/chat/completions`."""

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from uuid_utils.compat import uuid7

from rotina.errors import ModelOutputError, RotinaError
from rotina.gateway import ChatChunk, Gateway, Usage
from rotina.server.access import PROTECTION, TenantClient
from rotina.server.completion_forms import (
    ChatCompletion,
    ChatCompletionRequest,
    Choice,
    CompletionUsage,
    ResponseMessage,
    openai_problems,
)
from rotina.server.models import check_model
from rotina.server.problems import problem_of
from rotina.server.streaming import EventStream, encode_event, while_connected

router = APIRouter(prefix="/v1/chat/completions", tags=["gateway"], dependencies=PROTECTION)

DONE = encode_event("[DONE]")
UNFINISHED = frozenset({"length", "max_tokens", "content_filter"})
"""Reasons to stop early for which the protocol has words: the answer says so, and is handed on."""


@router.post(
    "",
    response_model=ChatCompletion,
    response_model_exclude_unset=True,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        **openai_problems(400, 404, 413, 415, 429, 502, 504),
    },
)
async def complete(wanted: ChatCompletionRequest, request: Request, client: TenantClient) -> Any:
    """One answer of a model, whole or streamed; `model` is a route or a model's own name."""
    check_model(request.app.state.settings, wanted.model)
    answer = _Answer(wanted, client.gateway)
    if not wanted.stream:
        return await while_connected(request, answer.whole())
    pieces = answer.pieces()
    first = await while_connected(request, _first(pieces))
    return EventStream(pieces, first)


async def _first(pieces: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(pieces)


class _Answer:
    """One answer on its way, as the gateway streams it.

    Whole answers are put together from a stream, too: one that is cut at `max_tokens` is a
    legitimate answer in this protocol, and the gateway raises only once its text is here.
    """

    def __init__(self, wanted: ChatCompletionRequest, gateway: Gateway) -> None:
        self._wanted = wanted
        self._gateway = gateway
        self._id = f"chatcmpl-{uuid7().hex}"
        self._created = int(time.time())
        self._model = wanted.model
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._refusal = ""

    async def whole(self) -> ChatCompletion:
        """The complete answer."""
        text, calls = "", _ToolCalls()
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                text += chunk.text
                calls.add(chunk)
        message = ResponseMessage(role="assistant", content=text or None)
        if calls.found:
            message.tool_calls = list(calls.found.values())
        if self._refusal:
            message.refusal = self._refusal
        return ChatCompletion(
            id=self._id,
            object="chat.completion",
            created=self._created,
            model=self._model,
            choices=[Choice(index=0, message=message, finish_reason=self._reason())],
            usage=self._usage_form(),
        )

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
            yield encode_event(problem_of(error).openai())
            return
        yield self._piece({}, finish_reason=self._reason())
        if self._wanted.includes_usage:
            yield self._event(choices=[], usage=self._usage_form())
        yield DONE

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

    def _reason(self) -> str:
        return "length" if self._finish == "max_tokens" else self._finish or "stop"

    def _usage_form(self) -> CompletionUsage | None:
        return None if self._usage is None else CompletionUsage.of(self._usage)

    def _piece(self, delta: dict[str, Any], *, finish_reason: str | None = None) -> bytes:
        return self._event(
            choices=[{"index": 0, "delta": delta, "finish_reason": finish_reason}], usage=None
        )

    def _event(self, *, choices: list[dict[str, Any]], usage: CompletionUsage | None) -> bytes:
        body: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }
        if self._wanted.includes_usage:
            body["usage"] = usage and usage.model_dump()
        return encode_event(json.dumps(body))


def _delta(chunk: ChatChunk) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    if chunk.text:
        delta["content"] = chunk.text
    if chunk.tool_calls:
        delta["tool_calls"] = list(chunk.tool_calls)
    if chunk.refusal:
        delta["refusal"] = chunk.refusal
    return delta


class _ToolCalls:
    """Puts the pieces of tool calls together; `index` says which call a piece continues."""

    def __init__(self) -> None:
        self.found: dict[int, dict[str, Any]] = {}

    def add(self, chunk: ChatChunk) -> None:
        """The pieces of one chunk."""
        for piece in chunk.tool_calls:
            index = piece.get("index", len(self.found))
            empty = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            call = self.found.setdefault(index, empty)
            call["id"] = piece.get("id") or call["id"]
            function = piece.get("function") or {}
            call["function"]["name"] += function.get("name") or ""
            call["function"]["arguments"] += function.get("arguments") or ""
