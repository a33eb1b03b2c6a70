"""Errors as problem+json (RFC 9457), and in OpenAI's form where OpenAI's clients listen."""

import http
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from rotina import errors
from rotina.errors import RotinaError
from rotina.server.errors import ModelNotFoundError, RevokedKeyError

log = logging.getLogger(__name__)

OPENAI_PATHS = (
    "/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank", "/v1/models",
)  # fmt: skip
RETRY_AFTER = "5"
"""Seconds after which to come back while the database is away."""

STATUS: Mapping[type[RotinaError], int] = {
    errors.AccessError: 401,
    RevokedKeyError: 403,
    errors.RunNotFoundError: 404,
    errors.ReviewNotFoundError: 404,
    errors.ThreadNotFoundError: 404,
    errors.CollectionNotFoundError: 404,
    ModelNotFoundError: 404,
    errors.IdempotencyConflictError: 409,
    errors.ReviewAnsweredError: 409,
    errors.RunStateError: 409,
    errors.LeaseLostError: 409,
    errors.DocumentTooLargeError: 413,
    errors.UnsupportedDocumentError: 415,
    errors.DocumentError: 422,
    errors.KnowledgeError: 422,
    errors.SchemaError: 422,
    errors.RunError: 422,
    errors.BudgetExceededError: 402,
    errors.GuardError: 422,
    errors.ModelRequestError: 400,
    errors.ModelRateLimitedError: 429,
    errors.ModelTimeoutError: 504,
    errors.ModelError: 502,
    errors.TryLaterError: 503,
    errors.DatabaseError: 503,
    errors.RotinaError: 500,
}
"""The status of each class of errors; a class that is not here has its base's."""


_KINDS = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
"""OpenAI's names for statuses."""


class InvalidRequestError(Exception):
    """A request does not fit its form."""

    def __init__(self, errors: Sequence[Mapping[str, Any]]) -> None:
        """`errors` are pydantic's: `loc`, `msg` and `type` are told, never the value."""
        super().__init__("the request is not valid")
        self.errors = errors


class ProblemDocument(BaseModel):
    """What every refused or failed request is answered with, as `application/problem+json`."""

    model_config = ConfigDict(extra="allow")

    type: str
    """`urn:rotina:problem:…` for an error of Rotina's, `about:blank` where the status says all."""
    title: str
    status: int
    detail: str
    """What is wrong and what to do about it."""


@dataclass(frozen=True)
class Problem:
    """An error on its way out."""

    status: int
    title: str
    detail: str
    type: str = "about:blank"
    code: str | None = None
    """The error's name in OpenAI's form."""
    parameter: str | None = None
    """The part of the request that is wrong."""
    members: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the document."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The body in the form of RFC 9457."""
        core = {"type": self.type, "title": self.title, "status": self.status}
        return {**core, "detail": self.detail, **self.members}

    def openai(self) -> dict[str, Any]:
        """The body in the form of OpenAI's API."""
        usual = "invalid_request_error" if self.status < 500 else "api_error"  # noqa: PLR2004
        kind = _KINDS.get(self.status, usual)
        error = {"message": self.detail, "type": kind, "param": self.parameter, "code": self.code}
        return {"error": error}

    def form(self, path: str) -> tuple[str, int, dict[str, Any]]:
        """Content type, status and body for a request for `path`."""
        if path.startswith(OPENAI_PATHS):
            # OpenAI's clients take 400 for what is wrong with a request.
            status = 400 if self.status == http.HTTPStatus.UNPROCESSABLE_ENTITY else self.status
            return "application/json", status, self.openai()
        return "application/problem+json", self.status, self.document()

    def response(self, path: str) -> JSONResponse:
        """The response to a request for `path`."""
        kind, status, body = self.form(path)
        return JSONResponse(body, status, dict(self.headers), kind)


def problem_of(error: Exception) -> Problem:
    """What a caller is told about an error; the log is told the rest."""
    if isinstance(error, RotinaError):
        return _of_rotina(error)
    if isinstance(error, InvalidRequestError):
        return _of_validation(error.errors)
    if isinstance(error, HTTPException):
        return plain(error.status_code, str(error.detail), error.headers or {})
    if isinstance(error, psycopg.DataError):
        return plain(422, "A value cannot be stored: take NUL characters and the like out of it")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        log.warning("the database failed a request: %s", type(error).__name__)
        detail = "The database does not answer; nothing was accepted: send the request again later"
        return _of_rotina(errors.DatabaseError(detail))
    return _unexpected(error)


def plain(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """A problem that its status names."""
    phrase = http.HTTPStatus(status).phrase
    told = "" if detail == phrase else detail
    return Problem(status, phrase, told or _PLAIN.get(status, phrase), headers=headers or {})


_PLAIN = {
    404: "There is nothing at this path: GET /openapi.json lists what there is",
    405: "This path does not take that method: see the header Allow",
}


def _of_rotina(error: RotinaError) -> Problem:
    kind = next(kind for kind in type(error).__mro__ if kind in STATUS)
    status = STATUS[kind]
    words = error.words()
    headers: dict[str, str] = {}
    if status == http.HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.TryLaterError):
        headers["Retry-After"] = str(max(1, round(error.seconds)))
    elif isinstance(error, errors.ModelError) and error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    elif status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = RETRY_AFTER
    if isinstance(error, errors.ModelError):
        # The gateway has tried again already; OpenAI's clients would, twice more.
        headers["x-should-retry"] = "false"
    return Problem(
        status=status,
        title=" ".join(words).capitalize(),
        detail=str(error),
        type="urn:rotina:problem:" + "-".join(words).lower(),
        code=_CODES.get(type(error), "_".join(words).lower()),
        headers=headers,
    )


_CODES = {
    errors.AccessError: "invalid_api_key",
    errors.ContextTooLongError: "context_length_exceeded",
    errors.ModelRateLimitedError: "rate_limit_exceeded",
}
"""Where OpenAI has a name of its own."""


def _of_validation(wrong: Sequence[Mapping[str, Any]]) -> Problem:
    """Every part that is wrong, in one line; never the value, which may be confidential."""
    found = [{"pointer": _pointer(each["loc"]), "detail": _detail(each)} for each in wrong]
    malformed = any(each["type"] == "json_invalid" for each in wrong)
    where = [each["pointer"].lstrip("/").replace("/", ".") for each in found]
    told = "; ".join(
        f"{name}: {each['detail']}" if name else each["detail"]
        for name, each in zip(where, found, strict=True)
    )
    return Problem(
        status=400 if malformed else 422,
        title="Malformed JSON" if malformed else "Invalid request",
        detail=f"The request is not valid: {told}",
        type="urn:rotina:problem:" + ("malformed-json" if malformed else "invalid-request"),
        code="invalid_request",
        parameter=where[0] or None,
        members={"errors": found},
    )


def _detail(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "is not supported: leave it out"
    return str(error["msg"]).removeprefix("Value error, ")


def _pointer(location: Sequence[int | str]) -> str:
    """`("body", "input", "name")` as `/input/name`; other places keep their first word."""
    parts = location[1:] if location[:1] == ("body",) else location
    return "".join(f"/{part}" for part in parts)


def _unexpected(error: Exception) -> Problem:
    name = uuid4().hex
    log.error("error %s", name, exc_info=error)
    detail = f"The server failed. Its log tells more, at error {name}: give that to who runs it."
    members = {"id": name}
    return Problem(500, "Internal Server Error", detail, code="internal_error", members=members)
