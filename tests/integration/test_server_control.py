"""Cancel, pause, resume, retry and signal through every door: HTTP, Python over HTTP, commands."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from rotina import Rotina
from rotina.errors import InvalidInputError, RunNotFoundError, RunStateError
from tests.serving import Served, make_settings, served


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with served(make_settings(database_url, redis_url)) as running:
        yield running


@pytest.fixture
async def key(server: Served) -> str:
    return await server.key("acme", "front desk")


async def start(server: Served, key: str) -> UUID:
    body = {"workflow": "greet", "input": {"name": "Ana"}}
    answer = await server.ask("POST", "/v1/runs", key=key, json=body)
    assert answer.status == 202, answer.body
    return UUID(answer.body["id"])


async def test_a_run_is_cancelled_and_retried_over_http(server: Served, key: str) -> None:
    run_id = await start(server, key)
    body = {"reason": "a mistake"}
    answer = await server.ask("POST", f"/v1/runs/{run_id}/cancel", key=key, json=body)
    assert (answer.status, answer.body["state"]) == (200, "cancelled")
    again = await server.ask("POST", f"/v1/runs/{run_id}/cancel", key=key)
    again.refused(409, "run-state")
    events = (await server.ask("GET", f"/v1/runs/{run_id}/events", key=key, headers=JSON)).body
    last = events["events"][-1]
    assert (last["kind"], last["data"]) == (
        "cancelled",
        {"by": "front desk", "reason": "a mistake"},
    )
    answer = await server.ask("POST", f"/v1/runs/{run_id}/retry", key=key, json={"by": "ana"})
    assert (answer.status, answer.body["state"]) == (200, "queued")
    assert await server.drive(str(run_id)) == "succeeded"


JSON = {"Accept": "application/json"}


async def test_a_run_is_paused_and_resumed_from_python(server: Served, key: str) -> None:
    run_id = await start(server, key)
    async with Rotina(server.url, api_key=key) as rotina:
        await rotina.pause(run_id, by="ana")
        assert await server.drive(str(run_id)) == "nothing"
        await rotina.resume(run_id, by="ana")
        assert await server.drive(str(run_id)) == "succeeded"
        with pytest.raises(RunStateError, match="succeeded and cannot cancel"):
            await rotina.cancel(run_id, by="ana")
        with pytest.raises(RunStateError, match="cannot retry"):
            await rotina.retry(run_id, by="ana")
        with pytest.raises(RunNotFoundError):
            await rotina.cancel(uuid4(), by="ana")
        assert await rotina.signal("paid", "order-1", {"amount": 7}) == 0
        with pytest.raises(InvalidInputError, match="1 to 200"):
            await rotina.signal("", "order-1")


async def test_another_tenant_reaches_nothing(server: Served, key: str) -> None:
    run_id = await start(server, key)
    stranger = await server.key("other", "eve")
    for change in ("cancel", "pause", "resume", "retry"):
        answer = await server.ask("POST", f"/v1/runs/{run_id}/{change}", key=stranger)
        answer.refused(404, "run-not-found")
    assert (await server.ask("GET", f"/v1/runs/{run_id}", key=key)).body["state"] == "queued"


@pytest.mark.parametrize("body", [{"reason": 7}, {"who": "ana"}, []])
async def test_a_malformed_wish_changes_nothing(server: Served, key: str, body: object) -> None:
    run_id = await start(server, key)
    answer = await server.ask("POST", f"/v1/runs/{run_id}/cancel", key=key, json=body)
    assert answer.status == 422
    assert (await server.ask("GET", f"/v1/runs/{run_id}", key=key)).body["state"] == "queued"
