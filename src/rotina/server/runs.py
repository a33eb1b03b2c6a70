"""Runs over HTTP: accept, read, list, follow."""

import json
import mimetypes
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from rotina.errors import InvalidInputError
from rotina.runs import Run, RunEvent, RunState, RunSummary, Upload
from rotina.server.access import PROTECTION, IdempotencyKey, TenantClient, problems
from rotina.server.streaming import EventStream, follow
from rotina.server.timeline import Timeline

router = APIRouter(prefix="/v1/runs", tags=["runs"], dependencies=PROTECTION)

MAX_LIST = 1000


class RunRequest(BaseModel):
    """What starts a run."""

    model_config = ConfigDict(extra="forbid")

    workflow: str = Field(min_length=1)
    input: dict[str, Any] = Field(default_factory=dict)
    priority: int | None = Field(default=None, ge=-100, le=100)
    """Higher goes first; default: the workflow's."""


class RunList(BaseModel):
    """A page of runs, newest first."""

    runs: list[RunSummary]
    next: UUID | None
    """What to send as `before` for the next page; None on the last."""


class EventList(BaseModel):
    """A run's timeline so far, oldest first."""

    events: list[RunEvent]


_FORM = {
    "type": "object",
    "required": ["workflow", "file"],
    "properties": {
        "workflow": {"type": "string"},
        "input": {"type": "string", "description": "a JSON object", "default": "{}"},
        "file": {"type": "string", "format": "binary"},
        "priority": {"type": "integer", "minimum": -100, "maximum": 100},
    },
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": RunRequest.model_json_schema()},
            "multipart/form-data": {"schema": _FORM},
        },
    }
}


@router.post(
    "",
    status_code=202,
    responses={
        200: {"model": Run, "description": "the run that this key and input started before"},
        **problems(400, 404, 409, 413, 415),
    },
    openapi_extra=_BODY,
)
async def start_run(
    request: Request, response: Response, client: TenantClient, key: IdempotencyKey = None
) -> Run:
    """Accept a run of a workflow: after the answer it is not lost.

    A file goes with `multipart/form-data`; it becomes the input's file field.
    """
    wanted, upload = await _read_request(request)
    if upload is not None and client.registry[wanted.workflow].file_field is None:
        raise InvalidInputError(f"{wanted.workflow!r} takes no file: send its input as JSON")
    accepted = await client.start(
        wanted.workflow, wanted.input, key=key, upload=upload, priority=wanted.priority
    )
    response.status_code = 202 if accepted.created else 200
    response.headers["Location"] = f"/v1/runs/{accepted.id}"
    return await client.store.get(accepted.id)


@router.get("", responses=problems())
async def list_runs(
    client: TenantClient,
    workflow: str | None = None,
    state: RunState | None = None,
    before: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIST)] = 20,
) -> RunList:
    """Runs, newest first."""
    found = await client.store.list_runs(workflow=workflow, state=state, before=before, limit=limit)
    return RunList(runs=found, next=found[-1].id if len(found) == limit else None)


@router.get("/{run_id}", responses=problems(404))
async def get_run(run_id: UUID, client: TenantClient) -> Run:
    """One run, with its input and, once it has succeeded, its result."""
    return await client.store.get(run_id)


@router.get(
    "/{run_id}/events",
    response_model=EventList,
    responses={
        200: {
            "description": "the timeline: as it grows, or with `Accept: application/json` so far",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "nothing will come after `Last-Event-ID`: the run is over"},
        **problems(404),
    },
)
async def follow_run(
    run_id: UUID,
    request: Request,
    client: TenantClient,
    after: Annotated[int, Query(ge=0)] = 0,
    last_event_id: Annotated[int | None, Header(alias="Last-Event-ID", ge=0)] = None,
) -> Any:
    """The run's timeline as server-sent events, from `Last-Event-ID` (or `after`) on.

    An event's name is its kind, its data a line of the timeline. The stream ends with the run's
    own end: `succeeded`, `failed` or `cancelled`.
    """
    seen = after if last_event_id is None else last_event_id
    if _wants_json(request):
        return EventList(events=await client.store.events(run_id, after=seen))
    timeline = Timeline(client.pool, client.tenant, run_id, after=seen)
    first = await timeline.read()
    if timeline.ended and not first:
        return Response(status_code=204)
    return EventStream(follow(timeline, first, request.app.state.stopping))


def _wants_json(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/event-stream" not in accepted


async def _read_request(request: Request) -> tuple[RunRequest, Upload | None]:
    # The whole body first, within the limit: a form that breaks off leaves no open file behind.
    body = await request.body()
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return _checked(_json(body)), None
    async with request.form(max_files=1, max_fields=10) as form:
        return await _read_form(form)


async def _read_form(form: FormData) -> tuple[RunRequest, Upload | None]:
    fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    if "input" in fields:
        fields["input"] = _json(fields["input"].encode())
    file = form.get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        raise HTTPException(422, "The form has no file: add a part named `file`, or send JSON")
    media_type = _told(file.filename, file.content_type)
    return _checked(fields), Upload(file.filename, await file.read(), media_type)


def _told(name: str, media_type: str | None) -> str | None:
    """The media type where it says more than the file's name.

    Clients guess it from the name. Kept, it would make another input of the same file, and with
    the same idempotency key a conflict, depending on who sent it.
    """
    guessed = mimetypes.guess_type(name)[0]
    return None if media_type in {guessed, "application/octet-stream"} else media_type


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"The input is not JSON: {error}") from None


def _checked(value: Any) -> RunRequest:
    try:
        return RunRequest.model_validate(value)
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        ) from None
