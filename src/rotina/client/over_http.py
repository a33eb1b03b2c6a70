"""Rotina reached through `rotina serve`."""

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp

from rotina.client.access import Change
from rotina.errors import AccessError, RotinaError, RunError, SettingsError, TryLaterError
from rotina.runs import Accepted, Review, Run, RunEvent, RunSummary, Thread, ThreadMessage, Upload

TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10)
_PROBLEM = "urn:rotina:problem:"


class OverHttp:
    """`Access` over the HTTP API; errors of the server come back as the classes they are there."""

    def __init__(self, url: str, api_key: str | None) -> None:
        """`url` as in `http://127.0.0.1:8000`. Raises `SettingsError` or `AccessError`."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsError(f"{url!r} is not a server's URL: write http://HOST:PORT")
        if api_key is None:
            raise AccessError("The server wants an API key: make one with `rotina keys create`")
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}", "Accept": "application/json"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=TIMEOUT)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def start(
        self,
        workflow: str,
        value: Mapping[str, Any],
        *,
        key: str | None,
        upload: Upload | None,
        priority: int | None,
    ) -> Accepted:
        """`POST /v1/runs`."""
        given = _given({"workflow": workflow, "priority": priority})
        if upload is None:
            body: dict[str, Any] = {"json": {**given, "input": dict(value)}}
        else:
            body = {"data": _form(given, value, upload)}
        return await self._accepted("/v1/runs", key, body)

    async def get(self, run_id: UUID) -> Run:
        """`GET /v1/runs/{id}`."""
        return Run.model_validate(await self._json("GET", f"/v1/runs/{run_id}"))

    async def runs(
        self, *, workflow: str | None, state: str | None, before: UUID | None, limit: int
    ) -> Sequence[RunSummary]:
        """`GET /v1/runs`."""
        wanted = {"workflow": workflow, "state": state, "before": before, "limit": limit}
        body = await self._json("GET", "/v1/runs", params=_given(wanted))
        return [RunSummary.model_validate(run) for run in body["runs"]]

    async def change(self, run_id: UUID, change: Change, *, by: str, reason: str) -> Run:
        """`POST /v1/runs/{id}/cancel`, `pause`, `resume` or `retry`."""
        body = {"by": by, **({"reason": reason} if reason else {})}
        return Run.model_validate(
            await self._json("POST", f"/v1/runs/{run_id}/{change}", json=body)
        )

    async def signal(self, name: str, key: str, payload: Mapping[str, Any]) -> int:
        """`POST /v1/signals`."""
        body = {"name": name, "key": key, "payload": dict(payload)}
        return int((await self._json("POST", "/v1/signals", json=body))["woken"])

    async def events(self, run_id: UUID, *, after: int) -> Sequence[RunEvent]:
        """`GET /v1/runs/{id}/events`, as JSON."""
        body = await self._json("GET", f"/v1/runs/{run_id}/events", params={"after": after})
        return [RunEvent.model_validate(event) for event in body["events"]]

    async def open_thread(self, workflow: str, *, customer: str | None) -> Thread:
        """`POST /v1/threads`."""
        wanted = {"workflow": workflow, "customer": customer}
        return Thread.model_validate(await self._json("POST", "/v1/threads", json=wanted))

    async def say(self, thread_id: UUID, text: str, *, key: str | None) -> Accepted:
        """`POST /v1/threads/{id}/messages`."""
        path = f"/v1/threads/{thread_id}/messages"
        return await self._accepted(path, key, {"json": {"text": text}})

    async def messages(self, thread_id: UUID, *, after: int) -> Sequence[ThreadMessage]:
        """`GET /v1/threads/{id}/messages`."""
        path = f"/v1/threads/{thread_id}/messages"
        body = await self._json("GET", path, params={"after": after})
        return [ThreadMessage.model_validate(message) for message in body["messages"]]

    async def reviews(self, *, assignee: str | None) -> Sequence[Review]:
        """`GET /v1/reviews`."""
        body = await self._json("GET", "/v1/reviews", params=_given({"assignee": assignee}))
        return [Review.model_validate(review) for review in body["reviews"]]

    async def answer(self, review_id: UUID, value: Mapping[str, Any], *, by: str) -> None:
        """`POST /v1/reviews/{id}/answer`."""
        body = {"value": dict(value), "by": by}
        await self._json("POST", f"/v1/reviews/{review_id}/answer", json=body)

    async def _accepted(self, path: str, key: str | None, body: dict[str, Any]) -> Accepted:
        headers = {} if key is None else {"Idempotency-Key": key}
        status, run = await self._request("POST", path, headers=headers, **body)
        return Accepted(UUID(run["id"]), run["queue"], created=status == 202)  # noqa: PLR2004

    async def _json(self, method: str, path: str, **options: Any) -> Any:
        _, body = await self._request(method, path, **options)
        return body

    async def _request(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        assert self._session is not None, "Rotina opens it"
        try:
            async with self._session.request(method, self._url + path, **options) as response:
                body = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise RunError(
                f"No usable answer from {self._url} ({type(error).__name__}): is `rotina serve` "
                "running there? What was sent with a key can be sent again."
            ) from None
        if not response.ok:
            raise _error_of(body, response.status)
        return response.status, body


def _given(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _form(given: Mapping[str, Any], value: Mapping[str, Any], upload: Upload) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, field in given.items():
        form.add_field(name, str(field))
    form.add_field("input", json.dumps(dict(value)))
    form.add_field(
        "file", upload.content, filename=upload.name, content_type=upload.media_type or _BYTES
    )
    return form


_BYTES = "application/octet-stream"


def _error_of(body: Any, status: int) -> RotinaError:
    """The error that the server raised, by the type of its problem document."""
    problem = body if isinstance(body, dict) else {}
    kind = _errors().get(str(problem.get("type")).removeprefix(_PROBLEM), RunError)
    detail = problem.get("detail") or problem.get("title") or f"the server answered {status}"
    if kind is TryLaterError:
        return TryLaterError(str(detail), seconds=1.0)
    return kind(str(detail))


def _errors() -> dict[str, type[RotinaError]]:
    found: dict[str, type[RotinaError]] = {}
    waiting: list[type[RotinaError]] = [RotinaError]
    while waiting:
        kind = waiting.pop()
        found["-".join(kind.words()).lower()] = kind
        waiting += kind.__subclasses__()
    return found
