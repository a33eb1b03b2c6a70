"""The gateway: routes a call to its deployments, limits, retries, checks and records it."""

import asyncio
import contextlib
import copy
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from uuid import UUID

from rotina.errors import ModelError
from rotina.gateway.answer import ChatAnswer, ChatChunk, ChatRequest, Embeddings, Message, Reply
from rotina.gateway.budget import BudgetStore, Need, PostgresBudgets
from rotina.gateway.cache import AnswerCache, PostgresCache, Shelf, key_of
from rotina.gateway.call import Call, Origin, open_stream, record_cached
from rotina.gateway.check import Assembly, check_reply, check_vectors
from rotina.gateway.lane import Lanes
from rotina.gateway.ledger import CallLedger, PostgresLedger
from rotina.gateway.recorder import Recorded, Recorder
from rotina.gateway.retry import RetryPolicy
from rotina.gateway.routing import Choice, allowed, beginning, ranked
from rotina.gateway.structured import Contract
from rotina.settings import Settings

if TYPE_CHECKING:
    from rotina.database.pool import Pool

Answered = TypeVar("Answered", ChatAnswer, Embeddings)

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
        budgets: BudgetStore | None = None,
        cache: AnswerCache | None = None,
    ) -> None:
        """Does no I/O. Without a ledger no call is recorded.

        Raises `SettingsError` when the settings have budgets and there is no store for them.
        """
        self._lanes = Lanes(settings, ledger, retry or RetryPolicy(), budgets)
        self._origin = Origin(tenant=settings.tenant, run_id=None, node=None)
        self._recorder: Recorder | None = None
        self._cache = cache

    @classmethod
    def with_database(cls, settings: Settings, pool: "Pool") -> Self:
        """A gateway with ledger, budgets and cache in PostgreSQL; the caller closes `pool`."""
        return cls(
            settings,
            PostgresLedger(pool),
            budgets=PostgresBudgets(pool),
            cache=PostgresCache(pool),
        )

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

    def bound(
        self,
        *,
        run_id: UUID | None,
        tenant: str,
        node: str | None = None,
        workflow: str | None = None,
    ) -> "Gateway":
        """The same gateway, recording its calls for this run; needs no `async with` of its own.

        Without a `workflow` it stays the one it is bound to.
        """
        view = copy.copy(self)
        workflow = workflow or self._origin.workflow
        view._origin = Origin(tenant, run_id, node, workflow)  # noqa: SLF001 - its own
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
        """Tokens that prompt and answer may fill together on any deployment of the route."""

        def least() -> int:
            settings = self._lanes.settings
            names = allowed(settings, route, self._origin.tenant)
            return min(settings.deployments[name].context for name in names)

        if self._recorder is None:
            return least()
        return self._recorder.fact("context", {"route": route}, least)

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
        """One complete answer, of the first of the route's deployments that gives one.

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
        shelf = self._shelf(route, wanted)
        known = None if shelf is None else await shelf.find()
        if known is not None:
            await record_cached(self._lanes.records, self._origin, known)
            if place is not None:
                await place.keep(known.model_dump_json().encode())
            return known
        choice = self._choice(route, timeout, messages)
        ask = functools.partial(_answer, wanted=wanted, contract=contract)
        answer = await self._first("chat", choice, functools.partial(_need, wanted), ask, place)
        if shelf is not None:
            await shelf.keep(answer)
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

        It is tried again, and elsewhere, only until the first piece has arrived. What makes an
        answer unusable is raised after the last piece: until then nothing is proven. Leaving the
        loop early closes the connection once the generator is closed (`contextlib.aclosing`).
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
        choice = self._choice(route, timeout, messages)
        need = functools.partial(_need, wanted)
        whole, begun = Assembly(), False
        while True:
            call = Call("chat", choice, self._origin, need, keeps=place is not None)
            try:
                async with call, contextlib.aclosing(_pieces(call, wanted)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        whole.add(chunk)
                        yield chunk
                    reply = whole.reply()
                    call.count(reply.usage, reply.model)
                    check_reply(reply, contract, call.lane)
            except ModelError as error:
                # What the caller has seen of an answer cannot be taken back.
                if begun or not choice.goes_on(call.lane, error):
                    raise
            else:
                if place is not None:
                    await place.keep(_as_chunk(reply).model_dump_json().encode())
                    await call.entered()
                return

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
        choice = self._choice(route, timeout, (), one_model=True)

        async def ask(call: Call) -> Embeddings:
            lane = call.lane
            vectors: list[list[float]] = []
            async with call:
                for start in range(0, len(texts), EMBEDDING_BATCH):
                    batch = list(texts[start : start + EMBEDDING_BATCH])
                    reply = await call.tried(functools.partial(lane.provider.embed, batch))
                    call.count(reply.usage, reply.model)
                    vectors += reply.vectors
                    size = len(vectors[0]) if vectors else 0
                    check_vectors(reply.vectors, len(batch), size, lane)
            return Embeddings(vectors=vectors, **call.facts())

        need = functools.partial(Need.of, texts, 0)
        return await self._first("embedding", choice, need, ask, place)

    def _shelf(self, route: str, wanted: ChatRequest) -> Shelf | None:
        """The place of this question in the cache, where the route has one."""
        if self._cache is None or wanted.temperature != 0:
            return None
        settings, tenant = self._lanes.settings, self._origin.tenant
        names = allowed(settings, route, tenant)
        seconds = settings.routes[route].cache_seconds
        if seconds is None:
            return None
        models = {name: settings.deployments[name].model for name in names}
        return Shelf(self._cache, tenant, key_of(route, models, vars(wanted)), seconds)

    def _choice(
        self,
        route: str,
        timeout: float | None,
        messages: Sequence[Message],
        *,
        one_model: bool = False,
    ) -> Choice:
        """The deployments to ask; `one_model`: vectors of two models cannot be compared."""
        settings = self._lanes.settings
        names = allowed(settings, route, self._origin.tenant)
        lanes = [self._lanes.get(route, name) for name in names]
        if one_model:
            model = lanes[0].deployment.model
            lanes = [lane for lane in lanes if lane.deployment.model == model]
        if len(lanes) > 1:
            lanes = ranked(settings.routes[route], lanes, lambda: beginning(messages))
        return Choice.of(lanes, timeout)

    async def _first(
        self,
        kind: Literal["chat", "embedding"],
        choice: Choice,
        need: Callable[[], Need],
        ask: Callable[[Call], Awaitable[Answered]],
        place: Recorded | None,
    ) -> Answered:
        """The first answer of the choice that is one, kept where a run records."""
        while True:
            call = Call(kind, choice, self._origin, need, keeps=place is not None)
            try:
                answer = await ask(call)
            except ModelError as error:
                if not choice.goes_on(call.lane, error):
                    raise
            else:
                if place is not None:
                    await place.keep(answer.model_dump_json().encode())
                    await call.entered()
                return answer

    async def _place(self, kind: str, route: str, request: Mapping[str, Any]) -> Recorded | None:
        if self._recorder is None:
            return None
        return await self._recorder.recall(kind, {"route": route, **request})


def _need(wanted: ChatRequest) -> Need:
    return Need.of([wanted.messages, wanted.tools, wanted.schema], wanted.max_tokens)


async def _answer(call: Call, wanted: ChatRequest, contract: Contract | None) -> ChatAnswer:
    lane = call.lane
    request = lane.prepare(wanted)
    async with call:
        reply = await call.tried(lambda: lane.provider.chat(request))
        call.count(reply.usage, reply.model)
        data = check_reply(reply, contract, lane)
    return ChatAnswer(
        text=reply.text,
        data=data,
        tool_calls=reply.tool_calls,
        finish_reason=str(reply.finish_reason),
        **call.facts(),
    )


async def _pieces(call: Call, wanted: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
    request = call.lane.prepare(wanted)
    opened = await call.tried(lambda: open_stream(call.lane.provider, request))
    async with contextlib.aclosing(call.rest(opened)) as chunks:
        async for chunk in chunks:
            yield chunk


def _as_chunk(reply: Reply) -> ChatChunk:
    """A whole streamed answer as its only piece."""
    return ChatChunk(
        text=reply.text,
        tool_calls=tuple({"index": at, **call} for at, call in enumerate(reply.tool_calls)),
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        model=reply.model,
    )
