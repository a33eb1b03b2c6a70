"""One call on its way: its slot, its deadline, its tries, and its row in the ledger."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from uuid import UUID

from uuid_utils.compat import uuid7

from rotina.errors import (
    BudgetExceededError,
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
from rotina.gateway.answer import ChatAnswer, ChatChunk, ChatRequest, Usage
from rotina.gateway.budget import GRACE, Need, claims_of
from rotina.gateway.lane import Records
from rotina.gateway.ledger import CACHED, OK, ModelCall
from rotina.gateway.provider import Provider, RefusedError
from rotina.gateway.retry import with_retries
from rotina.gateway.routing import Choice

T = TypeVar("T")

_UNPAID = (
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


async def record_cached(records: Records, origin: Origin, answer: ChatAnswer) -> None:
    """Write the row of an answer that came out of the cache."""
    row = ModelCall(
        id=uuid7(),
        tenant=origin.tenant,
        run_id=origin.run_id,
        node=origin.node,
        route=answer.route,
        deployment=answer.deployment,
        model=answer.model,
        kind="chat",
        outcome=CACHED,
        prompt_tokens=0,
        completion_tokens=0,
        cached_tokens=None,
        cost_usd=Decimal(0),
        latency_ms=answer.latency_ms,
        attempts=0,
        started_at=datetime.now(UTC),
    )
    task = records.write(row)
    if task is not None:
        await asyncio.shield(task)


class Call:
    """`async with` it: waits for a slot, and records the outcome when left."""

    def __init__(
        self,
        kind: Literal["chat", "embedding"],
        choice: Choice,
        origin: Origin,
        need: Callable[[], Need],
        *,
        keeps: bool = False,
    ) -> None:
        """Of the next deployment of `choice`; `need` is asked for where there is a budget.

        `keeps`: a good answer is recorded by the caller, at once with the call's row.
        """
        self.lane = lane = choice.take()
        self._patient = choice.last
        self._kind: Literal["chat", "embedding"] = kind
        self._need = need
        self._id = uuid7()
        self._holds = False
        self._origin = origin
        # The caller's own deadline runs already; the deployment's once there is a slot, because a
        # queue in this process says nothing about the server.
        self._seconds = lane.deployment.timeout if choice.seconds is None else choice.seconds
        self._deadline = choice.deadline
        self._usage: Usage | None = None
        self._model = lane.deployment.model
        self._latency_ms = 0
        self._row: asyncio.Task[None] | None = None
        self._keeps = keeps
        self._wait = 0.0
        self._probe = False
        self._hurried = False
        """Whether the caller allowed less time than the deployment has."""
        self._begun = False
        """Whether some of a streamed answer has come."""
        self.attempts = 0

    async def __aenter__(self) -> Self:
        self._begin()
        try:
            async with asyncio.timeout_at(self._deadline):
                await self.lane.slots.acquire()
        except TimeoutError:
            error = ModelTimeoutError(
                f"{self.lane} had no free slot within {self._seconds:g} s: raise its "
                "`concurrency` if the server can take more, or allow more time"
            )
            await self._record(type(error).__name__, wait=True)
            raise error from None
        self._begin()
        own = self.lane.deployment.timeout
        # Whoever has a substitute gets no more than its own time of the caller's.
        if self._deadline is None or (not self._patient and own < self._deadline - self._now()):
            self._seconds = own
            self._deadline = self._now() + own
        try:
            await self._reserve()
        except BaseException as error:
            self.lane.slots.release()
            # Given up while it was held: nothing was asked.
            if self._holds and not isinstance(error, BudgetExceededError):
                self.lane.purse.settle(self._id, Decimal(0), 0)
            if isinstance(error, ModelError):
                await self._record(type(error).__name__, wait=True)
            raise
        self._probe = self.lane.health.begin()
        return self

    async def _reserve(self) -> None:
        """Hold what the call may cost at most in its budgets."""
        lane, origin = self.lane, self._origin
        if not lane.purse.budgets:
            return
        claims = claims_of(
            lane.purse.budgets, self._need(), str(lane), lane.deployment,
            tenant=origin.tenant, workflow=origin.workflow,
            run=None if origin.run_id is None else str(origin.run_id),
        )  # fmt: skip
        if claims:
            assert self._deadline is not None
            self._holds = True
            await lane.purse.reserve(self._id, claims, self._deadline - self._now() + GRACE)

    def _settle(self, error: BaseException | None) -> None:
        """What it has cost: all that was held where nobody can know."""
        if not self._holds:
            return
        usage = self._usage
        if usage is not None and usage.prompt_tokens is not None:
            tokens = usage.prompt_tokens + (usage.completion_tokens or 0)
            self.lane.purse.settle(self._id, self._cost(), tokens)
        elif self.attempts == 0 or (isinstance(error, _UNPAID) and not self._begun):
            self.lane.purse.settle(self._id, Decimal(0), 0)
        else:
            self.lane.purse.settle(self._id, None, None)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lane.slots.release()
        # A caller in a hurry says nothing about the server.
        found = TimeoutError() if self._hurried else error
        self.lane.health.end(found, probe=self._probe, wait=self._wait)
        self._settle(error)
        self._latency_ms = round((time.perf_counter() - self._clock) * 1000)
        gave_up = kind is not None and not issubclass(kind, Exception)
        # Whoever gave up (cancelled, or closed the stream) does not wait for the database.
        outcome = OK if kind is None else "CancelledError" if gave_up else kind.__name__
        await self._record(outcome, wait=not gave_up and not (self._keeps and kind is None))

    async def tried(self, operation: Callable[[], Awaitable[T]]) -> T:
        """The result of `operation`, retried by the gateway's policy within the deadline."""

        async def once() -> T:
            self.attempts += 1
            try:
                return await self._timed(operation())
            except RefusedError as refused:
                self._wait = refused.retry_after or 0.0
                raise

        return await with_retries(once, self.lane.retry, self._deadline, patient=self._patient)

    async def rest(self, opened: OpenedStream) -> AsyncGenerator[ChatChunk, None]:
        """The pieces of an opened stream, each within the deadline."""
        chunk, stream = opened
        async with aclosing(stream):
            while chunk is not None:
                self._begun = True
                yield chunk
                # Around each step, not the loop: a timeout must not cancel what the caller does
                # between two pieces.
                chunk = await self._timed(anext(stream, None), self.lane.deployment.idle_timeout)

    def count(self, usage: Usage, model: str | None) -> None:
        """Add the tokens of one reply; they are paid for even if the reply is of no use."""
        self._usage = usage if self._usage is None else self._usage + usage
        self._model = model or self._model

    async def entered(self) -> None:
        """Wait until the call's row is in the ledger."""
        if self._row is not None:
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
        }

    async def _timed(self, step: Awaitable[T], idle: float | None = None) -> T:
        """`step` within the deadline, and within `idle` seconds."""
        assert self._deadline is not None, "the call has a slot"
        pause = None if idle is None else self._now() + idle
        paused = pause is not None and pause < self._deadline
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

    def _begin(self) -> None:
        self._clock = time.perf_counter()
        self._started_at = datetime.now(UTC)

    def _cost(self) -> Decimal | None:
        return (self._usage or Usage()).cost(self.lane.deployment.price)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _record(self, outcome: str, *, wait: bool) -> None:
        usage = self._usage or Usage()
        call = ModelCall(
            id=self._id,
            tenant=self._origin.tenant,
            run_id=self._origin.run_id,
            node=self._origin.node,
            route=self.lane.route,
            deployment=self.lane.name,
            model=self._model,
            kind=self._kind,
            outcome=outcome,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            cost_usd=self._cost(),
            latency_ms=self._latency_ms,
            attempts=self.attempts,
            started_at=self._started_at,
        )
        self._row = self.lane.records.write(call)
        if wait:
            await self.entered()
