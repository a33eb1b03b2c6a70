"""One call on its way: its slot, its deadline, its tries, and its row in the ledger."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

from uuid_utils.compat import uuid7

from rotina.errors import (
    BudgetExceededError,
    ContextTooLongError,
    ModelAuthError,
    ModelError,
    ModelMissingError,
    ModelQuotaError,
    ModelRateLimitedError,
    ModelRequestError,
    ModelServerError,
    ModelTimeoutError,
    ModelUnreachableError,
)
from rotina.gateway.answer import (
    ChatAnswer,
    ChatChunk,
    ChatRequest,
    Embeddings,
    Message,
    Reply,
    Usage,
)
from rotina.gateway.budget import (
    GRACE,
    NOTHING,
    Need,
    Payer,
    Spent,
    claims_of,
    gpu_seconds,
)
from rotina.gateway.content import content_of
from rotina.gateway.lane import Records
from rotina.gateway.ledger import CACHED, OK, CallKind, Content, ModelCall
from rotina.gateway.limits import Share
from rotina.gateway.observer import Observer, Times
from rotina.gateway.prompt_cache import cached
from rotina.gateway.provider import Provider, RefusedError
from rotina.gateway.retry import with_retries
from rotina.gateway.routing import Choice

T = TypeVar("T")

UNPAID = (
    ModelAuthError, ModelMissingError, ModelQuotaError, ModelRateLimitedError, ModelRequestError,
    ModelServerError, ModelUnreachableError,
)  # fmt: skip
"""Errors of calls that nobody charges for."""

OpenedStream = tuple[ChatChunk | None, AsyncGenerator[ChatChunk, None]]


@dataclass(frozen=True)
class Origin:
    """On whose behalf a call is made."""

    tenant: str
    run_id: UUID | None
    node: str | None
    workflow: str | None = None
    key: str | None = None
    """The name of the API key that asked."""
    observer: Observer | None = None
    """Who is told of the call."""
    prompt: str | None = None
    """Name, version and hash of the prompt that the messages are of."""

    def payer(self) -> Payer:
        """Whose budgets it is paid from."""
        run = None if self.run_id is None else str(self.run_id)
        return Payer(self.tenant, self.workflow, run, self.key)

    def asking(self, messages: Sequence[Message]) -> "Origin":
        """The same, with the prompt that the messages say they are of."""
        prompt = getattr(messages, "prompt", None)
        return self if prompt is None else replace(self, prompt=str(prompt))


async def open_stream(provider: Provider, request: ChatRequest) -> OpenedStream:
    """The stream and its first piece that says something: until then it can be tried again."""
    stream = provider.stream(request)
    try:
        async for chunk in stream:
            if chunk.text or chunk.tool_calls or chunk.finish_reason or chunk.refusal:
                return chunk, stream
    except BaseException:
        await stream.aclose()
        raise
    return None, stream


async def record_cached(records: Records, origin: Origin, answer: ChatAnswer | Embeddings) -> None:
    """Write the row of an answer that came out of the cache."""
    row = ModelCall(
        id=uuid7(),
        tenant=origin.tenant,
        run_id=origin.run_id,
        node=origin.node,
        route=answer.route,
        deployment=answer.deployment,
        model=answer.model,
        kind="chat" if isinstance(answer, ChatAnswer) else "embedding",
        outcome=CACHED,
        prompt_tokens=0,
        completion_tokens=0,
        cached_tokens=None,
        cost_usd=Decimal(0),
        latency_ms=answer.latency_ms,
        attempts=0,
        started_at=datetime.now(UTC),
        api_key=origin.key,
        prompt=origin.prompt,
    )
    if origin.observer is not None:
        origin.observer.ended(row, Times(answer.latency_ms / 1000, 0.0, None))
    task = records.write(row)
    if task is not None:
        await asyncio.shield(task)


class Call:
    """`async with` it: waits for a slot, and records the outcome when left."""

    def __init__(
        self,
        kind: CallKind,
        choice: Choice,
        origin: Origin,
        need: Callable[[], Need] | None = None,
        *,
        keeps: bool = False,
        twin: ChatAnswer | None = None,
    ) -> None:
        """Of the next deployment of `choice`.

        `need` is asked for where there is a budget; without it, that of the admitted request.
        `keeps`: a good answer is recorded by the caller, at once with the call's row.
        """
        self.lane = lane = choice.take()
        own = lane.deployment
        self._patient = choice.last
        self._larger = any(each.deployment.context > own.context for each in choice.lanes)
        self._kind: CallKind = kind
        self._need = need
        self.id = uuid7()
        self._holds = False
        self._taken: Share | None = None
        self._origin = origin
        # The caller's own deadline runs already; the deployment's once there is a slot, because a
        # queue in this process says nothing about the server.
        self._seconds_taken = 0.0
        self._seconds = own.timeout if choice.seconds is None else choice.seconds
        self._deadline = choice.deadline
        self._usage: Usage | None = None
        self._model = own.model
        self._latency_ms = 0
        self._row: asyncio.Task[None] | None = None
        self._keeps = keeps
        self._wait = 0.0
        self._probe = False
        self._hurried = False
        """Whether the caller allowed less time than the deployment has."""
        self._begun = False
        """Whether some of a streamed answer has come."""
        self._request: ChatRequest | None = None
        self._rounds = 1
        self._needed: Need | None = None
        self.truncated = 0
        """Messages that were left out or cut."""
        self.attempts = 0
        self.asked: ChatRequest | None = None
        """What was asked, for who keeps it."""
        self.told: Reply | None = None
        self.given: Reply | None = None
        """What was told, as the caller gets it."""
        self.twin = twin
        """The answer that this call repeats on another deployment, for comparison."""
        self.agreement: float | None = None
        self.upstream = 0.0
        self._under_way = 0
        """Requests; the time of several at once counts once."""
        self._asked = 0.0
        self._first: float | None = None

    async def admit(self, wanted: ChatRequest, rounds: int = 1) -> ChatRequest:
        """The request as the deployment can take it, before the call is entered.

        `rounds` is how often it may be sent, repairs included.

        Raises `ContextTooLongError` where it does not fit: then nothing is sent, and the row says
        so.
        """
        self._begin()
        try:
            self._request, self._rounds = await self._fitted(wanted), rounds
        except ModelError as error:
            await self._record(type(error).__name__, wait=True)
            raise
        return self._request

    async def _fitted(self, request: ChatRequest) -> ChatRequest:
        meter = self.lane.meter
        if request.truncate is not None:
            request, self.truncated = await meter.shortened(request)
            if self.truncated and self._larger:
                raise ContextTooLongError(
                    f"{self.lane} does not take the whole prompt, and one with a larger context "
                    "is left to ask before anything is truncated"
                )
        await meter.check(request)
        return request

    @property
    def route(self) -> str:
        """What the caller asked for."""
        return self.lane.route

    @property
    def deployment(self) -> str:
        """Who is asked."""
        return self.lane.name

    async def __aenter__(self) -> Self:
        self._begin()
        if not self.lane.slots.take():
            await self._wait_for_a_slot()
            self._begin()
        own = self.lane.deployment.timeout
        # Whoever has a substitute gets no more than its own time of the caller's.
        if self._deadline is None or (not self._patient and own < self._deadline - self._now()):
            self._seconds = own
            self._deadline = self._now() + own
        try:
            await self._take_turn()
            await self._reserve()
        except BaseException as error:
            self._end_turn()
            self.lane.slots.release()
            if isinstance(error, BudgetExceededError):
                self._holds = False
            self._settle(error)  # given up while it was held: nothing was asked
            if isinstance(error, ModelError):
                await self._record(type(error).__name__, wait=True)
            raise
        self._probe = self.lane.health.begin()
        if self._origin.observer is not None:
            self._origin.observer.began(self)
        return self

    async def _wait_for_a_slot(self) -> None:
        try:
            async with asyncio.timeout_at(self._deadline):
                await self.lane.slots.acquire(self._origin.tenant)
        except TimeoutError:
            error = ModelTimeoutError(
                f"{self.lane} had no free slot within {self._seconds:g} s: raise its "
                "`concurrency` if the server can take more, or allow more time"
            )
            await self._record(type(error).__name__, wait=True)
            raise error from None

    async def _take_turn(self) -> None:
        """Wait for what the limits of the deployment, of all processes together, allow."""
        limiter = self.lane.limiter
        if limiter is None:
            return
        tokens = (await self._most()).guess(self.lane.deployment)
        self._taken = limiter.take_now(tokens)
        if self._taken is not None:
            return
        try:
            async with asyncio.timeout_at(self._deadline):
                self._taken = await limiter.take(self._origin.tenant, tokens, patient=self._patient)
        except TimeoutError:
            raise ModelTimeoutError(
                f"{self.lane} was at its limit for {self._seconds:g} s: raise its rpm, tpm or "
                "parallel if the provider allows more, or allow more time"
            ) from None

    def _end_turn(self) -> None:
        if self._taken is None or self.lane.limiter is None:
            return
        used = None if self._usage is None else self._usage.prompt_tokens
        if used is not None and self._usage is not None:
            used += self._usage.completion_tokens or 0
        elif self.attempts == 0:
            used = 0
        self.lane.limiter.end(self._taken, used)
        self._taken = None

    async def _reserve(self) -> None:
        """Hold what the call may cost at most in its budgets."""
        lane = self.lane
        if not lane.purse.budgets:
            return
        assert self._deadline is not None
        seconds = self._deadline - self._now()
        need, payer = await self._most(), self._origin.payer()
        claims = claims_of(lane.purse.budgets, need, str(lane), lane.deployment, payer, seconds)
        if claims:
            self._holds = True
            await lane.purse.store.reserve(self.id, claims, seconds + GRACE, self._place())

    async def _most(self) -> Need:
        if self._needed is None:
            if self._need is not None:
                self._needed = self._need()
            else:
                assert self._request is not None, "a chat is admitted first"
                self._needed = await self.lane.meter.need(self._request, self._rounds)
        return self._needed

    def _settle(self, error: BaseException | None) -> None:
        """What it has cost: all that was held where nobody can know."""
        if not self._holds:
            return
        usage = self._usage
        spent = Spent(gpu_seconds=self._gpu_seconds())
        if usage is not None and usage.prompt_tokens is not None:
            tokens = usage.prompt_tokens + (usage.completion_tokens or 0)
            spent = Spent(self._cost(), tokens, self._gpu_seconds())
        elif self.attempts == 0 or (
            usage is None and isinstance(error, UNPAID) and not self._begun
        ):
            spent = NOTHING
        self.lane.purse.store.settle(self.id, spent)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lane.slots.release()
        self._end_turn()
        # A caller in a hurry says nothing about the server.
        found = TimeoutError() if self._hurried else error
        self.lane.health.end(found, probe=self._probe, wait=self._wait)
        self._seconds_taken = time.perf_counter() - self._clock
        self._latency_ms = round(self._seconds_taken * 1000)
        if error is None and self._kind == "chat":
            self.lane.pace.add(self._seconds_taken)
        self._settle(error)
        gave_up = kind is not None and not issubclass(kind, Exception)
        # Whoever gave up (cancelled, or closed the stream) does not wait for the database.
        outcome = OK if kind is None else "CancelledError" if gave_up else kind.__name__
        await self._record(outcome, wait=not gave_up and not (self._keeps and kind is None))

    async def tried(self, operation: Callable[[], Awaitable[T]]) -> T:
        """The result of `operation`, retried by the gateway's policy within the deadline."""

        async def once() -> T:
            self.attempts += 1
            if self.attempts > 1 and self.lane.limiter is not None:
                await self._timed(self.lane.limiter.again(self._origin.tenant))
            try:
                return await self._timed(operation())
            except RefusedError as refused:
                self._wait = refused.retry_after or 0.0
                raise

        return await with_retries(once, self.lane.retry, self._deadline, patient=self._patient)

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Wait, in turn, for room for one more request of this call beside those under way."""
        lane, tenant = self.lane, self._origin.tenant
        await lane.slots.acquire(tenant)
        try:
            taken = None if lane.limiter is None else await lane.limiter.beside(tenant)
            try:
                yield
            finally:
                if taken is not None and lane.limiter is not None:
                    lane.limiter.end(taken, None)
        finally:
            lane.slots.release()

    async def rest(self, opened: OpenedStream) -> AsyncGenerator[ChatChunk, None]:
        """The pieces of an opened stream, each within the deadline."""
        chunk, stream = opened
        async with aclosing(stream):
            while chunk is not None:
                if not self._begun:
                    self._begun = True
                    self._first = time.perf_counter() - self._clock
                yield chunk
                # Around each step, not the loop: a timeout must not cancel what the caller does
                # between two pieces.
                chunk = await self._timed(anext(stream, None), self.lane.deployment.idle_timeout)

    def prepared(self, wanted: ChatRequest) -> ChatRequest:
        """The request with what a provider's prompt cache wants to know."""
        return cached(wanted, self._origin.tenant) if self.lane.deployment.prompt_cache else wanted

    def count(self, usage: Usage, model: str | None) -> None:
        """Add the tokens of one reply; they are paid for even if the reply is of no use."""
        self._usage = usage if self._usage is None else self._usage + usage
        self._model = model or self._model

    async def entered(self) -> None:
        """Wait until the call's row is in the ledger, or would be if this process died now."""
        if self._row is not None and not self._holds:
            await asyncio.shield(self._row)

    def facts(self) -> dict[str, Any]:
        """What every answer says about its call, once the call is over."""
        return {
            "usage": self._usage or Usage(),
            "model": self._model,
            "route": self.lane.route,
            "deployment": self.lane.name,
            "latency_ms": self._latency_ms,
            "attempts": self.attempts,
            "cost_usd": self._cost(),
            "call_id": self.id,
        }

    async def _timed(self, step: Awaitable[T], idle: float | None = None) -> T:
        """`step` within the deadline, and within `idle` seconds."""
        assert self._deadline is not None, "the call has a slot"
        pause = None if idle is None else self._now() + idle
        paused = pause is not None and pause < self._deadline
        if not self._under_way:
            self._asked = time.perf_counter()
        self._under_way += 1
        try:
            async with asyncio.timeout_at(pause if paused else self._deadline):
                return await step
        except TimeoutError:
            if paused:
                raise ModelTimeoutError(
                    f"{self.lane} sent nothing for {idle:g} s in the middle of its answer: raise "
                    "its `idle_timeout` if it may pause that long"
                ) from None
            self._hurried = self._seconds < self.lane.deployment.timeout
            raise ModelTimeoutError(
                f"{self.lane} did not finish within {self._seconds:g} s: allow more time "
                "(`timeout` of the deployment or the call), or ask for less"
            ) from None
        finally:
            self._under_way -= 1
            if not self._under_way:
                self.upstream += time.perf_counter() - self._asked

    def _begin(self) -> None:
        self._clock = time.perf_counter()
        self._started_at = datetime.now(UTC)

    def _gpu_seconds(self) -> Decimal | None:
        return gpu_seconds(self.lane.deployment, self._seconds_taken)

    def _cost(self) -> Decimal | None:
        return (self._usage or Usage()).cost(self.lane.deployment.price)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _record(self, outcome: str, *, wait: bool) -> None:
        usage = self._usage or Usage()
        call = ModelCall(
            id=self.id,
            **self._place(),
            outcome=outcome,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost_usd=self._cost(),
            gpu_seconds=self._gpu_seconds(),
            latency_ms=self._latency_ms,
            first_token_ms=None if self._first is None else round(self._first * 1000),
            attempts=self.attempts,
            mirror_of=None if self.twin is None else self.twin.call_id,
            agreement=self.agreement,
            content=self._content(),
        )
        if self._origin.observer is not None:
            total = time.perf_counter() - self._clock
            self._origin.observer.ended(call, Times(total, self.upstream, self._first))
        # Who holds is in the books already: the row can wait for company.
        self._row = self.lane.records.write(call, soon=not self._holds)
        if wait:
            await self.entered()

    def _content(self) -> Content | None:
        told = self.told or Reply("", None, None)
        return content_of(self.lane.records.keeps, self.asked, told.text, told.tool_calls)

    def _place(self) -> dict[str, Any]:
        """What the ledger knows of a call before it is made."""
        origin = self._origin
        return {
            "tenant": origin.tenant,
            "run_id": origin.run_id,
            "node": origin.node,
            "route": self.lane.route,
            "deployment": self.lane.name,
            "model": self._model,
            "kind": self._kind,
            "started_at": self._started_at,
            "api_key": origin.key,
            "prompt": origin.prompt,
        }
