"""The door and the stream consumer on a real PostgreSQL and a real Valkey, without Celery."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypedDict
from uuid import uuid4

import psycopg
import pytest
from langgraph.graph import END, START, StateGraph
from psycopg import sql
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, field_validator
from redis.asyncio import Redis

from rotina.database import Pool, open_pool
from rotina.runs import MessageInput, Queue, Registry, Run, RunStore, ThreadStore, Workflow
from rotina.triggers import Door, RejectedStore, StreamConsumer

STREAM = "rotina:start"


class Note(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def _has_a_bug(cls, text: str) -> str:
        if text == "broken":
            raise ZeroDivisionError("a bug in a project's model")
        return text


class State(TypedDict, total=False):
    text: str


def build() -> StateGraph[State]:
    graph = StateGraph(State)
    graph.add_node("nothing", lambda state: state)
    graph.add_edge(START, "nothing")
    graph.add_edge("nothing", END)
    return graph


NOTE = Workflow(name="note", input=Note, output=Note, build=build)
CHAT = Workflow(name="chat", input=MessageInput, output=Note, build=build)
REGISTRY = Registry([NOTE, CHAT])
OLA = '{"text": "olá"}'


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
async def client(redis_url: str) -> AsyncIterator[Redis]:
    opened = Redis.from_url(redis_url, protocol=2)
    yield opened
    await opened.aclose()


async def runs(pool: Pool, tenant: str = "default") -> list[Run]:
    store = RunStore(pool, tenant=tenant)
    return [await store.get(one.id) for one in await store.list_runs(limit=1000)]


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def consuming(
    door: Door, redis_url: str, *, claim_idle: float = 60.0
) -> AsyncIterator[StreamConsumer]:
    """A consumer that reads as a worker's does."""

    async def receive(fields: Mapping[str, Any], source: str, reference: str) -> None:
        key = f"{source}:{reference}"
        await door.receive(fields, source=source, reference=reference, key=key)

    consumer = StreamConsumer(redis_url, STREAM, receive, claim_idle=claim_idle, block=0.2)
    task = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def as_text(number: bytes | str) -> str:
    return number if isinstance(number, str) else number.decode()


async def drained(client: Redis) -> bool:
    """Nothing waits in the stream, for the group or in it."""
    groups: Any = await client.xinfo_groups(STREAM)
    return await client.xlen(STREAM) == 0 and all(group["pending"] == 0 for group in groups)


async def test_a_message_is_one_run_however_often_it_comes(
    pool: Pool, door: Door, told: Told
) -> None:
    message = {"workflow": "note", "input": {"text": "olá"}}
    named = {"source": "celery", "reference": "task-1", "key": "task-1"}
    first = await door.receive(message, **named)
    again = await door.receive({**message, "input": OLA}, **named)
    assert first is not None
    assert again is not None
    assert (again.id, first.created, again.created) == (first.id, True, False)
    (run,) = await runs(pool)
    assert (run.id, run.input, run.idempotency_key) == (first.id, {"text": "olá"}, "task-1")
    assert told == ["io"]
    own = await door.receive({**message, "key": "pedido-7"}, **named)
    assert own is not None
    assert {one.idempotency_key for one in await runs(pool)} == {"task-1", "pedido-7"}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({}, "InvalidInputError: The message is not valid: workflow: Field required (fields: wor"),
        ({"workflow": "gone"}, "UnknownWorkflowError: No workflow 'gone'. Registered: chat, note."),
        ({"workflow": "note"}, "InvalidInputError: Input of 'note' is not valid: text: Field"),
        ({"workflow": "note", "input": "{"}, "InvalidInputError: The message is not valid: input:"),
        ({"workflow": "note", "input": "[1]"}, "input: Input should be a valid dictionary"),
        ({"workflow": "note", "input": 3}, "input: Input should be a valid dictionary"),
        ({"workflow": "note", "input": OLA, "kye": "k"}, "kye: Extra inputs are not permitted"),
        ({"workflow": "note", "input": OLA, "key": ""}, "key: String should have at least 1"),
        ({"workflow": "note", "input": OLA, "key": "k" * 501}, "key: String should have at most"),
        ({"workflow": "note", "input": OLA, "key": "\0"}, "InvalidInputError"),
        ({"workflow": "note", "input": OLA, "tenant": "\0"}, "InvalidInputError"),
        (
            {"workflow": "note", "input": {"text": "\0"}},
            "InvalidInputError: Input of 'note' cannot",
        ),
        ({"workflow": "note", "input": {"text": "\ud800"}}, "surrogates"),
        ({"workflow": "note", "input": {"text": "broken"}}, "ZeroDivisionError: a bug"),
        ({"workflow": "\ud800", "input": {}}, "workflow"),
    ],
)
async def test_what_cannot_be_a_run_is_kept_with_its_reason(
    pool: Pool,
    door: Door,
    caplog: pytest.LogCaptureFixture,
    message: dict[str, Any],
    reason: str,
) -> None:
    named = {"source": "celery", "reference": "task-1", "key": "task-1"}
    with caplog.at_level(logging.ERROR, logger="rotina.triggers"):
        assert await door.receive(message, **named) is None
        assert await door.receive(message, **named) is None
    assert await runs(pool) == []
    (kept,) = await RejectedStore(pool, tenant="default").list_rejected()
    assert reason in kept.reason
    assert (kept.source, kept.reference) == ("celery", "task-1")
    assert list(json.loads(kept.payload)) == list(message)
    assert "refused celery task-1: " in caplog.text


async def test_a_key_used_for_another_input_is_refused(pool: Pool, door: Door) -> None:
    for index, text in enumerate(("um", "dois")):
        message = {"workflow": "note", "input": {"text": text}, "key": "same"}
        await door.receive(message, source="celery", reference=str(index), key="unused")
    (run,) = await runs(pool)
    (kept,) = await RejectedStore(pool, tenant="default").list_rejected()
    assert run.input == {"text": "um"}
    assert kept.reason.startswith("IdempotencyConflictError: The key 'same' was used for run")


async def test_what_a_customer_says_goes_into_its_thread_or_is_refused(
    pool: Pool, door: Door
) -> None:
    threads = ThreadStore(pool, tenant="default")
    thread = await threads.open(CHAT)
    for name, where in (("known", str(thread.id)), ("unknown", str(uuid4()))):
        message = {"workflow": "chat", "input": {"thread": where, "text": "olá"}}
        for _ in range(2):
            await door.receive(message, source="celery", reference=name, key=name)
    (run,) = await runs(pool)
    (said,) = await threads.messages(thread.id)
    assert (said.run_id, said.role, said.text) == (run.id, "user", "olá")
    (kept,) = await RejectedStore(pool, tenant="default").list_rejected()
    assert (kept.reference, kept.reason.split(":")[0]) == ("unknown", "ThreadNotFoundError")


async def test_a_message_may_name_its_tenant(pool: Pool, door: Door) -> None:
    message = {"workflow": "note", "input": OLA, "tenant": "acme"}
    await door.receive(message, source="celery", reference="1", key="1")
    await door.receive({**message, "input": "x"}, source="celery", reference="2", key="2")
    assert (len(await runs(pool)), len(await runs(pool, "acme"))) == (0, 1)
    assert await RejectedStore(pool, tenant="default").list_rejected() == []
    assert len(await RejectedStore(pool, tenant="acme").list_rejected()) == 1


async def test_refused_messages_are_listed_in_pages(pool: Pool) -> None:
    store = RejectedStore(pool, tenant="default")
    for index in range(3):
        await store.add(source="celery", reference=str(index), payload={}, reason="r")
    first = await store.list_rejected(limit=2)
    rest = await store.list_rejected(before=first[-1].id)
    assert [one.reference for one in (*first, *rest)] == ["2", "1", "0"]


async def test_a_database_that_is_away_refuses_nothing(database_url: str, told: Told) -> None:
    async with open_pool(database_url, size=1, timeout=1) as pool:
        door = Door(pool, REGISTRY, "default", 5, told.tell)
        with database_away(database_url), pytest.raises(PoolTimeout):
            await door.receive(
                {"workflow": "note", "input": OLA}, source="celery", reference="1", key="1"
            )
    # The pool that was cut off may still be waiting for its next try.
    async with open_pool(database_url, size=1) as pool:
        assert await RejectedStore(pool, tenant="default").list_rejected() == []
        assert await runs(pool) == []


async def test_entries_become_runs_and_leave_the_stream(
    pool: Pool, door: Door, told: Told, client: Redis, redis_url: str
) -> None:
    """What was added before anybody listened counts too; a key of the sender's is taken."""
    fields: dict[Any, Any] = {"workflow": "note", "input": OLA}
    number = as_text(await client.xadd(STREAM, fields))
    async with consuming(door, redis_url):
        for _ in range(40):
            await client.xadd(STREAM, fields)
        await client.xadd(STREAM, {**fields, "key": "pedido-7"})
        await client.xadd(STREAM, {**fields, "key": "pedido-7"})

        async def done() -> bool:
            return await drained(client) and len(await runs(pool)) == 42

        await until(done)
    found = await runs(pool)
    assert {json.dumps(run.input, ensure_ascii=False) for run in found} == {OLA}
    keys = {run.idempotency_key for run in found}
    assert {"pedido-7", f"stream:rotina:start:{number}"} <= keys
    assert len(told) == len(found)


async def test_entries_that_are_no_message_are_refused_and_the_next_one_is_read(
    pool: Pool, door: Door, client: Redis, redis_url: str
) -> None:
    bad: list[dict[Any, Any]] = [
        {"hello": "world"},
        {"workflow": "note", "input": '{"text": "ol'},
        {"workflow": "note", "input": b'{"text": "ol\xe1"}'},
        {b"\xff\xfe": b"\0"},
    ]
    for fields in bad:
        await client.xadd(STREAM, fields)
    await client.xadd(STREAM, {"workflow": "note", "input": OLA})
    async with consuming(door, redis_url):

        async def done() -> bool:
            return await drained(client)

        await until(done)
    assert [run.input for run in await runs(pool)] == [{"text": "olá"}]
    kept = await RejectedStore(pool, tenant="default").list_rejected()
    assert len(kept) == 4
    assert {one.source for one in kept} == {"stream:rotina:start"}
    assert {one.reason.split(":")[0] for one in kept} == {"InvalidInputError"}


async def test_a_dead_consumers_entries_go_to_a_live_one(
    pool: Pool, door: Door, client: Redis, redis_url: str
) -> None:
    """One entry was accepted but not acknowledged, one was only read, one was deleted since."""
    await client.xgroup_create(STREAM, "rotina", id="0", mkstream=True)
    fields: dict[Any, Any] = {"workflow": "note", "input": OLA}
    first, _, deleted = [await client.xadd(STREAM, fields) for _ in range(3)]
    await client.xreadgroup("rotina", "dead", {STREAM: ">"}, count=10)
    await client.xdel(STREAM, deleted)
    key = f"stream:rotina:start:{as_text(first)}"
    await door.receive({"workflow": "note", "input": OLA}, source="s", reference="r", key=key)
    async with consuming(door, redis_url, claim_idle=0.2):

        async def done() -> bool:
            return await drained(client)

        await until(done)
    assert len(await runs(pool)) == 2
    assert await RejectedStore(pool, tenant="default").list_rejected() == []


async def test_a_stream_that_vanished_is_made_again(
    pool: Pool, door: Door, client: Redis, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with consuming(door, redis_url) as consumer:

        async def there() -> bool:
            return bool(await client.exists(STREAM)) and consumer._position == ">"

        await until(there)
        await client.flushall()
        await client.xadd(STREAM, {"workflow": "note", "input": OLA})

        async def done() -> bool:
            return len(await runs(pool)) == 1 and await drained(client)

        await until(done)
    assert "stream rotina:start lost its group: making it again" in caplog.text


async def test_an_entry_waits_while_the_database_is_away(
    database_url: str, told: Told, client: Redis, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_pool(database_url, size=2, timeout=0.5) as pool:
        door = Door(pool, REGISTRY, "default", 5, told.tell)
        async with consuming(door, redis_url):
            with database_away(database_url):
                await client.xadd(STREAM, {"workflow": "note", "input": OLA})

                async def waits() -> bool:
                    return "again in 0.4 s" in caplog.text

                await until(waits)
                assert await client.xlen(STREAM) == 1

            async def done() -> bool:
                return await drained(client)

            await until(done)
        assert [run.input for run in await runs(pool)] == [{"text": "olá"}]
        assert await RejectedStore(pool, tenant="default").list_rejected() == []


async def test_a_cancellation_that_a_library_swallows_ends_the_consumer(
    client: Redis, redis_url: str
) -> None:
    reading, waits = asyncio.Event(), asyncio.Event()

    async def receive(fields: Mapping[str, Any], source: str, reference: str) -> None:
        reading.set()
        with suppress(asyncio.CancelledError):
            await waits.wait()

    await client.xadd(STREAM, {"workflow": "note", "input": OLA})
    consuming = asyncio.create_task(StreamConsumer(redis_url, STREAM, receive).run())
    await reading.wait()
    consuming.cancel()
    async with asyncio.timeout(30):
        await asyncio.gather(consuming, return_exceptions=True)


async def test_a_redis_that_is_away_is_waited_for(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    async with consuming(door, "redis://:secret@127.0.0.1:1/0"):

        async def waits() -> bool:
            return "again in 0.8 s" in caplog.text

        await until(waits)
    assert "secret" not in caplog.text


async def test_a_consumer_that_leaves_takes_its_name_along(
    door: Door, client: Redis, redis_url: str
) -> None:
    async def names() -> set[str]:
        consumers: Any = await client.xinfo_consumers(STREAM, "rotina")
        return {consumer["name"].decode() for consumer in consumers}

    await client.xgroup_create(STREAM, "rotina", id="0", mkstream=True)
    await client.xadd(STREAM, {"workflow": "note", "input": OLA})
    await client.xreadgroup("rotina", "holds-an-entry", {STREAM: ">"}, count=1)
    async with consuming(door, redis_url) as consumer:

        async def joined() -> bool:
            return consumer.name in await names()

        await until(joined)
    assert await names() == {"holds-an-entry"}


class database_away:  # noqa: N801 - reads as a state
    """The test's database takes no connection for the length of the block."""

    def __init__(self, url: str) -> None:
        self._server, self._name = url.rsplit("/", 1)

    def __enter__(self) -> None:
        self._allow(connections=False)

    def __exit__(self, *_: object) -> None:
        self._allow(connections=True)

    def _allow(self, *, connections: bool) -> None:
        name = sql.Identifier(self._name)
        with psycopg.connect(f"{self._server}/postgres", autocommit=True) as connection:
            connection.execute(
                sql.SQL("alter database {} allow_connections {}").format(
                    name, sql.SQL("true" if connections else "false")
                )
            )
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s",
                (self._name,),
            )
