"""The gateway: routes a call to its deployments, limits, retries, checks and records it."""

import asyncio
import contextlib
import copy
import functools
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from rotina.errors import ModelError, ModelRequestError, RotinaError
from rotina.gateway.answer import (
    ChatAnswer,
    ChatChunk,
    ChatRequest,
    Embeddings,
    Message,
    Reranking,
)
from rotina.gateway.asking import Terms, ask, pieces
from rotina.gateway.budget import BudgetStore, Need
from rotina.gateway.cache import AnswerCache, PostgresCache, Shelf, key_of
from rotina.gateway.call import Call, Origin, record_cached
from rotina.gateway.check import Assembly, check_reply, not_valid
from rotina.gateway.continued import Seam, may_go_on, rest_of
from rotina.gateway.doubt import judged, unsure
from rotina.gateway.embedding import vectors_of
from rotina.gateway.first import first_answer
from rotina.gateway.guards import Guarded, Guards
from rotina.gateway.ladder import Ladder, Learned
from rotina.gateway.lane import Lanes
from rotina.gateway.ledger import CallLedger
from rotina.gateway.observer import DeploymentState, Observer
from rotina.gateway.partial import values
from rotina.gateway.postgres_ledger import PostgresLedger
from rotina.gateway.recorder import Recorded, Recorder
from rotina.gateway.reranking import need_of, scored
from rotina.gateway.retry import RetryPolicy
from rotina.gateway.room import Room
from rotina.gateway.routing import (
    Choice,
    able,
    allowed,
    beginning,
    may_use,
    needs_of,
    ranked,
    rerankers,
    with_model_routes,
)
from rotina.gateway.shared import Shared
from rotina.gateway.similar import SimilarShelf, split
from rotina.gateway.structured import Contract, Schema
from rotina.gateway.truncate import Policy
from rotina.gateway.vector_cache import (
    Known,
    PostgresVectorCache,
    VectorCache,
    VectorShelf,
    model_key,
)
from rotina.settings import Capability, Route, Settings

if TYPE_CHECKING:
    from rotina.database.pool import Pool


@dataclass(frozen=True)
class _Question:
    """What is asked, on whose behalf, and where the answer is kept."""

    origin: Origin
    route: str
    wanted: ChatRequest
    contract: Contract | None
    timeout: float | None
    place: Recorded | None


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
        shared: Shared | None = None,
        observer: Observer | None = None,
        vectors: VectorCache | None = None,
    ) -> None:
        """Does no I/O. Without a ledger no call is recorded; without `shared` the limits of
        deployments are those of this process, and so are circuits; `observer` is told of each
        call. `cache` keeps answers, `vectors` keeps embeddings, where a route asks for it.

        Raises `SettingsError` when the settings have budgets and there is no store for them, or an
        option that a provider does not know.
        """
        settings = with_model_routes(settings)
        self._lanes = Lanes(settings, ledger, retry or RetryPolicy(), budgets, shared)
        self._origin = Origin(settings.tenant, run_id=None, node=None, observer=observer)
        self._recorder: Recorder | None = None
        self._cache = cache
        self._vectors = vectors
        self._learned = Learned()
        self._guards = Guards(settings)

    @classmethod
    def with_database(
        cls, settings: Settings, pool: "Pool", *, observer: Observer | None = None
    ) -> Self:
        """A gateway with ledger, budgets and caches in PostgreSQL, and with the limits and circuits
        of all processes in Redis where the settings have one; the caller closes `pool`."""
        ledger = PostgresLedger(pool, strict=settings.strict_holds)
        return cls(
            settings,
            ledger,
            budgets=ledger,
            cache=PostgresCache(pool),
            vectors=PostgresVectorCache(pool),
            shared=Shared.of(settings),
            observer=observer,
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
        key: str | None = None,
        observer: Observer | None = None,
    ) -> "Gateway":
        """The same gateway, recording its calls for this run; needs no `async with` of its own.

        `key` is the name of the API key that asks. Without it, without a `workflow` or an
        `observer` these stay what the gateway is bound to.
        """
        view = copy.copy(self)
        own = self._origin
        workflow, key = workflow or own.workflow, key or own.key
        observer = observer or own.observer
        view._origin = Origin(tenant, run_id, node, workflow, key, observer)  # noqa: SLF001 - its own
        return view

    def recorded(self, recorder: Recorder) -> "Gateway":
        """The same gateway, which asks no model what the record knows; keeps what it is told."""
        view = copy.copy(self)
        view._recorder = recorder  # noqa: SLF001 - its own
        return view

    def unrecorded(self) -> "Gateway":
        """The same gateway, for calls of which a run's record holds what came of them."""
        view = copy.copy(self)
        view._recorder = None  # noqa: SLF001 - its own
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

    def deployments(self) -> list[DeploymentState]:
        """Those that were called since the gateway was opened, as they are now."""
        return self._lanes.states()

    def context(self, route: str = "smart") -> int:
        """Tokens that prompt and answer may fill together on any deployment of the route."""

        def least() -> int:
            settings = self._lanes.settings
            names = allowed(settings, route, self._origin.tenant)
            return min(settings.deployments[name].context for name in names)

        if self._recorder is None:
            return least()
        return self._recorder.fact("context", {"route": route}, least)

    def room(self, *routes: str) -> Room:
        """What each deployment of these routes can read of one text."""
        settings, tenant = self._lanes.settings, self._origin.tenant
        names = [name for route in routes for name in allowed(settings, route, tenant)]
        return Room([settings.deployments[name] for name in names], settings.project_dir)

    async def chat(  # noqa: PLR0913 - a call's parameters, all but one by name
        self,
        messages: Sequence[Message],
        *,
        route: str = "smart",
        schema: Schema | None = None,
        schema_name: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = 0.0,
        stop: Sequence[str] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        tool_choice: str | Mapping[str, Any] | None = None,
        truncate: Policy | None = None,
        timeout: float | None = None,
    ) -> ChatAnswer:
        """One complete answer, of the first of the route's deployments that gives one.

        With `schema`, a JSON Schema or a Pydantic model, `data` is valid against it; an answer
        that is not is sent back with what is wrong, as often as the route's `repairs` say.
        `timeout` is in seconds and bounds everything; without it the deployment's own begins once
        the call has a slot. `temperature=None` leaves it to the server. `truncate` allows to
        shorten a prompt that does not fit: see `rotina.gateway.truncate`; nothing is ever cut
        without it.

        Raises a `ModelError` (`ModelOutputError` for an answer that is truncated, empty, refused,
        filtered or against the schema), `SchemaError` for an unusable schema and `SettingsError`
        for an unknown route.
        """
        contract = None if schema is None else Contract(schema)
        wanted = ChatRequest(
            list(messages), **_named(contract, schema_name), max_tokens=max_tokens,
            temperature=temperature, stop=tuple(stop or ()), tools=tuple(tools),
            tool_choice=tool_choice, truncate=truncate,
        )  # fmt: skip
        origin = self._origin.asking(messages)
        place = await self._place("chat", route, wanted.asked())
        if place is not None and place.answer is not None:
            return ChatAnswer.model_validate_json(place.answer)
        shelves = self._shelves(route, wanted)
        for shelf in shelves:
            known = await shelf.find()
            if known is not None and (contract is None or contract.takes(known.data)):
                await record_cached(self._lanes.records, origin, known)
                if place is not None:
                    await place.keep(known.model_dump_json().encode())
                return known
        answer = await self._asked(_Question(origin, route, wanted, contract, timeout, place))
        for shelf in shelves:
            await shelf.keep(answer)
        return answer

    async def _asked(self, question: _Question) -> ChatAnswer:
        route, contract, origin = question.route, question.contract, question.origin
        policy = self._lanes.settings.routes[route]
        wanted, guarded, choice = await self._begun(question)
        terms = Terms(contract, 0 if contract is None else policy.repairs, guarded)
        if policy.min_confidence is not None:
            wanted = replace(wanted, logprobs=True)

        async def asked(call: Call) -> ChatAnswer:
            fitted = await call.admit(wanted, 1 + terms.repairs)
            return await ask(call, Ladder(fitted, contract, call.lane, self._learned), terms)

        async def doubts(answer: ChatAnswer) -> str | None:
            why = unsure(answer, policy.min_confidence)
            if why is None and policy.judge is not None:
                masked = answer.model_copy(update={"text": terms.masked(answer.text)})
                why = await judged(self.unrecorded().chat, wanted, masked, policy.judge)
            return why

        answer = await first_answer(
            "chat", choice, None, asked, question.place, origin, policy.hedge, doubts
        )
        self._mirror(origin, route, policy, wanted, terms, answer)
        return answer

    async def _begun(self, question: _Question) -> tuple[ChatRequest, Guarded | None, Choice]:
        """The request as it may be sent, its guards where the route has some, and whom to ask."""
        wanted, guarded = question.wanted, None
        chain = await self._guards.chain(question.route)
        if chain is not None:
            guarded = await chain.begin(wanted)
            wanted = guarded.request
        choice = self._choice(
            question.route, question.timeout, wanted.messages, needed=needs_of(wanted)
        )
        return wanted, guarded, choice

    def _mirror(
        self,
        origin: Origin,
        route: str,
        policy: Route,
        wanted: ChatRequest,
        terms: Terms,
        answer: ChatAnswer,
    ) -> None:
        """Ask the mirror the same, where the route has one and it is its turn."""
        settings, name = self._lanes.settings, policy.mirror
        if name is None or random.random() >= policy.mirror_share:  # noqa: S311 - a sample
            return
        if not may_use(settings, name, origin.tenant):
            return
        lane = self._lanes.get(route, name)

        async def mirrored() -> None:
            choice = Choice.of([lane], None)
            call = Call("chat", choice, replace(origin, observer=None), twin=answer)
            with contextlib.suppress(RotinaError):  # its row says what went wrong
                fitted = await call.admit(wanted)
                ladder = Ladder(fitted, terms.contract, lane, self._learned)
                await ask(call, ladder, replace(terms, repairs=0))

        self._lanes.mirrors.start(mirrored())

    async def stream(  # noqa: PLR0913 - as in chat
        self,
        messages: Sequence[Message],
        *,
        route: str = "smart",
        schema: Schema | None = None,
        schema_name: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = 0.0,
        stop: Sequence[str] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        tool_choice: str | Mapping[str, Any] | None = None,
        truncate: Policy | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[ChatChunk, None]:
        """The answer in pieces; parameters and errors as in `chat`.

        It is tried again, and elsewhere, only until the first piece has arrived. What makes an
        answer unusable is raised after the last piece: until then nothing is proven. Leaving the
        loop early closes the connection once the generator is closed (`contextlib.aclosing`).
        """
        contract = None if schema is None else Contract(schema)
        wanted = ChatRequest(
            list(messages), **_named(contract, schema_name), max_tokens=max_tokens,
            temperature=temperature, stop=tuple(stop or ()), tools=tuple(tools),
            tool_choice=tool_choice, truncate=truncate,
        )  # fmt: skip
        place = await self._place("stream", route, wanted.asked())
        if place is not None and place.answer is not None:
            yield ChatChunk.model_validate_json(place.answer)
            return
        origin = self._origin.asking(messages)
        question = _Question(origin, route, wanted, contract, timeout, place)
        async with contextlib.aclosing(self._streamed(question)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _streamed(self, question: _Question) -> AsyncGenerator[ChatChunk, None]:
        contract, origin, place = question.contract, question.origin, question.place
        wanted, guarded, choice = await self._begun(question)
        terms = Terms(contract, guarded=guarded)
        goes_on = self._lanes.settings.routes[question.route].continue_streams
        asked, whole, seam = wanted, Assembly(), None
        while True:
            call = Call("chat", choice, origin, keeps=place is not None)
            try:
                fitted = await call.admit(asked)
                ladder = Ladder(fitted, contract, call.lane, self._learned)
                async with call, contextlib.aclosing(pieces(call, ladder, terms)) as chunks:
                    async for each in chunks:
                        chunk = each if seam is None else seam.feed(each)
                        whole.add(chunk)
                        yield chunk
                    reply = whole.reply()
                    shown = call.told = terms.shown(reply)
                    call.count(reply.usage, reply.model)
                    found = check_reply(
                        reply, contract, call.lane, fenced=ladder.fenced, shown=shown
                    )
                    if found.problems:
                        raise not_valid(shown, terms.masked(found.problems[0]), call.lane)
            except ModelError as error:
                text = whole.reply().text
                # What the caller has seen of an answer cannot be taken back.
                ended = whole.ended or (whole.begun and not (goes_on and may_go_on(wanted, text)))
                if ended or not choice.goes_on(call.lane, error):
                    raise
                if whole.begun:
                    asked, seam = rest_of(wanted, terms.masked(text)), Seam(text)
            else:
                if place is not None:
                    await place.keep(reply.as_chunk().model_dump_json().encode())
                    await call.entered()
                return

    def stream_data(
        self, messages: Sequence[Message], *, schema: Schema, **options: Any
    ) -> AsyncGenerator[Any, None]:
        """The JSON value of a streamed answer as it grows, each time that it has changed.

        The last value is the whole answer and valid against `schema`; what is yielded before may
        lack anything. `options` and errors as in `stream`; without tools. Nothing is repaired.
        """
        pieces_of_it = self.stream(messages, schema=schema, **options)
        return values(pieces_of_it, Contract(schema))

    async def embed(
        self,
        texts: Sequence[str],
        *,
        route: str = "embed",
        timeout: float | None = None,
        record: bool = True,
        cache: bool = True,
    ) -> Embeddings:
        """One vector a text; equal texts are asked for once, in batches, some of them at once.

        No text, no request. Errors as in `chat`; a batch that fails fails the call. `record=False`
        for vectors that are stored elsewhere at once: a run's record need not hold them too.
        `cache=False` for texts of which nobody would delete the vectors that a cache has.
        """
        place = await self._place("embedding", route, {"texts": list(texts)}) if record else None
        if place is not None and place.answer is not None:
            return Embeddings.model_validate_json(place.answer)
        shelf = self._vector_shelf(route) if cache else None
        known = Known() if shelf is None else await shelf.find(texts)
        wanted = [text for text in dict.fromkeys(texts) if text not in known.vectors]
        if known.vectors and not wanted:
            name = self._able(route, {"embeddings"})[0]
            answer = known.answer(texts, route, name)
            await record_cached(self._lanes.records, self._origin, answer)
        else:
            fresh = await self._embedded(wanted, route, timeout)
            if not known.is_of(fresh):  # the server was given another model behind the same name
                known, wanted = Known(), list(dict.fromkeys(texts))
                fresh = await self._embedded(wanted, route, timeout)
            if shelf is not None:
                await shelf.keep(wanted, fresh)
            answer = known.joined(texts, wanted, fresh)
        if place is not None:
            await place.keep(answer.model_dump_json().encode())
        return answer

    async def _embedded(
        self, texts: Sequence[str], route: str, timeout: float | None
    ) -> Embeddings:
        chain = await self._guards.chain(route)
        sent = texts if chain is None else await chain.texts(texts)
        choice = self._choice(route, timeout, (), one_model=True, needed={"embeddings"})

        async def ask(call: Call) -> Embeddings:
            async with call:
                vectors = await vectors_of(call, sent)
            return Embeddings(vectors=vectors, **call.facts())

        need = functools.partial(Need.of, sent, 0, texts=len(sent))
        return await first_answer("embedding", choice, need, ask, None, self._origin)

    def _vector_shelf(self, route: str) -> VectorShelf | None:
        """The place of the route's vectors, where it has a cache; they are all of one model."""
        settings, tenant = self._lanes.settings, self._origin.tenant
        name = self._able(route, {"embeddings"})[0]
        seconds = settings.routes[route].cache_seconds
        if seconds is None or self._vectors is None:
            return None
        key = model_key(settings.deployments[name], self._guards.tables(route))
        return VectorShelf(self._vectors, tenant, key, seconds)

    async def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        route: str,
        top_n: int | None = None,
        timeout: float | None = None,
        record: bool = True,
    ) -> Reranking:
        """The documents by their relevance to the query, the best `top_n` of them, as a
        cross-encoder sees it.

        Each deployment's answer has a score for every document, or is none and the next one is
        asked. No document, no request. `record` and errors as in `embed`.
        """
        if top_n is not None and top_n < 1:
            raise ModelRequestError(f"top_n is {top_n}: ask for 1 document or more, or for all")
        asked = {"query": query, "documents": list(documents), "top_n": top_n}
        place = await self._place("rerank", route, asked) if record else None
        if place is not None and place.answer is not None:
            return Reranking.model_validate_json(place.answer)
        chain = await self._guards.chain(route)
        if chain is not None:
            query, *documents = await chain.texts([query, *documents])
        choice = self._choice(route, timeout, (), needed={"rerank"})

        async def ask(call: Call) -> Reranking:
            async with call:
                results = await scored(call, query, documents)
            return Reranking(results=results[:top_n], **call.facts())

        need = functools.partial(need_of, query, documents)
        return await first_answer("rerank", choice, need, ask, place, self._origin)

    def reranks(self, route: str) -> bool:
        """Whether a deployment of the route is declared to `rerank`."""
        settings = self._lanes.settings
        return bool(rerankers(settings, allowed(settings, route, self._origin.tenant)))

    def _shelves(self, route: str, wanted: ChatRequest) -> list[Shelf | SimilarShelf]:
        """The places of this question in the caches that the route has."""
        settings, tenant = self._lanes.settings, self._origin.tenant
        names = allowed(settings, route, tenant)
        policy, cache = settings.routes[route], self._cache
        if cache is None or wanted.temperature != 0:
            return []
        found: list[Shelf | SimilarShelf] = []
        models = {name: settings.deployments[name].model for name in names}
        if policy.cache_seconds is not None:
            request = wanted.asked()
            if policy.guards:
                request["guards"] = self._guards.tables(route)
            key = key_of(route, models, request)
            found.append(Shelf(cache, tenant, key, policy.cache_seconds))
        parts = None if policy.similar is None else split(wanted)
        if policy.similar is not None and parts is not None:
            rest, question = parts
            asked = {"route": route, "models": models, "request": rest}
            found.append(SimilarShelf(cache, tenant, policy.similar, asked, question, self.embed))
        return found

    def _choice(
        self,
        route: str,
        timeout: float | None,
        messages: Sequence[Message],
        *,
        one_model: bool = False,
        needed: AbstractSet[Capability] = frozenset(),
    ) -> Choice:
        """The deployments to ask; `one_model`: vectors of two models cannot be compared."""
        settings = self._lanes.settings
        lanes = [self._lanes.get(route, name) for name in self._able(route, needed)]
        if one_model:
            model = lanes[0].deployment.model
            lanes = [lane for lane in lanes if lane.deployment.model == model]
        if len(lanes) > 1:
            lanes = ranked(settings.routes[route], lanes, lambda: beginning(messages))
        return Choice.of(lanes, timeout)

    def _able(self, route: str, needed: AbstractSet[Capability]) -> list[str]:
        settings = self._lanes.settings
        return able(settings, route, allowed(settings, route, self._origin.tenant), needed)

    async def _place(self, kind: str, route: str, request: Mapping[str, Any]) -> Recorded | None:
        if self._recorder is None:
            return None
        return await self._recorder.recall(kind, {"route": route, **request})


def _named(contract: Contract | None, name: str | None) -> dict[str, Any]:
    """The schema of a request, and what it is called."""
    if contract is None:
        return {"schema_name": name or "output"}
    return {"schema": contract.schema, "schema_name": name or contract.name}
