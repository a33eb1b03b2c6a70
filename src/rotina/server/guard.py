"""What every request passes before anything reads it: its key, its size, its content type."""

import logging
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rotina.errors import AccessError
from rotina.server.keys import KeyStore
from rotina.server.problems import problem_of

log = logging.getLogger(__name__)

PROTECTED = "/v1/"
MAX_JSON_BYTES = 8_000_000
"""Of a body that is not a file."""
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
            scope.setdefault("state", {})["key"] = await keys.check(_token(headers))
        limit = self._limit(scope, headers)
        _check_length(headers, limit)
        await self._app(scope, _counted(receive, limit), send)

    def _limit(self, scope: Scope, headers: Headers) -> int:
        """How many bytes the body may have. Raises 415 for a body of another type."""
        if not _has_body(headers):
            return MAX_JSON_BYTES
        given = headers.get("content-type", "").partition(";")[0].strip().lower()
        if given == "multipart/form-data" and scope["path"] == TAKES_FILES:
            return self._max_file_bytes + FORM_OVERHEAD
        if given != "application/json":
            takes = "application/json"
            if scope["path"] == TAKES_FILES:
                takes += " or multipart/form-data"
            raise HTTPException(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"The content type is {given or 'not given'}: send {takes}",
            )
        return MAX_JSON_BYTES


def _token(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise AccessError(
            "This needs an API key: send the header `Authorization: Bearer rtn_…`; "
            "`rotina keys create` makes a key"
        )
    return token.strip()


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _check_length(headers: Headers, limit: int) -> None:
    """The size a client announces; h11 has checked that it is a number."""
    if int(headers.get("content-length", "0")) > limit:
        raise _too_large(limit)


def _counted(receive: Receive, limit: int) -> Receive:
    """`receive`, refusing a body once it is too large, whatever was announced."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _too_large(limit)
        return message

    return counted


def _too_large(limit: int) -> HTTPException:
    return HTTPException(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is larger than {limit:,} bytes: send less, or a file as multipart/form-data "
        "(setting max_file_bytes)",
    )
