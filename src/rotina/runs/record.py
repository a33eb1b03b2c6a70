"""The record of a run: what the world answered it, enough to drive its graph again without."""

import base64
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator

from rotina.database import Pool, load_queries, tenant_scope
from rotina.errors import RunNotFoundError
from rotina.runs.children import Child
from rotina.runs.run import Run
from rotina.runs.store import RunStore
from rotina.runs.workflow import FileReference

BASE64 = "base64:"


def _text(value: bytes) -> str:
    """Bytes as text that a person can read where they are text."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return BASE64 + base64.b64encode(value).decode()
    return BASE64 + base64.b64encode(value).decode() if text.startswith(BASE64) else text


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        coded = value.removeprefix(BASE64)
        return base64.b64decode(coded) if value.startswith(BASE64) else value.encode()
    return bytes(value)


Text = Annotated[bytes, PlainValidator(_bytes), PlainSerializer(_text, when_used="json")]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Told(_Row):
    """One answer: of a model, a step, a search, a query."""

    node: str
    """The names of the nodes it was asked in, outermost first, with `|` between."""
    kind: str
    digest: Text
    """SHA-256 of the request."""
    request: Text
    answer: Text


class Done(_Row):
    """One effect and its receipt."""

    name: str
    receipt: dict[str, Any]


class Decided(_Row):
    """One question to a person, and what was answered."""

    question: str
    form: dict[str, Any]
    data: dict[str, Any]
    assignee: str | None
    answer: dict[str, Any]


class Waited(_Row):
    """One wait for a moment or an event, and what came; None: the time was over."""

    kind: Literal["timer", "event"]
    name: str | None
    key: str | None
    answer: Any


class Group(_Row):
    """Children that were waited for."""

    name: str
    children: list[Child]


class Record(BaseModel):
    """Everything that a run was told, in the order it was told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: Run
    told: list[Told]
    done: list[Done]
    decided: list[Decided]
    waited: list[Waited]
    groups: list[Group]
    files: dict[str, Text]
    """By SHA-256."""


async def load_record(pool: Pool, *, tenant: str, run_id: UUID) -> Record:
    """The record of a run. Raises `RunNotFoundError`, also when it is too old to be kept."""
    store = RunStore(pool, tenant=tenant)
    run = await store.get(run_id)
    sql = load_queries("rotina.runs")
    rows: dict[str, list[dict[str, Any]]] = {}
    async with tenant_scope(pool, tenant) as connection:
        for name in ("told", "done", "decided", "waited", "children"):
            cursor = await connection.execute(sql[f"record_{name}"], {"run_id": run_id})
            rows[name] = await cursor.fetchall()
    if run.ended and not rows["told"] and await store.model_calls(run_id):
        raise RunNotFoundError(
            f"What run {run_id} was told is not kept any more: raise the setting `record_days` to "
            "replay older runs"
        )
    groups: dict[str, list[Any]] = {}
    for child in rows.pop("children"):
        groups.setdefault(child["name"], []).append(child)
    files = {reference.sha256: await store.file(reference) for reference in _files(run.input)}
    return Record.model_validate(
        {
            "run": run,
            **rows,
            "groups": [{"name": name, "children": each} for name, each in groups.items()],
            "files": files,
        }
    )


def _files(value: Any) -> list[FileReference]:
    """The files that an input names, wherever in it."""
    if isinstance(value, dict):
        if {"sha256", "name"} <= value.keys() <= set(FileReference.model_fields):
            return [FileReference.model_validate(value)]
        return [found for each in value.values() for found in _files(each)]
    if isinstance(value, list):
        return [found for each in value for found in _files(each)]
    return []
