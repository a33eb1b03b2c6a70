"""The ASGI application: what its lifespan opens, and the routes."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from rotina.server import (
    completions,
    control,
    embeddings,
    health,
    knowledge,
    models,
    reviews,
    runs,
    threads,
    workflows,
)
from rotina.server.guard import Guard
from rotina.server.keys import KeyStore
from rotina.server.problems import problem_of
from rotina.settings import Settings
from rotina.worker import Client

log = logging.getLogger(__name__)

PARTS = (
    runs,
    control,
    workflows,
    threads,
    reviews,
    knowledge,
    completions,
    embeddings,
    models,
    health,
)


def build(settings: Settings) -> FastAPI:
    """See `rotina.server.create_server`."""
    app = FastAPI(
        title="Rotina",
        summary="Durable workflow-automation agents over HTTP.",
        version="1",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.settings = models.with_model_routes(settings)
    app.add_middleware(Guard, max_file_bytes=settings.max_file_bytes)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse)
    for part in PARTS:
        app.include_router(part.router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Raises `SettingsError` or `DatabaseError`."""
    async with Client.open(app.state.settings) as client:
        app.state.stopping = asyncio.Event()
        app.state.client = client
        app.state.keys = KeyStore(client.pool)
        if await app.state.keys.count() == 0:
            log.warning(
                "there is no valid API key yet: `rotina keys create NAME --tenant %s` makes one",
                app.state.settings.tenant,
            )
        yield
        app.state.stopping.set()


async def _refuse(request: Request, error: Exception) -> Response:
    return problem_of(error).response(request.url.path)
