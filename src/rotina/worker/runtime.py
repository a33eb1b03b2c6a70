"""One event loop a process: every run of a worker process is a coroutine on it.

Celery's threads pool hands each task to `Runtime`, which runs it on the loop's own thread and
lets the task's thread wait. Model calls wait on the network, so hundreds of runs share one loop,
one HTTP session and one small connection pool.
"""

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from rotina.database import Pool, open_pool
from rotina.gateway import Gateway, PostgresCache, PostgresVectorCache, purge_content
from rotina.graphs.context import Context, make_context
from rotina.knowledge.loading import Limits
from rotina.knowledge.memory import sweep_memory
from rotina.runs import (
    Attempt,
    Driver,
    Queue,
    Registry,
    WorkerLease,
    purge,
    stranded_runs,
    sweep,
)
from rotina.settings import Settings
from rotina.triggers import Door, StreamConsumer, fire_due
from rotina.worker.liveness import Hands, watch_consuming
from rotina.worker.pump import Pump

logger = logging.getLogger(__name__)

T = TypeVar("T")

SWEEP_SECONDS = 2.0
PURGE_SECONDS = 600.0


@dataclass(frozen=True)
class _Resources:
    pool: Pool
    driver: Driver
    pump: Pump
    door: Door
    firing: asyncio.Lock


class Runtime:
    """The loop and the shared resources of one worker process; opened at the first use.

    It must not be opened before a prefork pool forks: threads and sockets do not survive a fork.
    """

    def __init__(self, settings: Settings, tell: Callable[[Queue, int], object]) -> None:
        """`tell` tells a queue of so many runs; it may block."""
        self.many = False
        """Whether this process drives many runs at once, as an io worker does."""
        self._settings = settings
        self._tell = tell
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._resources: _Resources | None = None
        self._stack = contextlib.AsyncExitStack()
        self._hands = Hands(most=1)
        self._consuming: list[asyncio.Task[None]] = []

    def serve(self, queue: Queue) -> bool:
        """Take runs of a queue until none is due; blocks while every hand has one.

        Where `many` is false there is one hand: the next run is driven while this blocks, and the
        queue is told of what may follow. False: this process takes nothing more, somebody else has
        to.
        """

        async def one(resources: _Resources) -> bool:
            if await resources.driver.drive(queue) != "nothing":
                await self._tell_queue(queue, 1)
            return True

        return self._busy(
            lambda resources: resources.pump.serve(queue) if self.many else one(resources)
        )

    def sweep(self) -> None:
        """One sweep of the ledger, with the hints it finds, and the schedules that are due."""
        self._call(self._sweep)

    def receive(self, fields: Mapping[str, Any], *, source: str, reference: str, key: str) -> None:
        """Make a run of a message, or keep it as refused; errors as in `Door.receive`."""
        self._busy(
            lambda resources: resources.door.receive(
                fields, source=source, reference=reference, key=key
            )
        )

    def consume(self) -> None:
        """Read the streams that the settings name, until `drain` or `close`.

        For the one process of an io worker: in a prefork pool each child would be a consumer.
        """
        self._call(self._consume)

    def watch(self, queues: Sequence[str], hands: int, restart: Callable[[], object]) -> None:
        """Call `restart` when this process leaves messages of its queues waiting, until `close`.

        It works on up to `hands` messages at once.
        """
        self._hands.most = hands

        async def begin(resources: _Resources) -> None:  # noqa: ARG001
            settings = self._settings
            watching = watch_consuming(
                settings.require_redis_url(),
                queues,
                self._hands,
                seconds=settings.stuck_seconds,
                restart=restart,
            )
            task = asyncio.create_task(watching, name="rotina-liveness")
            self._stack.push_async_callback(_cancel, task)
            self._consuming.append(task)  # a worker that drains leaves messages on purpose

        self._call(begin)

    def open(self) -> None:
        """Start the loop and open pool, lease and gateway.

        Raises `SettingsError` or `DatabaseError`; then nothing stays open.
        """
        with self._lock:
            if self._resources is not None:
                return
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=_run_until_stopped, args=(self._loop,), name="rotina-loop", daemon=True
            )
            self._thread.start()
            try:
                self._resources = self._submit(self._open()).result()
            except BaseException:
                self._stop_loop()
                raise

    def drain(self) -> None:
        """Let every run stop after its current step; they go back to the queue.

        No entry of a stream is read any more; one that is being read stays pending.
        """
        resources, loop = self._resources, self._loop
        if resources is not None and loop is not None:
            loop.call_soon_threadsafe(resources.driver.drain)
            for task in self._consuming:
                loop.call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        """Wait for what is driven, and close what `open` opened; safe to call twice."""
        with self._lock:
            if self._resources is None:
                return
            self._resources = None
            try:
                self._submit(self._stack.aclose()).result()
            finally:
                self._stop_loop()

    def _busy(self, work: Callable[[_Resources], Coroutine[Any, Any, T]]) -> T:
        self._hands.take()
        try:
            return self._call(work)
        finally:
            self._hands.free()

    def _call(self, work: Callable[[_Resources], Coroutine[Any, Any, T]]) -> T:
        self.open()
        assert self._resources is not None
        return self._submit(work(self._resources)).result()

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _stop_loop(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None

    async def _open(self) -> _Resources:
        settings = self._settings
        stack = contextlib.AsyncExitStack()
        async with stack:
            registry = Registry.load(settings.workflows, settings.project_dir)
            pool = await stack.enter_async_context(
                open_pool(settings.require_database_url(), size=settings.pool_size)
            )
            gateway = await stack.enter_async_context(Gateway.with_database(settings, pool))
            lease = await stack.enter_async_context(
                WorkerLease(pool, settings.lease_seconds).held()
            )
            for left in await stranded_runs(pool, registry.versions):
                logger.warning("%s", left)
            driver = Driver(
                pool,
                registry,
                lease,
                self._context(pool, gateway),
                redact=settings.redact,
                ceilings=settings.max_running,
                tell=self._tell_queue,
            )
            door = Door(pool, registry, settings.tenant, settings.max_attempts, self._tell_queue)
            pump = Pump(driver, settings.io_concurrency)
            resources = _Resources(pool, driver, pump, door, asyncio.Lock())
            sweeping = asyncio.create_task(self._keep_sweeping(resources), name="rotina-sweep")
            stack.push_async_callback(_cancel, sweeping)
            purging = asyncio.create_task(self._keep_purging(pool), name="rotina-purge")
            stack.push_async_callback(_cancel, purging)
            watching = asyncio.create_task(driver.watch(), name="rotina-watch")
            stack.push_async_callback(_cancel, watching)
            stack.push_async_callback(pump.join)
            self._stack = stack.pop_all()
        return resources

    async def _consume(self, resources: _Resources) -> None:
        async def receive(fields: Mapping[str, Any], source: str, reference: str) -> None:
            await resources.door.receive(
                fields, source=source, reference=reference, key=f"{source}:{reference}"
            )

        for stream in self._settings.streams:
            consumer = StreamConsumer(self._settings.require_redis_url(), stream, receive)
            task = asyncio.create_task(consumer.run(), name=f"rotina-stream-{stream}")
            self._stack.push_async_callback(_cancel, task)
            self._consuming.append(task)

    async def _keep_sweeping(self, resources: _Resources) -> None:
        """Sweep in the loop itself: a busy queue must not keep dead workers' runs waiting."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self._sweep(resources)
            except Exception:  # the next round may find the database back
                logger.exception("sweep failed")

    async def _keep_purging(self, pool: Pool) -> None:
        while True:
            try:
                deleted = await purge(pool, record_days=self._settings.record_days)
                if deleted:
                    logger.info("%d recorded answers were old enough to go", deleted)
                await PostgresCache(pool).purge()
                await PostgresVectorCache(pool).purge()
                await sweep_memory(pool)
                await purge_content(pool, self._settings.store_prompts_days)
            except Exception:  # as above
                logger.exception("purge failed")
            await asyncio.sleep(PURGE_SECONDS)

    async def _sweep(self, resources: _Resources) -> None:
        found = await sweep(resources.pool)
        if found.requeued or found.failed:
            logger.warning("sweep: %d runs requeued, %d failed", found.requeued, found.failed)
        for queue, runs in found.due.items():
            await self._tell_queue(queue, runs)
        # Once at a time in a process: firing holds one connection and needs a second one.
        async with resources.firing:
            await fire_due(resources.door)

    async def _tell_queue(self, queue: Queue, runs: int) -> None:
        await asyncio.to_thread(self._tell, queue, runs)

    def _context(self, pool: Pool, gateway: Gateway) -> Callable[[Attempt], Context]:
        limits, hosts = Limits.from_settings(self._settings), self._settings.source_hosts
        return functools.partial(make_context, pool, gateway, limits, source_hosts=hosts)


def _run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop; a node that calls `sys.exit` ends its own run, not everybody's loop."""
    while True:
        try:
            loop.run_forever()
        except SystemExit:
            logger.exception("a node called sys.exit: its run fails, the worker goes on")
        else:
            return


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
