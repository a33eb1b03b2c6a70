"""The ASGI application: what its lifespan opens, and the routes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from rotina.gateway.routing import with_model_routes
from rotina.server import (
    control,
    health,
    knowledge,
    reviews,
    runs,
    threads,
    workflows,
)
from rotina.server.gateway.app import warn_without_keys
from rotina.server.gateway.face import Face, FaceFirst
from rotina.server.gateway.openapi import add_gateway
from rotina.server.guard import Guard
from rotina.server.keys import KeyStore
from rotina.server.problems import InvalidRequestError, problem_of
from rotina.settings import Settings
from rotina.worker import Client

PARTS = (
    runs,
    control,
    workflows,
    threads,
    reviews,
    knowledge,
    health,
)


class _Application(FastAPI):
    """FastAPI, and the gateway's endpoints in its document."""

    def openapi(self) -> dict[str, Any]:
        known = self.openapi_schema is not None
        document = super().openapi()
        return document if known else add_gateway(document)


def build(settings: Settings) -> FastAPI:
    """See `rotina.server.create_server`."""
    app = _Application(
        title="Rotina",
        summary="Durable workflow-automation agents over HTTP.",
        version="1",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.settings = with_model_routes(settings)
    app.add_middleware(Guard, max_file_bytes=settings.max_file_bytes)
    app.add_middleware(FaceFirst)
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
        await warn_without_keys(app.state.keys, app.state.settings)
        app.state.face = Face(app.state.settings, client.gateway, app.state.keys)
        async with app.state.face.looking():
            yield
        app.state.stopping.set()


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        error = InvalidRequestError(error.errors())
    return problem_of(error).response(request.url.path)
