"""Lanes: what the calls to one deployment share, for as long as the gateway is open."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from rotina.errors import DatabaseError, ModelUnreachableError, SettingsError
from rotina.gateway.buckets import LocalLender
from rotina.gateway.budget import BudgetStore
from rotina.gateway.content import Policy
from rotina.gateway.fit import Meter
from rotina.gateway.health import Health
from rotina.gateway.http import Sessions
from rotina.gateway.ledger import CallLedger, ModelCall
from rotina.gateway.limits import Allowance, Lender, Limiter
from rotina.gateway.load import Load, ask_load, poll
from rotina.gateway.observer import DeploymentState
from rotina.gateway.provider import Provider
from rotina.gateway.providers import check_options, open_provider
from rotina.gateway.race import Pace
from rotina.gateway.retry import RetryPolicy
from rotina.gateway.shared import EVERY, Shared
from rotina.gateway.turns import Turns
from rotina.settings import Budget, Deployment, Settings

log = logging.getLogger(__name__)

LAST_LOOK = 3.0
"""Seconds that closing waits for a look at the other processes that is under way."""


class Background:
    """What nobody has to wait for: cancelling the caller does not lose it."""

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

    async def cancel(self) -> None:
        """Give up those under way."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)


class Records:
    """Writes ledger rows; a row that cannot be written is loud, but costs nobody the answer."""

    def __init__(self, ledger: CallLedger | None, background: Background, keeps: Policy) -> None:
        self.failures = 0
        self.keeps: Policy = keeps
        """Whether the ledger keeps what was said."""
        self._ledger = ledger
        self._background = background

    def write(self, call: ModelCall, *, soon: bool = True) -> asyncio.Task[None] | None:
        """Write the row in the background; None where there is no ledger."""
        if self._ledger is None:
            return None
        # Begun here and not in the task: a ledger that books settles and rows together has both.
        writing = self._ledger.record(call, soon=soon)
        return self._background.start(self._write(writing, call))

    async def _write(self, writing: Coroutine[Any, Any, None], call: ModelCall) -> None:
        try:
            await writing
        except DatabaseError as error:
            # The answer is paid for, so it is not thrown away with its receipt. The log holds
            # everything that the row would have held.
            self.failures += 1
            fields = call.model_dump(mode="json")
            log.error("a model call was not recorded: %s", error, extra={"model_call": fields})  # noqa: TRY400


class Slots:
    """The calls that a deployment takes at once from this process; tenants take turns."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.busy = 0
        self._waiting: Turns[asyncio.Future[None]] = Turns()

    @property
    def full(self) -> bool:
        """Whether the next call has to wait."""
        return self.busy >= self.size

    def take(self) -> bool:
        """Take a slot if nobody has to wait for it."""
        if self.full or self._waiting:
            return False
        self.busy += 1
        return True

    async def acquire(self, tenant: str = "") -> None:
        """Wait for a slot."""
        if self.take():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put(tenant, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give it back, to who is next."""
        self.busy -= 1
        while self._waiting:
            turn = self._waiting.pop()
            if not turn.done():
                self.busy += 1
                turn.set_result(None)
                return


class Purse:
    """The budgets that calls are paid from."""

    def __init__(self, budgets: Mapping[str, Budget], store: BudgetStore | None) -> None:
        """Raises `SettingsError` for budgets that nobody keeps: a call must not go past them."""
        if budgets and store is None:
            raise SettingsError(
                f"budgets.{next(iter(budgets))} is set, and this gateway has no database to keep "
                "it in: use Gateway.with_database(settings, pool)"
            )
        self.budgets = budgets
        self._store = store

    @property
    def store(self) -> BudgetStore:
        """Where they are kept; only for who has found budgets."""
        assert self._store is not None, "checked when the purse was made"
        return self._store

    async def flush(self) -> None:
        """Wait until all that was spent is booked."""
        if self._store is not None:
            await self._store.flush()


@dataclass(frozen=True)
class Lane:
    """A route's way to one of its deployments."""

    route: str
    name: str
    deployment: Deployment
    provider: Provider
    slots: Slots
    health: Health
    limiter: Limiter | None
    meter: Meter
    pace: Pace
    retry: RetryPolicy
    records: Records = field(repr=False)
    purse: Purse = field(repr=False)
    loads: Mapping[str, Load] = field(repr=False)

    @property
    def full(self) -> bool:
        """Whether the next call has to wait, for a slot here or for the limits of all."""
        return self.slots.full or (self.limiter is not None and self.limiter.empty)

    @property
    def load(self) -> Load | None:
        """What the server said lately of how busy it is."""
        return self.loads.get(self.name)

    def __str__(self) -> str:
        return f"deployment {self.name!r} (model {self.deployment.model!r})"


@dataclass(frozen=True)
class _Parts:
    """What the lanes of one deployment share."""

    provider: Provider
    slots: Slots
    health: Health
    limiter: Limiter | None
    meter: Meter
    pace: Pace


class Lanes:
    """The lanes of a gateway, made when first used."""

    def __init__(
        self,
        settings: Settings,
        ledger: CallLedger | None,
        retry: RetryPolicy,
        budgets: BudgetStore | None,
        shared: Shared | None,
    ) -> None:
        check_options(settings)
        self.settings = settings
        self._retry = retry
        self._background = Background()
        self.mirrors = Background()
        self.records = Records(ledger, self._background, settings.store_prompts)
        self._purse = Purse(settings.budgets, budgets)
        self._sessions = Sessions()
        self._shared = shared
        self._lender: Lender = shared or LocalLender()
        self._parts: dict[str, _Parts] = {}
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._loads: dict[str, Load] = {}
        self._looking: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._closing = False
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

    def states(self) -> list[DeploymentState]:
        """The deployments in use, as they are now."""
        return [
            DeploymentState(name, parts.slots.busy, parts.slots.size, parts.health.cooling)
            for name, parts in self._parts.items()
        ]

    def open(self) -> None:
        """Bind to the running loop."""
        if self._loop is not None:
            raise RuntimeError("The gateway is open already: `bound()` views are not entered")
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """Wait for writes under way and close every connection."""
        if self._looking is not None:
            # A look that is cut off would leave its connection to the garbage collector.
            self._closing = True
            self._news.set()
            await asyncio.wait({self._looking}, timeout=LAST_LOOK)
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
            self._looking, self._closing = None, False
        await self.mirrors.cancel()
        await self._background.flush()
        await self._purse.flush()
        for parts in self._parts.values():
            if parts.limiter is not None:
                await parts.limiter.close()
            await parts.provider.close()
        await self._sessions.close()
        if self._shared is not None:
            await self._shared.close()
        self._parts.clear()
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
        parts = self._parts.get(name)
        if parts is None:
            allowance = Allowance.of(deployment)
            parts = self._parts[name] = _Parts(
                open_provider(name, deployment, self._sessions),
                Slots(deployment.concurrency),
                Health(tell=self._news.set),
                None if allowance is None else Limiter(name, allowance, self._lender),
                Meter(name, deployment, self.settings.project_dir),
                Pace(),
            )
            self._begin_to_look(deployment)
        return Lane(
            route, name, deployment, parts.provider, parts.slots, parts.health, parts.limiter,
            parts.meter, parts.pace, self._retry, self.records, self._purse, self._loads,
        )  # fmt: skip

    def _begin_to_look(self, deployment: Deployment) -> None:
        """At what other processes find, and at servers that tell their load."""
        if self._looking is None and (self._shared or deployment.load_url):
            self._looking = self.loop.create_task(self._keep_looking(), name="rotina-gateway")

    async def _probe(self, name: str, url: str) -> Load | None:
        """Ask a server for its load; who does not answer at all has failed as in a call."""
        health = self._parts[name].health
        try:
            load = await ask_load(self._sessions, url)
        except ModelUnreachableError as error:
            health.end(error, probe=False)
            return None
        health.seen()
        return load

    async def _keep_looking(self) -> None:
        while not self._closing:
            healths = {name: parts.health for name, parts in self._parts.items()}
            urls = {name: self.settings.deployments[name].load_url for name in healths}
            asks = {
                name: functools.partial(self._probe, name, url.get_secret_value())
                for name, url in urls.items()
                if url is not None
            }
            try:
                if self._shared is not None:
                    loads = await self._shared.look(healths, asks)
                else:
                    loads = await poll(asks)
            except Exception:  # it is advice: calls go on without it
                log.exception("the state of deployments could not be looked at")
                loads = {}
            # The lanes hold this very mapping.
            self._loads.clear()
            self._loads.update(loads)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._news.wait()
            self._news.clear()
