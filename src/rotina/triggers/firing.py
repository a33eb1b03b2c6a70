"""Firing schedules: any number of processes at any moment, one run for each time.

A process locks a schedule that is due, accepts the run in a transaction of its own under the key
`schedule:NAME:TIME`, and then writes the fire and the next time. Where it dies in between, the
next one to come repeats both, and the key gives it the run that is there already.
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import assert_never
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from rotina.database import load_queries
from rotina.errors import ScheduleError
from rotina.runs import Accepted
from rotina.triggers.cron import Cron
from rotina.triggers.door import Door, is_outage
from rotina.triggers.rejected import storable
from rotina.triggers.schedule import Schedule, scheduled_input

logger = logging.getLogger(__name__)

MAX_SCHEDULES = 1000
"""Schedules that one call fires; the next call takes the rest."""
MAX_CATCH_UP = 100
"""Missed times that `catch_up: all` fires: the latest of them."""
GRACE = timedelta(minutes=1)
"""A time is missed when nothing fired it for this long."""


async def fire_due(door: Door) -> int:
    """Fire every schedule that is due; returns for how many.

    A schedule whose run cannot be accepted is recorded with its error, and the rest go on.
    Raises what says that the database is away.
    """
    for count in range(MAX_SCHEDULES):
        if not await _fire_one(door):
            return count
    return MAX_SCHEDULES


async def _fire_one(door: Door) -> bool:
    sql = load_queries("rotina.triggers")
    accepted: list[Accepted] = []
    async with door.pool.connection() as connection, connection.transaction():
        row = await (await connection.execute(sql["claim_schedule"])).fetchone()
        if row is None:
            return False
        schedule, now = Schedule.model_validate(row), row["claimed_at"]
        try:
            cron = Cron(schedule.cron, schedule.time_zone)
        except ScheduleError as error:  # its zone or expression is not understood any more
            logger.exception("schedule %r of %r stops", schedule.name, schedule.tenant)
            await _record(connection, schedule, _due_since(schedule), error=error)
            following = None
        else:
            for moment in _moments(schedule, cron, now):
                accepted += await _fire(door, connection, schedule, moment, now)
            following = cron.after(now)
        values = {"id": schedule.id, "next_fire_at": following}
        await connection.execute(sql["advance_schedule"], values)
    for one in accepted:
        await door.announce(one)
    return True


def _due_since(schedule: Schedule) -> datetime:
    assert schedule.next_fire_at is not None, "only a schedule with a next time is due"
    return schedule.next_fire_at


def _moments(schedule: Schedule, cron: Cron, now: datetime) -> list[datetime]:
    """The times to fire, oldest first."""
    match schedule.catch_up:
        case "latest" | "skip":
            limit = 1
        case "all":
            limit = MAX_CATCH_UP
        case _:
            assert_never(schedule.catch_up)
    since = _due_since(schedule)
    # A next time that the expression does not know was set by hand: that time is meant.
    times = cron.due(since, now, limit=limit) or [since]
    return [moment.astimezone(cron.zone) for moment in times]


async def _fire(
    door: Door,
    connection: AsyncConnection[DictRow],
    schedule: Schedule,
    moment: datetime,
    now: datetime,
) -> list[Accepted]:
    """Accept the run of one time, or record why there is none."""
    key = f"schedule:{schedule.name}:{moment.astimezone(UTC).isoformat()}"
    if schedule.catch_up == "skip" and now - moment > GRACE:
        skipped = ScheduleError(f"Skipped: nothing fired it until {now:%Y-%m-%d %H:%M:%S %Z}")
        await _record(connection, schedule, moment, error=skipped)
        return []
    try:
        value = scheduled_input(door.registry[schedule.workflow], schedule.input, moment)
        accepted = await door.accept(schedule.workflow, value, key=key, tenant=schedule.tenant)
    except Exception as error:
        if is_outage(error):
            raise
        # A workflow that vanished or changed its input, or an input model that raises.
        logger.exception("schedule %r of %r started no run", schedule.name, schedule.tenant)
        await _record(connection, schedule, moment, error=error)
        return []
    await _record(connection, schedule, moment, run_id=accepted.id)
    return [accepted]


async def _record(
    connection: AsyncConnection[DictRow],
    schedule: Schedule,
    moment: datetime,
    *,
    run_id: UUID | None = None,
    error: Exception | None = None,
) -> None:
    told: dict[str, str] | None = None
    if error is not None:
        told = {"type": type(error).__name__, "message": storable(str(error))}
    values = {
        "schedule_id": schedule.id,
        "fire_time": moment,
        "run_id": run_id,
        "error": None if told is None else Jsonb(told),
    }
    await connection.execute(load_queries("rotina.triggers")["insert_fire"], values)
