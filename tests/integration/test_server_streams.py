"""A run's timeline as server-sent events: resumed, ended, and cheap while nothing happens."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import psycopg
import pytest

from rotina.server import streaming
from tests.serving import Served, make_settings, served


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with served(make_settings(database_url, redis_url, pool_size=2)) as running:
        yield running


@pytest.fixture
async def key(server: Served) -> str:
    return await server.key("acme")


async def start(server: Served, key: str) -> str:
    body = {"workflow": "greet", "input": {"name": "Ana"}}
    run = (await server.ask("POST", "/v1/runs", key=key, json=body)).body
    return str(run["id"])


@asynccontextmanager
async def stream(
    server: Served, key: str, run_id: str, after: int | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    url = f"{server.url}/v1/runs/{run_id}/events"
    async with server.session.get(url, headers=headers) as response:
        yield response


async def next_event(response: aiohttp.ClientResponse) -> dict[str, Any] | None:
    """The next event's fields with its data parsed; None at the end of the stream."""
    found: dict[str, Any] = {}
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            found[name] = value
        elif "data" in found:
            found["data"] = json.loads(found["data"])
            return found
        else:
            found = {}
    return None


async def rest(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    events = []
    while (event := await next_event(response)) is not None:
        events.append(event)
    return events


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


def requests(server: Served) -> int:
    """How often the server borrowed a database connection."""
    return int(server.pool.get_stats().get("requests_num", 0))


async def test_events_come_as_they_happen_and_end_with_the_run(server: Served, key: str) -> None:
    run_id = await start(server, key)
    async with stream(server, key, run_id) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        first = await next_event(response)
        assert first is not None
        assert (first["event"], first["data"]["kind"]) == ("accepted", "accepted")
        assert await server.drive(run_id) == "succeeded"
        events = [first, *await rest(response)]
    assert events[-1]["event"] == "succeeded"
    numbers = [int(event["id"]) for event in events]
    assert numbers == sorted(set(numbers)) == [event["data"]["id"] for event in events]
    listed = await server.ask(
        "GET", f"/v1/runs/{run_id}/events", key=key, headers={"Accept": "application/json"}
    )
    assert listed.body["events"] == [event["data"] for event in events]


async def test_a_reader_resumes_after_the_last_event_it_saw(server: Served, key: str) -> None:
    run_id = await start(server, key)
    await server.drive(run_id)
    async with stream(server, key, run_id) as response:
        events = await rest(response)
    assert len(events) > 2
    for seen, event in enumerate(events[:-1], start=1):
        async with stream(server, key, run_id, after=int(event["id"])) as response:
            assert await rest(response) == events[seen:]
    over = await server.ask(
        "GET", f"/v1/runs/{run_id}/events", key=key, headers={"Last-Event-ID": events[-1]["id"]}
    )
    assert over.status == 204, "an EventSource that gets 204 does not come back"
    wrong = await server.ask(
        "GET", f"/v1/runs/{run_id}/events", key=key, headers={"Last-Event-ID": "x"}
    )
    wrong.refused(422, "invalid-request")


async def test_many_idle_streams_hold_no_connection(server: Served, key: str) -> None:
    """Twenty readers on a pool of two connections, and the server still answers."""
    run_id = await start(server, key)
    readers = [stream(server, key, run_id) for _ in range(20)]
    opened = [await reader.__aenter__() for reader in readers]
    for response in opened:
        await next_event(response)
    for _ in range(5):
        assert (await server.ask("GET", f"/v1/runs/{run_id}", key=key)).status == 200
    await until(lambda: server.pool.get_stats()["pool_available"] == 2)
    await server.drive(run_id)
    ends = [(await rest(response))[-1]["event"] for response in opened]
    assert ends == ["succeeded"] * 20
    for reader in readers:
        await reader.__aexit__(None, None, None)


async def test_a_reader_that_leaves_leaves_nothing_behind(server: Served, key: str) -> None:
    run_id = await start(server, key)
    before = len(asyncio.all_tasks())
    async with stream(server, key, run_id) as response:
        await next_event(response)
        assert len(asyncio.all_tasks()) > before
        response.close()
    await until(lambda: len(asyncio.all_tasks()) <= before)
    asked = requests(server)
    await asyncio.sleep(2 * streaming.LONGEST_PAUSE)
    assert requests(server) == asked, "somebody still looks for events"


async def test_a_silent_stream_is_kept_alive(
    server: Served, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "KEEP_ALIVE_SECONDS", 0.1)
    run_id = await start(server, key)
    async with stream(server, key, run_id) as response:
        await next_event(response)
        comments = [await response.content.readline() for _ in range(4)]
        assert comments == [b": keep-alive\n", b"\n"] * 2


async def test_a_stopping_server_ends_streams_and_the_reader_comes_back(
    database_url: str, redis_url: str
) -> None:
    settings = make_settings(database_url, redis_url)
    async with served(settings) as first:
        key = await first.key("acme")
        run_id = await start(first, key)
        async with stream(first, key, run_id) as response:
            event = await next_event(response)
            assert event is not None
            first.server.should_exit = True
            assert await rest(response) == []
    async with (
        served(settings) as second,
        stream(second, key, run_id, after=int(event["id"])) as response,
    ):
        await second.drive(run_id)
        assert (await rest(response))[-1]["event"] == "succeeded"


async def test_a_stream_outlives_a_database_that_cuts_its_connections(
    server: Served, key: str, database_url: str
) -> None:
    run_id = await start(server, key)
    async with stream(server, key, run_id) as response:
        await next_event(response)
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
        await server.drive(run_id)
        assert (await rest(response))[-1]["event"] == "succeeded"
