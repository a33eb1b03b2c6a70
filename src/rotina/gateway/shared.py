"""What the gateways of all processes know together, through Redis: limits, circuits, load.

Nothing here is the truth about money or runs. Without Redis each process goes on by itself: with
its part of the limits, or without calls where the settings say so.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import uuid4

from rotina.errors import ModelRateLimitedError
from rotina.gateway.buckets import LocalLender
from rotina.gateway.health import Health
from rotina.gateway.limits import Allowance, Share, burst, rate
from rotina.gateway.load import Ask, Load, poll
from rotina.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks at what the others know."""
SILENT_MS = 10_000
"""A process without a sign for as long holds no slots any more."""
REDIS_SECONDS = 1.0
"""Redis is away when it does not answer for as long; then it is left alone for a while."""
LEFT_ALONE = 2.0
LOAD_MS = 5_000
"""How long what a server said of its load is believed."""
POLL_MS = 1_500
"""One process asks a server for its load, at most so often."""


class Shared:
    """The shared state, as one process sees it. Made without I/O; closed by who made it."""

    def __init__(self, url: str, *, without: Literal["share", "closed"] = "share") -> None:
        """`without` says what limits do when Redis is away."""
        self._url = url
        self._closed_without = without == "closed"
        self._process = uuid4().hex
        self._processes = 1
        self._local = LocalLender()
        self._borrowed: dict[str, int] = {}
        """Slots that were lent without Redis, by deployment."""
        self._returned: dict[str, int] = {}
        self._published: dict[str, float] = {}
        self._known: set[str] = set()
        """Deployments whose open circuit stands in Redis."""
        self._away_until = 0.0
        self._made: tuple[Redis, dict[str, Any]] | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """None where the settings have no Redis."""
        if settings.redis_url is None:
            return None
        url = settings.redis_url.get_secret_value()
        return cls(url, without=settings.limits_without_redis)

    @property
    def processes(self) -> int:
        """Gateways that were alive when Redis was last asked."""
        return self._processes

    async def lease(
        self, name: str, allowance: Allowance, least: Share, most: Share
    ) -> Share | float:
        """See `Lender.lease`: one round trip."""
        if _now() >= self._away_until:
            with self._patience():
                return await self._lease(name, allowance, least, most)
        if self._closed_without:
            raise ModelRateLimitedError(
                f"deployment {name!r} has limits, and Redis, which counts for all processes, is "
                'away: bring it back, or set limits_without_redis = "share"'
            )
        found = self._local.lend(name, allowance.part(self._processes), least, most)
        if isinstance(found, Share):
            self._borrowed[name] = self._borrowed.get(name, 0) + found.slots
        return found

    def give_back(self, name: str, slots: int) -> None:
        """See `Lender.give_back`: with the next look."""
        own = min(slots, self._borrowed.get(name, 0))
        if own:
            self._borrowed[name] -= own
            self._local.give_back(name, own)
        if slots > own:
            self._returned[name] = self._returned.get(name, 0) + slots - own

    async def look(self, healths: Mapping[str, Health], asks: Mapping[str, Ask]) -> dict[str, Load]:
        """Tell the others what this process found, and learn what they did.

        Circuits that another process opened are opened here, and closed with it. `asks` are the
        servers that tell their load; returns what is known of it. Without Redis each process asks
        for itself.
        """
        if _now() >= self._away_until:
            with self._patience():
                loads = await self._look(healths, list(asks))
                return loads | await self._poll(asks)
        return await poll(asks)

    async def close(self) -> None:
        """Give back what is held, and close the connections."""
        if self._made is None:
            return
        redis, scripts = self._made
        self._made = None
        with contextlib.suppress(Exception):  # it expires in ten seconds anyway
            async with asyncio.timeout(REDIS_SECONDS):
                for name, slots in self._returned.items():
                    keys, args = [f"rotina:slots:{name}"], [self._process, slots]
                    await scripts["give_back"](keys=keys, args=args)
                await redis.zrem("rotina:processes", self._process)
        await redis.aclose()

    def _open(self) -> tuple["Redis", dict[str, Any]]:
        if self._made is None:
            from redis.asyncio import Redis  # noqa: PLC0415 - heavy, and many gateways need none

            redis = Redis.from_url(
                self._url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
            )
            folder = resources.files("rotina.gateway")
            scripts = {
                name: redis.register_script((folder / f"{name}.lua").read_text())
                for name in ("lease", "give_back", "heartbeat")
            }
            self._made = redis, scripts
        return self._made

    @contextlib.contextmanager
    def _patience(self) -> Any:
        """Leave Redis alone for a moment once it has failed."""
        from redis.exceptions import RedisError  # noqa: PLC0415 - as above

        try:
            yield
        except (RedisError, OSError, TimeoutError) as error:
            if _now() >= self._away_until:
                log.warning(
                    "Redis is away (%s): limits are %s", type(error).__name__,
                    "closed" if self._closed_without else "this process's part of them",
                )  # fmt: skip
            self._away_until = _now() + LEFT_ALONE

    async def _lease(
        self, name: str, allowance: Allowance, least: Share, most: Share
    ) -> Share | float:
        _, scripts = self._open()
        keys = [f"rotina:limit:{name}", f"rotina:slots:{name}", "rotina:processes"]
        args: list[Any] = [self._process, SILENT_MS]
        for per_minute, low, high in (
            (allowance.rpm, least.requests, most.requests),
            (allowance.tpm, least.tokens, most.tokens),
        ):
            size = (-1.0, 0.0) if per_minute is None else (burst(per_minute), rate(per_minute))
            args += [*size, low, high]
        args += [-1 if allowance.parallel is None else allowance.parallel, least.slots, most.slots]
        found = await scripts["lease"](keys=keys, args=args)
        if not int(found[0]):
            return float(found[1])
        return Share(float(found[1]), float(found[2]), int(found[3]))

    async def _look(self, healths: Mapping[str, Health], loaded: list[str]) -> dict[str, Load]:
        redis, scripts = self._open()
        async with redis.pipeline(transaction=False) as pipe:
            return await self._tell_and_hear(pipe, scripts, healths, loaded)

    async def _tell_and_hear(
        self,
        pipe: Any,
        scripts: Mapping[str, Any],
        healths: Mapping[str, Health],
        loaded: list[str],
    ) -> dict[str, Load]:
        returned, self._returned = self._returned, {}
        await scripts["heartbeat"](
            keys=["rotina:processes"], args=[self._process, SILENT_MS], client=pipe
        )
        for name, slots in returned.items():
            keys, args = [f"rotina:slots:{name}"], [self._process, slots]
            await scripts["give_back"](keys=keys, args=args, client=pipe)
        self._tell(pipe, healths)
        begin = len(pipe)
        for name in healths:
            pipe.get(f"rotina:circuit:{name}")
            pipe.pttl(f"rotina:circuit:{name}")
        for name in loaded:
            pipe.get(f"rotina:load:{name}")
        try:
            answers = await pipe.execute()
        except BaseException:
            for name, slots in returned.items():
                self._returned[name] = self._returned.get(name, 0) + slots
            raise
        self._processes = max(1, int(answers[0]))
        rest = iter(answers[begin:])
        for name, health in healths.items():
            openings, left = next(rest), next(rest)
            health.hear(int(openings or 0), max(0, left) / 1000)
            (self._known.add if openings else self._known.discard)(name)
        told = {name: next(rest) for name in loaded}
        return {name: Load.parse(text) for name, text in told.items() if text is not None}

    def _tell(self, pipe: Any, healths: Mapping[str, Health]) -> None:
        """Circuits that this process has opened since, and those that it has closed again."""
        for name, health in healths.items():
            key = f"rotina:circuit:{name}"
            if health.own and health.until != self._published.get(name) and health.left > 0:
                self._published[name] = health.until
                pipe.set(key, health.openings, px=max(1, round(health.left * 1000)))
            elif not health.openings and name in self._known:
                pipe.delete(key)
                self._known.discard(name)

    async def _poll(self, asks: Mapping[str, Ask]) -> dict[str, Load]:
        """Ask servers for their load, those that nobody else has asked a moment ago."""
        if not asks:
            return {}
        redis, _ = self._open()
        async with redis.pipeline(transaction=False) as pipe:
            for name in asks:
                pipe.set(f"rotina:poll:{name}", self._process, nx=True, px=POLL_MS)
            won = zip(asks, await pipe.execute(), strict=True)
            loads = await poll({name: asks[name] for name, mine in won if mine})
            for name, load in loads.items():
                pipe.set(f"rotina:load:{name}", load.dump(), px=LOAD_MS)
            await pipe.execute()
        return loads


def _now() -> float:
    return asyncio.get_running_loop().time()
