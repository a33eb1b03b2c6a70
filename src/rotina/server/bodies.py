"""What a body may be: its size and its type, before anything reads it."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

MAX_JSON_BYTES = 8_000_000
"""Of a body that is not a file."""


def has_body(headers: Headers) -> bool:
    """Whether the request brings a body."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def content_type(headers: Headers) -> str:
    """The type without its parameters, in lower case; empty where none is given."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def check_type(headers: Headers, *, takes: str = "application/json") -> None:
    """Raises `HTTPException` (415) for a body that is not JSON; `takes` is what the error says."""
    given = content_type(headers)
    if has_body(headers) and given != "application/json":
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The content type is {given or 'not given'}: send {takes}",
        )


def check_length(headers: Headers, limit: int = MAX_JSON_BYTES) -> None:
    """The size a client announces; the HTTP parser has checked that it is a number."""
    if int(headers.get("content-length", "0")) > limit:
        raise _too_large(limit)


def counted(receive: Receive, limit: int = MAX_JSON_BYTES) -> Receive:
    """`receive`, refusing a body once it is too large, whatever was announced."""
    seen = 0

    async def counting() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _too_large(limit)
        return message

    return counting


def _too_large(limit: int) -> HTTPException:
    return HTTPException(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is larger than {limit:,} bytes: send less, or a file as multipart/form-data "
        "(setting max_file_bytes)",
    )
