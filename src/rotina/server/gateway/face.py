"""Which endpoint answers which path, and what each request passes before it: id, key, errors."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rotina.gateway import Gateway
from rotina.server.gateway.chat import complete
from rotina.server.gateway.embeddings import embed
from rotina.server.gateway.exchange import Exchange
from rotina.server.gateway.metrics import CONTENT_TYPE, Metrics
from rotina.server.gateway.models import get_model, list_models
from rotina.server.gateway.reranking import rerank
from rotina.server.gateway.responses import respond
from rotina.server.gateway.trail import REQUEST_ID, Trail
from rotina.server.guard import bearer_token
from rotina.server.keys import KeyStore
from rotina.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How old gauges of other worker processes may be."""
ONE_MODEL = "/v1/models/"

Endpoint = Callable[[Exchange], Awaitable[None]]


async def metrics(exchange: Exchange) -> None:
    """The figures of all worker processes."""
    exchange.face.metrics.look(exchange.face.gateway)
    await exchange.answer_bytes(exchange.face.metrics.text(), CONTENT_TYPE)


ENDPOINTS: dict[str, tuple[str, Endpoint]] = {
    "/v1/chat/completions": ("POST", complete),
    "/v1/responses": ("POST", respond),
    "/v1/embeddings": ("POST", embed),
    "/v1/rerank": ("POST", rerank),
    "/v1/models": ("GET", list_models),
    "/metrics": ("GET", metrics),
}


class Face:
    """The gateway's endpoints over one gateway."""

    def __init__(self, settings: Settings, gateway: Gateway, keys: KeyStore) -> None:
        """`settings` are those with model routes; who made `gateway` opens and closes it."""
        self.settings = settings
        self.gateway = gateway
        self.keys = keys
        self.metrics = Metrics()

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Keeps the gauges that other worker processes show up to date."""

        async def look() -> None:
            while True:
                self.metrics.look(self.gateway)
                await asyncio.sleep(LOOK_SECONDS)

        task = asyncio.create_task(look())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @staticmethod
    def takes(path: str) -> bool:
        """Whether a path is the gateway's."""
        return path in ENDPOINTS or path.startswith(ONE_MODEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request for a path that it takes."""
        headers = Headers(scope=scope)
        trail = Trail(headers.get(REQUEST_ID), self.metrics)
        path = scope["path"]
        shown = ONE_MODEL if path.startswith(ONE_MODEL) else path
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                overhead = trail.overhead if trail.asked else None
                self.metrics.answered(shown, status, overhead)
            await send(message)

        exchange = Exchange(self, scope, receive, watched, headers, trail)
        try:
            exchange.key = await self.keys.check(bearer_token(headers))
            await _endpoint(scope["method"], path)(exchange)
        except ClientDisconnect:
            log.info("request %s: the client left before it had its answer", trail.request_id)
        except Exception as error:  # noqa: BLE001 - the outermost: it answers, and it logs
            await exchange.fail(error)


def _endpoint(method: str, path: str) -> Endpoint:
    allowed, endpoint = ENDPOINTS.get(path, ("GET", None))
    if endpoint is None:
        name = path.removeprefix(ONE_MODEL)

        async def one_model(exchange: Exchange) -> None:
            await get_model(exchange, name)

        endpoint = one_model
    if method != allowed:
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": allowed})
    return endpoint


class FaceFirst:
    """Middleware: the gateway's paths go to the face in `app.state.face`, others to the app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] == "http" and Face.takes(scope["path"]):
            await scope["app"].state.face(scope, receive, send)
        else:
            await self._app(scope, receive, send)
