"""The application of `rotina gateway serve`: the gateway, and nothing else."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any

import psycopg
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from rotina.database import Pool, open_pool
from rotina.gateway import Gateway
from rotina.gateway.routing import with_model_routes
from rotina.server.gateway.face import Face
from rotina.server.keys import KeyStore
from rotina.server.problems import problem_of
from rotina.settings import Settings

log = logging.getLogger(__name__)

READY_SECONDS = 2.0


class GatewayApp:
    """An ASGI application; `open` it before it answers anything."""

    def __init__(self, face: Face, pool: Pool) -> None:
        self.face = face
        self._pool = pool

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["GatewayApp"]:
        """Connect to the database. Raises `SettingsError` or `DatabaseError`."""
        settings = with_model_routes(settings)
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(
                open_pool(settings.require_database_url(), size=settings.pool_size)
            )
            keys = KeyStore(pool)
            gateway = await stack.enter_async_context(Gateway.with_database(settings, pool))
            face = Face(settings, gateway, keys)
            await warn_without_keys(keys, settings)
            await stack.enter_async_context(face.looking())
            yield cls(face, pool)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the gateway takes HTTP, not {scope['type']}")
        path = scope["path"]
        if Face.takes(path):
            await self.face(scope, receive, send)
        elif scope["method"] == "GET" and path == "/health":
            await _tell(send, 200, {"status": "ok"})
        elif scope["method"] == "GET" and path == "/ready":
            ready = await self._is_ready()
            told = "ok" if ready else "failed"
            await _tell(send, 200 if ready else 503, {"status": told, "database": told})
        else:
            problem = problem_of(HTTPException(HTTPStatus.NOT_FOUND, _ELSEWHERE))
            await _tell(send, problem.status, problem.openai())

    async def _is_ready(self) -> bool:
        try:
            async with asyncio.timeout(READY_SECONDS), self._pool.connection() as connection:
                await connection.execute("select")
        except (psycopg.Error, TimeoutError) as error:
            log.warning("not ready: the database: %s", type(error).__name__)
            return False
        return True


_ELSEWHERE = (
    "There is nothing at this path. This is `rotina gateway serve`: it has /v1/chat/completions, "
    "/v1/responses, /v1/embeddings, /v1/rerank, /v1/models, /metrics, /health and /ready; runs and "
    "the rest are at `rotina serve`"
)


async def warn_without_keys(keys: KeyStore, settings: Settings) -> None:
    """Say how to make the first key. Raises `DatabaseError` when migrations are missing."""
    if await keys.count() == 0:
        log.warning(
            "there is no valid API key yet: `rotina keys create NAME --tenant %s` makes one",
            settings.tenant,
        )


async def _tell(send: Send, status: int, body: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
