"""A program's access to runs: accept, hint, wait."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self
from uuid import UUID

from celery import Celery

from rotina.database import open_pool
from rotina.runs import Accepted, Hint, Registry, Run, RunStore, Upload
from rotina.settings import Settings
from rotina.worker.app import create_app, send_hint

FIRST_LOOK, LONGEST_PAUSE = 0.05, 0.5


class Client:
    """Starts runs and waits for them; open it with `async with Client.open(settings)`."""

    def __init__(self, store: RunStore, registry: Registry, app: Celery) -> None:
        self.store = store
        self.registry = registry
        self._app = app

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Self]:
        """Connect to the database. Raises `SettingsError` or `DatabaseError`."""
        app = create_app(settings)
        async with open_pool(settings.require_database_url(), size=settings.pool_size) as pool:
            store = RunStore(
                pool,
                tenant=settings.tenant,
                max_attempts=settings.max_attempts,
                max_file_bytes=settings.max_file_bytes,
            )
            try:
                yield cls(store, Registry.load(settings.workflows, settings.project_dir), app)
            finally:
                app.close()

    async def start(
        self,
        workflow: str,
        value: Mapping[str, Any],
        *,
        key: str | None = None,
        upload: Upload | None = None,
    ) -> Accepted:
        """Accept a run and tell its queue. It is safe once this returns, broker or not.

        With an `upload`, the workflow's file field is filled in. Raises `UnknownWorkflowError`,
        `InvalidInputError`, `DocumentTooLargeError` or `IdempotencyConflictError`.
        """
        declared = self.registry[workflow]
        if upload is not None and declared.file_field is not None:
            value = {**value, declared.file_field: upload.reference.model_dump()}
        accepted = await self.store.accept(declared, value, key=key, upload=upload)
        if accepted.created:
            hint = Hint(accepted.id, accepted.queue)
            await asyncio.to_thread(send_hint, self._app, hint)
        return accepted

    async def wait(self, run_id: UUID, *, timeout: float | None = None) -> Run:
        """The run once it has ended. Raises `TimeoutError` after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_LOOK
        while not (run := await self.store.get(run_id)).ended:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"run {run_id} is still {run.state} after {timeout} s")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
        return run
