"""Schedules on a real PostgreSQL: what is refused, what fires, and that it fires once."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel, field_validator

from rotina.database import Pool
from rotina.errors import ScheduleError
from rotina.runs import MessageInput, Queue, Registry, RunStore, ThreadStore, Workflow
from rotina.triggers import CatchUp, Door, ScheduleStore, fire_due


class Note(BaseModel):
    text: str = "olá"


class Digest(BaseModel):
    fire_time: datetime
    language: str = "pt"


class Strict(BaseModel):
    text: str = ""

    @field_validator("text")
    @classmethod
    def _fails_later(cls, text: str) -> str:
        if text == "broken":
            raise ZeroDivisionError("a bug in a project's model: \0")
        return text


class State(TypedDict, total=False):
    text: str


def build() -> StateGraph[State]:
    graph = StateGraph(State)
    graph.add_node("nothing", lambda state: state)
    graph.add_edge(START, "nothing")
    graph.add_edge("nothing", END)
    return graph


REGISTRY = Registry(
    Workflow(name=name, input=model, output=model, build=build)
    for name, model in (
        *(("note", Note), ("digest", Digest), ("strict", Strict), ("chat", MessageInput)),
    )
)


class Told(list[Queue]):
    async def tell(self, queue: Queue, runs: int) -> None:
        self.extend([queue] * runs)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def door(pool: Pool, told: Told) -> Door:
    return Door(pool, REGISTRY, "default", 5, told.tell)


@pytest.fixture
def store(pool: Pool) -> ScheduleStore:
    return ScheduleStore(pool, REGISTRY, tenant="default")


async def make_due(pool: Pool, name: str, since: datetime) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "update rotina.schedule set next_fire_at = %s where name = %s", (since, name)
        )


def last_minute() -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0)


async def runs(pool: Pool, tenant: str = "default") -> Sequence[Any]:
    return await RunStore(pool, tenant=tenant).list_runs(limit=1000)


async def test_a_due_schedule_starts_one_run_that_knows_its_time(
    pool: Pool, store: ScheduleStore, door: Door, told: Told
) -> None:
    added = await store.add(
        "digest", "digest", {"language": "en"}, cron="0 8 * * *", time_zone="America/Sao_Paulo"
    )
    assert added.next_fire_at is not None
    assert added.next_fire_at.astimezone(ZoneInfo("America/Sao_Paulo")).hour == 8
    assert await fire_due(door) == 0, "it is not due yet"
    due = added.next_fire_at - timedelta(days=1)
    await make_due(pool, "digest", due)
    assert await fire_due(door) == 1
    assert await fire_due(door) == 0
    (fire,) = await store.fires("digest")
    assert (fire.fire_time, fire.error) == (due, None)
    assert fire.run_id is not None
    run = await RunStore(pool, tenant="default").get(fire.run_id)
    at_eight = due.astimezone(ZoneInfo("America/Sao_Paulo")).isoformat()
    assert run.input == {"fire_time": at_eight, "language": "en"}
    assert at_eight.endswith("T08:00:00-03:00")
    assert run.idempotency_key == f"schedule:digest:{due.astimezone(UTC).isoformat()}"
    assert told == ["io"]
    assert (await store.get("digest")).next_fire_at == added.next_fire_at


async def test_many_processes_fire_each_time_once(
    pool: Pool, store: ScheduleStore, door: Door, told: Told
) -> None:
    for index in range(8):
        await store.add(f"s{index}", "note", {"text": f"número {index}"}, cron="* * * * *")
        await make_due(pool, f"s{index}", last_minute())
    counts = await asyncio.gather(*(fire_due(door) for _ in range(3)))
    assert sum(counts) == 8
    texts = [(await RunStore(pool, tenant="default").get(one.id)).input for one in await runs(pool)]
    assert sorted(one["text"] for one in texts) == [f"número {index}" for index in range(8)]
    assert len(told) == 8
    assert len(await store.fires()) == 8


async def test_dying_after_the_run_was_accepted_makes_no_second_run(
    pool: Pool, store: ScheduleStore, door: Door, told: Told
) -> None:
    """The fire's own transaction is lost; the next process finds the run by its key."""
    await store.add("note", "note", cron="0 0 1 1 *")
    due = datetime(2026, 1, 1, tzinfo=UTC)
    await make_due(pool, "note", due)
    dying = Door(pool, REGISTRY, "default", 5, told.tell)
    accepted: list[UUID] = []
    original = Door.accept

    async def accept_and_die(self: Door, *given: Any, **named: Any) -> Any:
        accepted.append((await original(self, *given, **named)).id)
        raise asyncio.CancelledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Door, "accept", accept_and_die)
        with pytest.raises(asyncio.CancelledError):
            await fire_due(dying)
    assert (await store.get("note")).next_fire_at == due, "nothing of the fire was committed"
    assert await store.fires() == []
    assert await fire_due(door) == 1
    assert [one.id for one in await runs(pool)] == accepted
    assert [one.run_id for one in await store.fires()] == accepted


@pytest.mark.parametrize(("catch_up", "expected"), [("latest", 1), ("all", 4), ("skip", 0)])
async def test_what_a_downtime_missed(
    pool: Pool, store: ScheduleStore, door: Door, catch_up: CatchUp, expected: int
) -> None:
    """Yearly, so that no time comes while the test runs."""
    await store.add("note", "note", cron="0 0 1 1 *", catch_up=catch_up)
    year = datetime.now(UTC).year
    await make_due(pool, "note", datetime(year - 3, 1, 1, tzinfo=UTC))
    assert await fire_due(door) == 1
    fired = [one.fire_time.year for one in await store.fires() if one.run_id]
    assert fired == list(range(year, year - expected, -1))
    skipped = [one.error for one in await store.fires() if one.error]
    assert len(skipped) == (catch_up == "skip")
    for error in skipped:
        assert error is not None
        assert error["message"].startswith("Skipped: nothing fired it until")
    following = (await store.get("note")).next_fire_at
    assert following == datetime(year + 1, 1, 1, tzinfo=UTC)


async def test_catching_up_is_bounded(pool: Pool, store: ScheduleStore, door: Door) -> None:
    await store.add("note", "note", cron="0 0 * * *", catch_up="all")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    await make_due(pool, "note", today - timedelta(days=300))
    await fire_due(door)
    fired = [one.fire_time for one in await store.fires("note", limit=1000)]
    assert len(fired) == 100
    assert max(fired) - min(fired) == timedelta(days=99)
    assert max(fired) >= today


async def test_skip_fires_what_is_on_time(pool: Pool, store: ScheduleStore, door: Door) -> None:
    await store.add("note", "note", cron="* * * * *", catch_up="skip")
    await make_due(pool, "note", datetime.now(UTC) - timedelta(hours=2))
    await fire_due(door)
    (fire,) = await store.fires()
    assert fire.run_id is not None, "the minute that has just begun is not missed"
    assert (await store.get("note")).next_fire_at is not None


async def test_a_schedule_that_cannot_start_is_recorded_and_the_rest_go_on(
    pool: Pool, store: ScheduleStore, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    minute = last_minute()
    await store.add("a-gone", "note", cron="* * * * *")
    await store.add("b-broken", "strict", {"text": "fine"}, cron="* * * * *")
    await store.add("c-good", "note", cron="* * * * *")
    async with pool.connection() as connection:
        await connection.execute(
            "update rotina.schedule set workflow = 'gone' where name = 'a-gone'"
        )
        await connection.execute(
            """update rotina.schedule set input = '{"text": "broken"}' where name = 'b-broken'"""
        )
    for name in ("a-gone", "b-broken", "c-good"):
        await make_due(pool, name, minute)
    with caplog.at_level(logging.ERROR, logger="rotina.triggers"):
        assert await fire_due(door) == 3
    told = {one.schedule: one.error and one.error["type"] for one in await store.fires()}
    assert told == {
        "a-gone": "UnknownWorkflowError", "b-broken": "ZeroDivisionError", "c-good": None,
    }  # fmt: skip
    (gone,) = await store.fires("a-gone")
    assert gone.error is not None
    assert "No workflow 'gone'. Registered: chat, digest, note, strict." in gone.error["message"]
    assert len(await runs(pool)) == 1
    assert await fire_due(door) == 0, "a time that failed is over"
    assert "'a-gone' of 'default' started no run" in caplog.text


async def test_a_scheduled_message_goes_into_its_thread_or_says_that_there_is_none(
    pool: Pool, store: ScheduleStore, door: Door
) -> None:
    threads = ThreadStore(pool, tenant="default")
    thread = await threads.open(REGISTRY["chat"])
    with pytest.raises(ScheduleError, match="thread: Field required"):
        await store.add("nowhere", "chat", {"text": "olá"}, cron="* * * * *")
    for name, where in (("known", thread.id), ("unknown", uuid4())):
        await store.add(name, "chat", {"thread": str(where), "text": "olá"}, cron="* * * * *")
        await make_due(pool, name, last_minute())
    assert await fire_due(door) == 2
    told = {one.schedule: one.error and one.error["type"] for one in await store.fires()}
    assert told == {"known": None, "unknown": "ThreadNotFoundError"}
    assert [said.text for said in await threads.messages(thread.id)] == ["olá"]
    assert len(await runs(pool)) == 1


async def test_a_time_zone_that_is_gone_stops_its_schedule_only(
    pool: Pool, store: ScheduleStore, door: Door
) -> None:
    for name in ("note", "other"):
        await store.add(name, "note", cron="* * * * *")
        await make_due(pool, name, last_minute())
    async with pool.connection() as connection:
        await connection.execute(
            "update rotina.schedule set time_zone = 'Moon/Base' where name = 'note'"
        )
    assert await fire_due(door) == 2
    (fire,) = await store.fires("note")
    assert fire.error is not None
    assert "No time zone 'Moon/Base'" in fire.error["message"]
    assert (await store.get("note")).next_fire_at is None
    assert len(await store.fires("other")) == 1
    with pytest.raises(ScheduleError, match="No time zone 'Moon/Base'"):
        await store.resume("note")


async def test_pausing_makes_up_for_nothing(pool: Pool, store: ScheduleStore, door: Door) -> None:
    await store.add("note", "note", cron="*/10 * * * *", catch_up="all")
    assert not (await store.pause("note")).enabled
    await make_due(pool, "note", datetime.now(UTC) - timedelta(hours=3))
    assert await fire_due(door) == 0
    resumed = await store.resume("note")
    assert resumed.enabled
    assert resumed.next_fire_at is not None
    assert resumed.next_fire_at > datetime.now(UTC)
    assert await store.resume("note") == resumed
    assert await fire_due(door) == 0


async def test_adding_again_changes_nothing(store: ScheduleStore) -> None:
    given: dict[str, Any] = {"cron": "0 8 * * *", "time_zone": "Europe/Lisbon"}
    first = await store.add("note", "note", {"text": "olá"}, **given)
    assert await store.add("note", "note", {"text": "olá"}, **given) == first
    with pytest.raises(ScheduleError, match=r"'note' with another input and cron: remove it first"):
        await store.add("note", "note", {"text": "hi"}, cron="0 9 * * *", time_zone="Europe/Lisbon")
    await store.remove("note")
    assert await store.list_schedules() == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"workflow": "gone"}, "'s' could not start: No workflow 'gone'. Registered: chat, digest"),
        ({"value": {"text": 3}}, "'s' could not start: Input of 'note' is not valid: text:"),
        ({"value": {"text": "\0"}}, "of schedule 's' cannot be stored .*without NUL"),
        ({"value": {"x": float("nan")}}, "of schedule 's' cannot be stored .*NaN"),
        ({"value": {"x": object()}}, "of schedule 's' cannot be stored .*plain JSON"),
        ({"workflow": "digest", "value": {"fire_time": "x"}}, "holds 'fire_time'.*leave it out"),
        ({"cron": "0 25 * * *"}, r"'0 25 \* \* \*' is not valid \(Bad hour\)"),
        ({"cron": "0 0 */20 * 1L"}, "never comes: no such day"),
        ({"time_zone": "Sao Paulo"}, "No time zone 'Sao Paulo': use an IANA name"),
        ({"catch_up": "some"}, "No catch-up 'some': use one of latest, all, skip"),
        ({"name": " "}, "name ' ' is not usable: 1 to 100 printable"),
        ({"name": "a\0"}, "is not usable"),
    ],
)
async def test_what_is_wrong_is_said_when_it_is_added(
    store: ScheduleStore, given: dict[str, Any], told: str
) -> None:
    values = {"name": "s", "workflow": "note", "value": {}, "cron": "0 8 * * *", **given}
    with pytest.raises(ScheduleError, match=told):
        await store.add(values.pop("name"), values.pop("workflow"), values.pop("value"), **values)
    assert await store.list_schedules() == []


async def test_a_tenants_schedules_are_its_own(
    pool: Pool, store: ScheduleStore, door: Door
) -> None:
    other = ScheduleStore(pool, REGISTRY, tenant="other")
    await store.add("note", "note", {"text": "meu"}, cron="* * * * *")
    assert await other.list_schedules() == []
    for work in (other.get, other.pause, other.resume, other.remove, other.fires):
        with pytest.raises(ScheduleError, match="There is no schedule 'note'; `rotina schedule"):
            await work("note")
    await other.add("note", "note", {"text": "seu"}, cron="* * * * *")
    await make_due(pool, "note", last_minute())
    assert await fire_due(door) == 2
    for tenant, text in (("default", "meu"), ("other", "seu")):
        (run,) = await runs(pool, tenant)
        assert (await RunStore(pool, tenant=tenant).get(run.id)).input == {"text": text}
    assert [one.run_id for one in await other.fires()] == [
        one.id for one in await runs(pool, "other")
    ]
