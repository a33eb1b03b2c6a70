"""Schedules: which workflow starts when. Rows in PostgreSQL, so any process may fire them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, get_args
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict
from uuid_utils.compat import uuid7

from rotina.database import Pool, load_queries, tenant_scope
from rotina.errors import InvalidInputError, ScheduleError, UnknownWorkflowError
from rotina.runs import Registry, Workflow
from rotina.triggers.cron import Cron

MAX_LIST = 1000
MAX_NAME = 100
FIRE_TIME = "fire_time"
"""An input field of this name gets the time that the run was due."""

CatchUp = Literal["latest", "all", "skip"]
"""After a downtime: fire the latest missed time, each one (the last 100), or none."""


class Schedule(BaseModel):
    """A workflow, its input, and when it starts."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    tenant: str
    name: str
    workflow: str
    input: dict[str, Any]
    cron: str
    time_zone: str
    catch_up: CatchUp
    enabled: bool
    next_fire_at: datetime | None
    """None: no further time is known, so it does not fire."""
    created_at: datetime


class Fire(BaseModel):
    """One time of a schedule: the run it started, or why it started none."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schedule: str
    fire_time: datetime
    """When it was due."""
    run_id: UUID | None
    error: dict[str, Any] | None
    """`{"type", "message"}`."""
    at: datetime
    """When it was fired."""


class ScheduleStore:
    """The schedules of one tenant."""

    def __init__(self, pool: Pool, registry: Registry, *, tenant: str) -> None:
        self._pool = pool
        self._registry = registry
        self._tenant = tenant
        self._sql = load_queries("rotina.triggers")

    async def add(
        self,
        name: str,
        workflow: str,
        value: Mapping[str, Any] | None = None,
        *,
        cron: str,
        time_zone: str = "UTC",
        catch_up: CatchUp = "latest",
    ) -> Schedule:
        """Store a schedule; the same one again is the one that is there.

        Raises `ScheduleError` when a part of it is not valid, or when the name is taken by a
        schedule that differs.
        """
        _check_name(name)
        if catch_up not in get_args(CatchUp):
            known = ", ".join(get_args(CatchUp))
            raise ScheduleError(f"No catch-up {catch_up!r}: use one of {known}")
        first = _first(cron, time_zone)
        row: dict[str, Any] = {
            "id": uuid7(),
            "tenant": self._tenant,
            "name": name,
            "workflow": workflow,
            "input": dict(value or {}),
            "cron": cron,
            "time_zone": time_zone,
            "catch_up": catch_up,
            "next_fire_at": first,
        }
        self._check_input(name, workflow, row["input"], first)
        try:
            rows = await self._all("insert_schedule", **{**row, "input": Jsonb(row["input"])})
        except (psycopg.DataError, TypeError) as error:
            raise ScheduleError(
                f"The input of schedule {name!r} cannot be stored ({type(error).__name__}): "
                "give plain JSON without NUL characters, NaN and Infinity"
            ) from None
        return Schedule.model_validate(rows[0]) if rows else await self._same(row)

    async def get(self, name: str) -> Schedule:
        """One schedule, or `ScheduleError`."""
        return _only(await self._all("get_schedule", name=name), name)

    async def list_schedules(self) -> list[Schedule]:
        """All schedules, by name."""
        return [Schedule.model_validate(row) for row in await self._all("list_schedules")]

    async def remove(self, name: str) -> None:
        """Forget a schedule and what it fired; its runs stay. Raises `ScheduleError`."""
        if not await self._all("remove_schedule", name=name):
            raise _unknown(name)

    async def pause(self, name: str) -> Schedule:
        """Stop firing; what is due meanwhile is not made up for. Raises `ScheduleError`."""
        return _only(await self._all("pause_schedule", name=name), name)

    async def resume(self, name: str) -> Schedule:
        """Go on with the next time from now. Raises `ScheduleError`."""
        paused = await self.get(name)
        following = _first(paused.cron, paused.time_zone)
        return _only(await self._all("resume_schedule", name=name, next_fire_at=following), name)

    async def fires(self, name: str | None = None, *, limit: int = 20) -> list[Fire]:
        """What one schedule (or each) fired, latest first. Raises `ScheduleError`."""
        if name is not None:
            await self.get(name)
        rows = await self._all("list_fires", name=name, limit=max(1, min(limit, MAX_LIST)))
        return [Fire.model_validate(row) for row in rows]

    def _check_input(
        self, name: str, workflow: str, value: Mapping[str, Any], first: datetime
    ) -> None:
        try:
            declared = self._registry[workflow]
            if FIRE_TIME in value and FIRE_TIME in declared.input.model_fields:
                raise ScheduleError(
                    f"The input of schedule {name!r} holds {FIRE_TIME!r}, which each run gets "
                    "from the schedule: leave it out"
                )
            declared.validate_input(scheduled_input(declared, value, first))
        except (UnknownWorkflowError, InvalidInputError) as error:
            raise ScheduleError(f"Schedule {name!r} could not start: {error}") from None

    async def _same(self, row: Mapping[str, Any]) -> Schedule:
        """The schedule that holds the name, if it is the same; when it fires next is not asked."""
        known = await self.get(row["name"])
        parts = ("workflow", "input", "cron", "time_zone", "catch_up")
        other = [part for part in parts if getattr(known, part) != row[part]]
        if other:
            raise ScheduleError(
                f"There is a schedule {known.name!r} with another {' and '.join(other)}: "
                f"remove it first (`rotina schedule remove {known.name}`), or choose another name"
            )
        return known

    async def _all(self, query: str, **values: Any) -> list[dict[str, Any]]:
        async with tenant_scope(self._pool, self._tenant) as connection:
            cursor = await connection.execute(self._sql[query], {"tenant": self._tenant, **values})
            return await cursor.fetchall()


def scheduled_input(
    workflow: Workflow, value: Mapping[str, Any], fire_time: datetime
) -> dict[str, Any]:
    """The input of one run: with the time it was due, when the workflow has a field for it."""
    if FIRE_TIME in workflow.input.model_fields:
        return {**value, FIRE_TIME: fire_time.isoformat()}
    return dict(value)


def _first(expression: str, time_zone: str) -> datetime:
    """The next time from now, in the schedule's zone."""
    cron = Cron(expression, time_zone)
    found = cron.after(datetime.now(UTC))
    if found is None:
        raise ScheduleError(f"Cron {expression!r} never comes: no such day in the next 50 years")
    return found.astimezone(cron.zone)


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise ScheduleError(
            f"The schedule's name {name!r} is not usable: "
            f"1 to {MAX_NAME} printable characters, such as 'daily-digest'"
        )


def _only(rows: list[dict[str, Any]], name: str) -> Schedule:
    if not rows:
        raise _unknown(name)
    return Schedule.model_validate(rows[0])


def _unknown(name: str) -> ScheduleError:
    return ScheduleError(f"There is no schedule {name!r}; `rotina schedule list` shows them.")
