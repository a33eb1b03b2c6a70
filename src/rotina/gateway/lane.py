"""Lanes: what the calls to one deployment share, for as long as the gateway is open."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from rotina.errors import DatabaseError, SettingsError
from rotina.gateway.answer import ChatRequest
from rotina.gateway.budget import BudgetStore
from rotina.gateway.health import Health
from rotina.gateway.http import Sessions
from rotina.gateway.ledger import CallLedger, ModelCall
from rotina.gateway.provider import Provider
from rotina.gateway.retry import RetryPolicy
from rotina.gateway.structured import with_schema_in_prompt
from rotina.settings import Budget, Deployment, Settings

log = logging.getLogger(__name__)


class Background:
    """Writes that nobody has to wait for: cancelling the caller does not lose them."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[None]] = set()

    def start(self, write: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin one, in a task of its own."""
        task = asyncio.create_task(write)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def flush(self) -> None:
        """Wait for those under way."""
        await asyncio.gather(*self._under_way)


class Records:
    """Writes ledger rows; a row that cannot be written is loud, but costs nobody the answer."""

    def __init__(self, ledger: CallLedger | None, background: Background) -> None:
        self.failures = 0
        self._ledger = ledger
        self._background = background

    def write(self, call: ModelCall) -> asyncio.Task[None] | None:
        """Write the row in the background; None where there is no ledger."""
        if self._ledger is None:
            return None
        return self._background.start(self._write(self._ledger, call))

    async def _write(self, ledger: CallLedger, call: ModelCall) -> None:
        try:
            await ledger.record(call)
        except DatabaseError as error:
            # The answer is paid for, so it is not thrown away with its receipt. The log holds
            # everything that the row would have held.
            self.failures += 1
            fields = call.model_dump(mode="json")
            log.error("a model call was not recorded: %s", error, extra={"model_call": fields})  # noqa: TRY400


class Slots:
    """The calls that a deployment takes at once from this process."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.busy = 0
        self._free = asyncio.Semaphore(size)

    @property
    def full(self) -> bool:
        """Whether the next call has to wait."""
        return self._free.locked()

    async def acquire(self) -> None:
        """Wait for a slot."""
        await self._free.acquire()
        self.busy += 1

    def release(self) -> None:
        """Give it back."""
        self.busy -= 1
        self._free.release()


class Purse:
    """The budgets that calls are paid from."""

    def __init__(
        self,
        budgets: Mapping[str, Budget],
        store: BudgetStore | None,
        background: Background,
    ) -> None:
        """Raises `SettingsError` for budgets that nobody keeps: a call must not go past them."""
        if budgets and store is None:
            raise SettingsError(
                f"budgets.{next(iter(budgets))} is set, and this gateway has no database to keep "
                "it in: give it budgets=PostgresBudgets(pool)"
            )
        self.budgets = budgets
        self._store = store
        self._background = background

    async def reserve(
        self, call: UUID, claims: Sequence[Mapping[str, Any]], seconds: float
    ) -> None:
        """Hold in every claim's budget. Raises `BudgetExceededError`."""
        assert self._store is not None
        await self._store.reserve(call, claims, seconds)

    def settle(self, call: UUID, usd: Decimal | None, tokens: int | None) -> None:
        """Settle in the background."""
        self._background.start(self._settle(call, usd, tokens))

    async def _settle(self, call: UUID, usd: Decimal | None, tokens: int | None) -> None:
        assert self._store is not None
        try:
            await self._store.settle(call, usd, tokens)
        except DatabaseError as error:
            log.error("call %s was not settled and will count as all it held: %s", call, error)  # noqa: TRY400


@dataclass(frozen=True)
class Lane:
    """A route's way to one of its deployments."""

    route: str
    name: str
    deployment: Deployment
    provider: Provider
    slots: Slots
    health: Health
    retry: RetryPolicy
    records: Records = field(repr=False)
    purse: Purse = field(repr=False)

    def __str__(self) -> str:
        return f"deployment {self.name!r} (model {self.deployment.model!r})"

    def prepare(self, request: ChatRequest) -> ChatRequest:
        """The request as this deployment can take it."""
        if request.schema is None or self.deployment.structured_output == "json_schema":
            return request
        messages = with_schema_in_prompt(request.messages, request.schema)
        return replace(request, messages=messages, schema=None)


class Lanes:
    """The lanes of a gateway, made when first used."""

    def __init__(
        self,
        settings: Settings,
        ledger: CallLedger | None,
        retry: RetryPolicy,
        budgets: BudgetStore | None,
    ) -> None:
        self.settings = settings
        self._retry = retry
        self._background = Background()
        self.records = Records(ledger, self._background)
        self._purse = Purse(settings.budgets, budgets, self._background)
        self._sessions = Sessions()
        self._shared: dict[str, tuple[Provider, Slots, Health]] = {}
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that opened the lanes. Raises `RuntimeError` when they are closed."""
        if self._loop is None:
            raise RuntimeError("The gateway is not open: use it inside `async with Gateway(…)`")
        return self._loop

    @property
    def ledger_failures(self) -> int:
        """Rows that could not be written."""
        return self.records.failures

    def open(self) -> None:
        """Bind to the running loop."""
        if self._loop is not None:
            raise RuntimeError("The gateway is open already: `bound()` views are not entered")
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """Wait for writes under way and close every connection."""
        await self._background.flush()
        for provider, _, _ in self._shared.values():
            await provider.close()
        await self._sessions.close()
        self._shared.clear()
        self._lanes.clear()
        self._loop = None

    def get(self, route: str, name: str) -> Lane:
        """A route's lane to one of its deployments.

        Raises `RuntimeError` when the gateway is closed or belongs to another event loop.
        """
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError("The gateway was opened by another event loop: open one in this")
        lane = self._lanes.get((route, name))
        if lane is None:
            lane = self._lanes[route, name] = self._make(route, name)
        return lane

    def _make(self, route: str, name: str) -> Lane:
        deployment = self.settings.deployments[name]
        if name not in self._shared:
            provider = _open_provider(name, deployment, self._sessions)
            self._shared[name] = (provider, Slots(deployment.concurrency), Health())
        provider, slots, health = self._shared[name]
        return Lane(
            route,
            name,
            deployment,
            provider,
            slots,
            health,
            self._retry,
            self.records,
            self._purse,
        )


def _open_openai(name: str, deployment: Deployment, sessions: Sessions) -> Provider:
    from rotina.gateway.openai_wire import OpenAIWire  # noqa: PLC0415 - one provider needs it

    return OpenAIWire(name, deployment, sessions)


def _open_anthropic(name: str, deployment: Deployment, sessions: Sessions) -> Provider:  # noqa: ARG001 - its client has its own
    from rotina.gateway.anthropic_provider import AnthropicProvider  # noqa: PLC0415 - an extra

    return AnthropicProvider(name, deployment)


_OPENERS: dict[str, Callable[[str, Deployment, Sessions], Provider]] = {
    "openai": _open_openai,
    "anthropic": _open_anthropic,
}


def _open_provider(name: str, deployment: Deployment, sessions: Sessions) -> Provider:
    opener = _OPENERS.get(deployment.provider)
    if opener is None:
        raise SettingsError(
            f"deployments.{name}.provider is {deployment.provider!r}, which has no adapter: use "
            f"one of {', '.join(_OPENERS)}; many services offer an OpenAI-compatible endpoint"
        )
    return opener(name, deployment, sessions)
