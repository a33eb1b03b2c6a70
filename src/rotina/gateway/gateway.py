"""The gateway: routes a call to its deployment, limits, retries, checks and records it."""

import asyncio
import contextlib
import copy
import functools
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from rotina.gateway.answer import ChatAnswer, ChatChunk, ChatRequest, Embeddings, Message, Reply
from rotina.gateway.call import Call, Origin, open_stream
from rotina.gateway.check import Assembly, check_reply, check_vectors
from rotina.gateway.lane import Lanes
from rotina.gateway.ledger import CallLedger
from rotina.gateway.recorder import Recorded, Recorder
from rotina.gateway.retry import RetryPolicy
from rotina.gateway.structured import Contract
from rotina.settings import Settings

EMBEDDING_BATCH = 32
"""Texts a request: the most that every known server takes (TEI's default limit)."""


class Gateway:
    """Every model call goes through it.

    Open it with `async with`; connections are made when first needed and kept alive. It belongs
    to the event loop that opened it. `bound` gives a view that records calls for one run.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: CallLedger | None = None,
        *,
        retry: RetryPolicy | None = None,
    ) -> None:
        """Does no I/O. Without a ledger no call is recorded."""
        self._lanes = Lanes(settings, ledger, retry or RetryPolicy())
        self._origin = Origin(tenant=settings.tenant, run_id=None, node=None)
        self._recorder: Recorder | None = None

    async def __aenter__(self) -> Self:
        self._lanes.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._lanes.close()

    def bound(self, *, run_id: UUID | None, tenant: str, node: str | None = None) -> "Gateway":
        """The same gateway, recording its calls for this run; needs no `async with` of its own."""
        view = copy.copy(self)
        view._origin = Origin(tenant=tenant, run_id=run_id, node=node)  # noqa: SLF001 - its own
        return view

    def recorded(self, recorder: Recorder) -> "Gateway":
        """The same gateway, which asks no model what the record knows; keeps what it is told."""
        view = copy.copy(self)
        view._recorder = recorder  # noqa: SLF001 - its own
        return view

    @property
    def recorder(self) -> Recorder | None:
        """The record of the run that this view of the gateway is for."""
        return self._recorder

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that opened the gateway. Raises `RuntimeError` when it is not open."""
        return self._lanes.loop

    @property
    def ledger_failures(self) -> int:
        """Calls whose row could not be written; each is in the log at level ERROR."""
        return self._lanes.ledger_failures

    def context(self, route: str = "smart") -> int:
        """Tokens that prompt and answer may fill together on the route."""
        if self._recorder is None:
            return self._lanes.context(route)
        return self._recorder.fact("context", {"route": route}, lambda: self._lanes.context(route))

    async def chat(  # noqa: PLR0913 - a call's parameters, all but one by name
        self,
        messages: Sequence[Message],
        *,
        route: str = "smart",
        schema: Mapping[str, Any] | None = None,
        schema_name: str = "output",
        max_tokens: int | None = None,
        temperature: float | None = 0.0,
        stop: Sequence[str] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        tool_choice: str | Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> ChatAnswer:
        """One complete answer.

        With `schema` (JSON Schema, Draft 2020-12) `data` is valid against it. `timeout` is in
        seconds and bounds everything; without it the deployment's own begins once the call has a
        slot. `temperature=None` leaves it to the server.

        Raises a `ModelError` (`ModelOutputError` for an answer that is truncated, empty, refused,
        filtered or against the schema), `SchemaError` for an unusable schema and `SettingsError`
        for an unknown route.
        """
        contract = None if schema is None else Contract(schema)
        wanted = ChatRequest(
            messages=messages,
            schema=schema,
            schema_name=schema_name,
            max_tokens=max_tokens,
            temperature=temperature,
            stop=tuple(stop or ()),
            tools=tuple(tools),
            tool_choice=tool_choice,
        )
        place = await self._place("chat", route, vars(wanted))
        if place is not None and place.answer is not None:
            return ChatAnswer.model_validate_json(place.answer)
        lane = self._lanes.get(route)
        request = lane.prepare(wanted)
        keeps = place is not None
        async with Call("chat", lane, self._origin, timeout, keeps=keeps) as call:
            reply = await call.tried(lambda: lane.provider.chat(request))
            call.count(reply.usage, reply.model)
            data = check_reply(reply, contract, lane)
        answer = ChatAnswer(
            text=reply.text,
            data=data,
            tool_calls=reply.tool_calls,
            finish_reason=str(reply.finish_reason),
            **call.facts(),
        )
        if place is not None:
            await place.keep(answer.model_dump_json().encode())
            await call.entered()
        return answer

    async def stream(  # noqa: PLR0913 - as in chat
        self,
        messages: Sequence[Message],
        *,
        route: str = "smart",
        schema: Mapping[str, Any] | None = None,
        schema_name: str = "output",
        max_tokens: int | None = None,
        temperature: float | None = 0.0,
        stop: Sequence[str] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        tool_choice: str | Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[ChatChunk, None]:
        """The answer in pieces; parameters and errors as in `chat`.

        It is tried again only until the first piece has arrived. What makes an answer unusable is
        raised after the last piece: until then nothing is proven. Leaving the loop early closes
        the connection once the generator is closed (`contextlib.aclosing`).
        """
        contract = None if schema is None else Contract(schema)
        wanted = ChatRequest(
            messages=messages,
            schema=schema,
            schema_name=schema_name,
            max_tokens=max_tokens,
            temperature=temperature,
            stop=tuple(stop or ()),
            tools=tuple(tools),
            tool_choice=tool_choice,
        )
        place = await self._place("stream", route, vars(wanted))
        if place is not None and place.answer is not None:
            yield ChatChunk.model_validate_json(place.answer)
            return
        lane = self._lanes.get(route)
        request = lane.prepare(wanted)
        whole = Assembly()
        keeps = place is not None
        async with Call("chat", lane, self._origin, timeout, keeps=keeps) as call:
            opened = await call.tried(lambda: open_stream(lane.provider, request))
            async with contextlib.aclosing(call.rest(opened)) as chunks:
                async for chunk in chunks:
                    whole.add(chunk)
                    yield chunk
            reply = whole.reply()
            call.count(reply.usage, reply.model)
            check_reply(reply, contract, lane)
        if place is not None:
            await place.keep(_as_chunk(reply).model_dump_json().encode())
            await call.entered()

    async def embed(
        self,
        texts: Sequence[str],
        *,
        route: str = "embed",
        timeout: float | None = None,
        record: bool = True,
    ) -> Embeddings:
        """One vector a text, asked for in batches of `EMBEDDING_BATCH`, one after the other.

        No text, no request. Errors as in `chat`; a batch that fails fails the call. `record=False`
        for vectors that are stored elsewhere at once: a run's record need not hold them too.
        """
        place = await self._place("embedding", route, {"texts": list(texts)}) if record else None
        if place is not None and place.answer is not None:
            return Embeddings.model_validate_json(place.answer)
        lane = self._lanes.get(route)
        vectors: list[list[float]] = []
        keeps = place is not None
        async with Call("embedding", lane, self._origin, timeout, keeps=keeps) as call:
            for start in range(0, len(texts), EMBEDDING_BATCH):
                batch = list(texts[start : start + EMBEDDING_BATCH])
                reply = await call.tried(functools.partial(lane.provider.embed, batch))
                call.count(reply.usage, reply.model)
                vectors += reply.vectors
                check_vectors(reply.vectors, len(batch), len(vectors[0]) if vectors else 0, lane)
        answer = Embeddings(vectors=vectors, **call.facts())
        if place is not None:
            await place.keep(answer.model_dump_json().encode())
            await call.entered()
        return answer

    async def _place(self, kind: str, route: str, request: Mapping[str, Any]) -> Recorded | None:
        if self._recorder is None:
            return None
        return await self._recorder.recall(kind, {"route": route, **request})


def _as_chunk(reply: Reply) -> ChatChunk:
    """A whole streamed answer as its only piece."""
    return ChatChunk(
        text=reply.text,
        tool_calls=tuple({"index": at, **call} for at, call in enumerate(reply.tool_calls)),
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        model=reply.model,
    )
