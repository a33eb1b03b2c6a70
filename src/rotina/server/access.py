"""What a route gets: the client bound to the caller's tenant, and who the caller is."""

from typing import Annotated, Any

from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPBearer

from rotina.server.keys import ApiKey
from rotina.server.problems import ProblemDocument
from rotina.worker import Client

_bearer = HTTPBearer(auto_error=False, bearerFormat="rtn_PREFIX_SECRET", scheme_name="ApiKey")

PROTECTION = [Security(_bearer)]
"""Says in the OpenAPI document what `Guard` demands."""


async def _caller(request: Request) -> ApiKey:
    key: ApiKey = request.state.key
    return key


async def _client(request: Request, key: Annotated[ApiKey, Depends(_caller)]) -> Client:
    client: Client = request.app.state.client
    return client.bound(key.tenant, key.name)


Caller = Annotated[ApiKey, Depends(_caller)]
TenantClient = Annotated[Client, Depends(_client)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Names the request: sent again with the same content it does nothing twice.",
    ),
]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of a route that may be refused with these statuses, among others."""
    every = {401, 403, 422, 500, 503, *statuses}
    content = {"application/problem+json": {"schema": ProblemDocument.model_json_schema()}}
    return {status: {"description": _MEANING[status], "content": content} for status in every}


_MEANING = {
    400: "the body is not JSON",
    401: "no API key, or an unknown one",
    403: "the API key was revoked",
    404: "this tenant has no such thing",
    409: "it conflicts with what was there first",
    413: "the body is too large",
    415: "the body is of another type",
    422: "a value is not valid",
    429: "the model server limits the rate",
    500: "an error nobody expected; its `id` is in the server's log",
    502: "the model server failed",
    503: "the database is away: see Retry-After",
    504: "the model server took too long",
}
