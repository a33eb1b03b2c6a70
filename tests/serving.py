"""A real server on loopback: FastAPI under uvicorn, in the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp
import psycopg
from fastapi import FastAPI

from rotina.database import Pool
from rotina.server import create_server
from rotina.server.listening import listen
from rotina.server.serving import Server
from rotina.settings import Settings
from rotina.worker.runtime import Runtime

Json = Any


def make_settings(
    database_url: str, redis_url: str, model_url: str | None = None, **more: Any
) -> Settings:
    """Settings of a test's own deployment; with `model_url` it has routes and deployments."""
    models: dict[str, Any] = {}
    if model_url is not None:
        deployments = {
            "chat": {"model": "scripted", "base_url": model_url},
            "embed": {"model": "scripted-embed", "base_url": model_url},
        }
        routes = {
            "fast": {"deployments": ["chat"]},
            "smart": {"deployments": ["chat"]},
            "embed": {"deployments": ["embed"]},
        }
        models = {"deployments": deployments, "routes": routes}
    values: dict[str, Any] = {
        "database_url": database_url,
        "redis_url": redis_url,
        "workflows": ["tests.serving_workflows"],
        "max_attempts": 1,
        **models,
        **more,
    }
    return Settings(**values)


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: dict[str, str]
    """With lower-case names."""
    body: Json
    """Parsed, if it is JSON."""

    def refused(self, status: int, kind: str) -> None:
        """Check that it is a problem document of this status and type."""
        assert self.status == status, self.body
        assert self.headers["content-type"] == "application/problem+json"
        assert set(self.body) >= {"type", "title", "status", "detail"}
        assert self.body["status"] == status
        assert self.body["type"] == (f"urn:rotina:problem:{kind}" if kind else "about:blank")


@dataclass
class Served:
    """A running server, and ways to ask it."""

    url: str
    app: FastAPI
    server: Server
    settings: Settings
    session: aiohttp.ClientSession

    @property
    def pool(self) -> Pool:
        pool: Pool = self.app.state.client.pool
        return pool

    async def key(self, tenant: str, name: str = "test") -> str:
        """A new key's token."""
        made = await self.app.state.keys.create(name, tenant)
        token: str = made.token.get_secret_value()
        return token

    async def ask(
        self, method: str, path: str, *, key: str | None = None, **options: Any
    ) -> Answer:
        """One request, with aiohttp's options."""
        headers = {**options.pop("headers", {})}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        async with self.session.request(
            method, self.url + path, headers=headers, **options
        ) as response:
            found = {name.lower(): value for name, value in response.headers.items()}
            json_like = "json" in response.content_type
            body = await (response.json(content_type=None) if json_like else response.read())
            return Answer(response.status, found, body)

    async def drive(self, run_id: str | UUID) -> str:
        """What a worker does with hints, until this run's turn came; its state then."""
        runtime = Runtime(self.settings, lambda queue, runs: None)
        url = self.settings.require_database_url()
        async with await psycopg.AsyncConnection.connect(url) as connection:

            async def state_and_queued() -> tuple[str, int]:
                cursor = await connection.execute(
                    "select (select state from rotina.run where id = %s), "
                    "(select count(*)::int from rotina.run where state = 'queued')",
                    [str(run_id)],
                )
                await connection.commit()
                state, queued = await cursor.fetchone() or ("", 0)
                return state, queued

            try:
                _, queued = await state_and_queued()
                for _ in range(queued):
                    await asyncio.to_thread(runtime.serve, "io")
                    state, _ = await state_and_queued()
                    if state != "queued":
                        return state
            finally:
                await asyncio.to_thread(runtime.close)
        return "nothing"


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[Served]:
    """Serve on a free port until the block ends, then stop as on SIGTERM."""
    app = create_server(settings)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listen("127.0.0.1", 0))
        await stack.enter_async_context(app.router.lifespan_context(app))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        server = Server(app, app.state.stopping)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:
                await asyncio.sleep(0.01)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            yield Served(url, app, server, settings, session)
        finally:
            server.should_exit = True
            await serving
