"""A program's access to runs, threads and reviews: accept, tell, wait."""

import asyncio
import copy
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self
from uuid import UUID

from celery import Celery

from rotina.database import Pool, open_pool
from rotina.gateway import Gateway
from rotina.knowledge import KnowledgeBase
from rotina.runs import (
    Accepted,
    Control,
    Queue,
    Registry,
    ReviewStore,
    Run,
    RunStore,
    Thread,
    ThreadStore,
    Upload,
    wait_for_end,
)
from rotina.settings import Settings
from rotina.worker.app import create_app, tell_queue


class Client:
    """Starts runs and waits for them, for one tenant; open it with `Client.open(settings)`."""

    def __init__(
        self, pool: Pool, settings: Settings, registry: Registry, gateway: Gateway, app: Celery
    ) -> None:
        self.pool = pool
        self.registry = registry
        self._settings = settings
        self._gateway = gateway
        self._app = app
        self._bind(settings.tenant)

    def _bind(self, tenant: str, key: str | None = None) -> None:
        self.tenant = tenant
        self.store = RunStore(
            self.pool,
            tenant=tenant,
            max_attempts=self._settings.max_attempts,
            max_file_bytes=self._settings.max_file_bytes,
        )
        self.control = Control(self.pool, tenant=tenant)
        self.reviews = ReviewStore(self.pool, tenant=tenant)
        self.threads = ThreadStore(self.pool, tenant=tenant)
        self.gateway = self._gateway.bound(run_id=None, tenant=tenant, key=key)
        self.knowledge = KnowledgeBase(self.pool, self.gateway, tenant)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Self]:
        """Connect to the database. Raises `SettingsError` or `DatabaseError`."""
        async with AsyncExitStack() as stack:
            app = create_app(settings)
            stack.callback(app.close)
            registry = Registry.load(settings.workflows, settings.project_dir)
            pool = await stack.enter_async_context(
                open_pool(settings.require_database_url(), size=settings.pool_size)
            )
            gateway = await stack.enter_async_context(Gateway.with_database(settings, pool))
            yield cls(pool, settings, registry, gateway, app)

    def bound(self, tenant: str, key: str | None = None) -> "Client":
        """The same client for another tenant; it needs no `open` of its own.

        `key` is the name of the API key whose budgets its model calls are paid from.
        """
        view = copy.copy(self)
        view._bind(tenant, key)  # noqa: SLF001 - its own
        return view

    async def start(
        self,
        workflow: str,
        value: Mapping[str, Any],
        *,
        key: str | None = None,
        upload: Upload | None = None,
        priority: int | None = None,
    ) -> Accepted:
        """Accept a run and tell its queue. It is safe once this returns, broker or not.

        With an `upload`, the workflow's file field is filled in. `priority` is -100 to 100, higher
        goes first; default: the workflow's. Raises `UnknownWorkflowError`,
        `InvalidInputError`, `ThreadNotFoundError`, `DocumentTooLargeError` or
        `IdempotencyConflictError`.
        """
        declared = self.registry[workflow]
        if upload is not None and declared.file_field is not None:
            value = {**value, declared.file_field: upload.reference.model_dump()}
        accepted = await self.store.accept(
            declared, value, key=key, upload=upload, priority=priority
        )
        if accepted.news:
            await self.tell(accepted.queue)
        return accepted

    async def open_thread(self, workflow: str, *, customer: str | None = None) -> Thread:
        """Begin a conversation with the agent behind a conversational workflow.

        Raises `UnknownWorkflowError` or `InvalidInputError`.
        """
        return await self.threads.open(self.registry[workflow], customer=customer)

    async def say(self, thread_id: UUID, text: str, *, key: str | None = None) -> Accepted:
        """Add a customer's message to a thread; the run that answers it is accepted with it.

        Raises `ThreadNotFoundError`, `InvalidInputError` or `IdempotencyConflictError`.
        """
        thread = await self.threads.get(thread_id)
        value = {"thread": str(thread_id), "text": text}
        return await self.start(thread.workflow, value, key=key)

    async def answer(self, review_id: UUID, value: Mapping[str, Any], *, by: str) -> None:
        """Answer a review; its run goes on. Errors as in `ReviewStore.answer`."""
        queue = await self.reviews.answer(review_id, value, by=by)
        if queue is not None:
            await self.tell(queue)

    async def cancel(self, run_id: UUID, *, by: str, reason: str = "") -> None:
        """End a run as `cancelled`. Errors as in `Control`, here and in the next four."""
        await self.control.cancel(run_id, by=by, reason=reason)

    async def pause(self, run_id: UUID, *, by: str) -> None:
        """Let nobody drive a run until it is resumed."""
        await self.control.pause(run_id, by=by)

    async def resume(self, run_id: UUID, *, by: str) -> None:
        """Let a paused run go on."""
        queue = await self.control.resume(run_id, by=by)
        if queue is not None:
            await self.tell(queue)

    async def retry(self, run_id: UUID, *, by: str) -> None:
        """Give a failed or cancelled run another set of attempts, from its last checkpoint."""
        await self.tell(await self.control.retry(run_id, by=by))

    async def signal(self, name: str, key: str, payload: Mapping[str, Any]) -> int:
        """Tell of an event; returns how many runs it woke."""
        queues = await self.control.signal(name, key, payload)
        for queue, runs in Counter(queues).items():
            await self.tell(queue, runs)
        return len(queues)

    async def tell(self, queue: Queue, runs: int = 1) -> None:
        """Tell a queue that it has so many runs more; without a broker the sweeper does it."""
        await asyncio.to_thread(tell_queue, self._app, queue, runs)

    async def wait(
        self, run_id: UUID, *, timeout: float | None = None, or_review: bool = False
    ) -> Run:
        """The run once it has ended, or, with `or_review`, waits for a person.

        Raises `TimeoutError` after `timeout` seconds.
        """
        return await wait_for_end(
            lambda: self.store.get(run_id), timeout=timeout, or_review=or_review
        )
