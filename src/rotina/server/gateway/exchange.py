"""One HTTP request of a gateway endpoint: its body in, its answer out, its errors in between."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from rotina.gateway import Gateway
from rotina.server.bodies import check_length, check_type, counted, has_body
from rotina.server.keys import ApiKey
from rotina.server.problems import InvalidRequestError, problem_of
from rotina.server.streaming import EventStream, disconnected

if TYPE_CHECKING:
    from rotina.server.gateway.face import Face
    from rotina.server.gateway.trail import Trail

log = logging.getLogger(__name__)

T = TypeVar("T")
Form = TypeVar("Form", bound=BaseModel)

JSON = b"application/json"
_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass
class Exchange:
    """A request, and the way to answer it."""

    face: "Face"
    scope: Scope
    receive: Receive
    send: Send
    headers: Headers
    trail: "Trail"
    key: ApiKey | None = None
    """None on paths that want none."""
    begun: bool = False
    """Whether the answer is on its way already."""

    @property
    def gateway(self) -> Gateway:
        """The gateway, bound to the caller's tenant and to this request."""
        assert self.key is not None, "every path with a model wants a key"
        return self.face.gateway.bound(
            run_id=None, tenant=self.key.tenant, key=self.key.name, observer=self.trail
        )

    async def form(self, form: type[Form]) -> Form:
        """The body as `form`.

        Raises `InvalidRequestError`, and `HTTPException` for a body that is too large or of
        another type.
        """
        check_type(self.headers)
        check_length(self.headers)
        body = await self._body()
        try:
            return form.model_validate_json(body)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)
            raise InvalidRequestError([dict(each) for each in found]) from None

    async def _body(self) -> bytes:
        if not has_body(self.headers):
            return b""
        receive, blocks = counted(self.receive), list[bytes]()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            blocks.append(message.get("body", b""))
            if not message.get("more_body", False):
                return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    async def while_connected(self, work: Awaitable[T]) -> T:
        """The result of `work`, which is cancelled when the client leaves before it is there.

        To be called once the body has been read. Raises `ClientDisconnect`.
        """
        working = asyncio.current_task()
        assert working is not None
        left = False

        async def watch() -> None:
            nonlocal left
            await disconnected(self.receive)
            left = True
            working.cancel()

        watching = asyncio.create_task(watch())
        try:
            return await work
        except asyncio.CancelledError:
            if left and working.uncancel() == 0:
                raise ClientDisconnect from None
            raise
        finally:
            watching.cancel()

    async def answer(
        self, body: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send JSON."""
        # Half a surrogate pair, which models write now and then, is no text.
        content = _dump(body).encode(errors="replace")
        await self.answer_bytes(content, JSON, status, headers)

    async def answer_bytes(
        self,
        content: bytes,
        kind: bytes,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a body of any type."""
        raw = [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
        for name, value in {**self.trail.headers(), **(headers or {})}.items():
            raw.append((name.encode("latin-1"), value.encode("latin-1")))
        self.begun = True
        await self.send({"type": "http.response.start", "status": status, "headers": raw})
        await self.send({"type": "http.response.body", "body": content})

    async def stream(self, events: AsyncGenerator[bytes, None]) -> None:
        """Send server-sent events; what fails before the first of them can have a status."""
        first = await self.while_connected(anext(events))
        response = EventStream(events, first, self.trail.headers())
        self.begun = True
        await response(self.scope, self.receive, self.send)

    async def fail(self, error: Exception) -> None:
        """Answer an error, unless an answer has begun, which cannot be taken back."""
        path = self.scope["path"]
        problem = problem_of(error)
        log.log(
            logging.WARNING if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO,
            "request %s: %s %r was answered with %d (%s)",
            *(self.trail.request_id, self.scope["method"], path, problem.status, problem.title),
        )
        if not self.begun:
            kind, status, body = problem.form(path)
            content = json.dumps(body, ensure_ascii=False).encode()
            await self.answer_bytes(content, kind.encode(), status, problem.headers)


def not_found() -> HTTPException:
    """There is nothing at the path."""
    return HTTPException(HTTPStatus.NOT_FOUND)
