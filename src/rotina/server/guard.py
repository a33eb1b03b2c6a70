"""What every request passes before anything reads it: its key, its size, its content type."""

import logging

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rotina.errors import AccessError
from rotina.server.bodies import MAX_JSON_BYTES, check_length, check_type, content_type, counted
from rotina.server.keys import KeyStore
from rotina.server.problems import problem_of

log = logging.getLogger(__name__)

PROTECTED = "/v1/"
FORM_OVERHEAD = 1_000_000
"""What the fields beside the file may take."""
TAKES_FILES = "/v1/runs"


class Guard:
    """Refuses what has no key, is too large or of another type; answers errors nobody expected.

    It stands outside of FastAPI because FastAPI reads a body before it asks who sent it.
    """

    def __init__(self, app: ASGIApp, *, max_file_bytes: int) -> None:
        self._app = app
        self._max_file_bytes = max_file_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._pass(scope, receive, watched)
        except ClientDisconnect:
            log.info("the client of %s left before it had its answer", scope["path"])
        except Exception as error:  # noqa: BLE001 - the outermost: it answers, and it logs
            problem = problem_of(error)
            # An answer that has begun cannot be taken back; the server cuts the connection.
            if not begun:
                await problem.response(scope["path"])(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if scope["path"].startswith(PROTECTED):
            keys: KeyStore = Request(scope).app.state.keys
            scope.setdefault("state", {})["key"] = await keys.check(bearer_token(headers))
        limit = self._limit(scope, headers)
        check_length(headers, limit)
        await self._app(scope, counted(receive, limit), send)

    def _limit(self, scope: Scope, headers: Headers) -> int:
        """How many bytes the body may have. Raises 415 for a body of another type."""
        if scope["path"] != TAKES_FILES:
            check_type(headers)
        elif content_type(headers) == "multipart/form-data":
            return self._max_file_bytes + FORM_OVERHEAD
        else:
            check_type(headers, takes="application/json or multipart/form-data")
        return MAX_JSON_BYTES


def bearer_token(headers: Headers) -> str:
    """The API key that a request brings. Raises `AccessError`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise AccessError(
            "This needs an API key: send the header `Authorization: Bearer rtn_…`; "
            "`rotina keys create` makes a key"
        )
    return token.strip()
