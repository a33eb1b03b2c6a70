"""Runs over HTTP: accepted once, read, listed; nothing of another tenant's is seen."""

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from uuid import uuid4

import aiohttp
import pytest

from rotina.runs import Upload
from tests.serving import Served, make_settings, served


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with served(make_settings(database_url, redis_url, max_file_bytes=2_000_000)) as running:
        yield running


@pytest.fixture
async def key(server: Served) -> str:
    return await server.key("acme")


GREETING = {"workflow": "greet", "input": {"name": "Ana", "times": 2}}


def form(workflow: str, content: bytes | BytesIO, name: str = "letter.txt") -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field("workflow", workflow)
    data.add_field("file", content, filename=name, content_type="text/plain")
    return data


async def test_a_run_is_accepted_driven_and_read(server: Served, key: str) -> None:
    accepted = await server.ask("POST", "/v1/runs", key=key, json=GREETING)
    assert accepted.status == 202
    run = accepted.body
    assert (run["state"], run["tenant"], run["workflow"]) == ("queued", "acme", "greet")
    assert accepted.headers["location"] == f"/v1/runs/{run['id']}"
    assert await server.drive(run["id"]) == "succeeded"
    ended = await server.ask("GET", accepted.headers["location"], key=key)
    assert (ended.status, ended.body["state"]) == (200, "succeeded")
    assert ended.body["result"] == {"greeting": "Olá, Ana; Olá, Ana"}


async def test_a_key_names_one_run_however_often_it_is_sent(server: Served, key: str) -> None:
    headers = {"Idempotency-Key": "invoice 7"}
    answers = await asyncio.gather(
        *(server.ask("POST", "/v1/runs", key=key, json=GREETING, headers=headers) for _ in range(8))
    )
    assert sorted(answer.status for answer in answers) == [200] * 7 + [202]
    assert len({answer.body["id"] for answer in answers}) == 1
    assert len({answer.headers["location"] for answer in answers}) == 1
    other = {"workflow": "greet", "input": {"name": "Bia"}}
    conflict = await server.ask("POST", "/v1/runs", key=key, json=other, headers=headers)
    conflict.refused(409, "idempotency-conflict")
    assert answers[0].body["id"] in conflict.body["detail"]
    globex = await server.key("globex")
    theirs = await server.ask("POST", "/v1/runs", key=globex, json=other, headers=headers)
    assert theirs.status == 202, "keys are a tenant's own"


async def test_a_file_goes_with_its_run_and_is_the_same_through_every_door(
    server: Served, key: str
) -> None:
    content = "Olá, mundo\n".encode()
    headers = {"Idempotency-Key": "letter"}
    accepted = await server.ask(
        "POST", "/v1/runs", key=key, data=form("count", content), headers=headers
    )
    assert accepted.status == 202, accepted.body
    assert await server.drive(accepted.body["id"]) == "succeeded"
    ended = await server.ask("GET", f"/v1/runs/{accepted.body['id']}", key=key)
    assert ended.body["result"] == {"size": len(content)}
    client = server.app.state.client.bound("acme")
    again = await client.start("count", {}, key="letter", upload=Upload("letter.txt", content))
    assert (str(again.id), again.created) == (accepted.body["id"], False)


async def test_a_media_type_that_says_more_than_the_name_is_kept(server: Served, key: str) -> None:
    data = form("count", b"<p>Hello</p>", name="letter")
    accepted = await server.ask("POST", "/v1/runs", key=key, data=data)
    assert accepted.body["input"]["document"]["media_type"] == "text/plain"


async def test_runs_are_listed_newest_first_in_pages(server: Served, key: str) -> None:
    started = [
        (await server.ask("POST", "/v1/runs", key=key, json=GREETING)).body["id"] for _ in range(3)
    ]
    await server.drive(started[0])
    first = (await server.ask("GET", "/v1/runs?limit=2", key=key)).body
    assert [run["id"] for run in first["runs"]] == [started[2], started[1]]
    second = (await server.ask("GET", f"/v1/runs?limit=2&before={first['next']}", key=key)).body
    assert ([run["id"] for run in second["runs"]], second["next"]) == ([started[0]], None)
    done = (await server.ask("GET", "/v1/runs?state=succeeded&workflow=greet", key=key)).body
    assert [run["id"] for run in done["runs"]] == [started[0]]
    assert (await server.ask("GET", "/v1/runs?workflow=count", key=key)).body["runs"] == []


async def test_a_failed_run_says_why(server: Served, key: str) -> None:
    body = {"workflow": "fail", "input": {"name": "Zé"}}
    run = (await server.ask("POST", "/v1/runs", key=key, json=body)).body
    assert await server.drive(run["id"]) == "failed"
    ended = (await server.ask("GET", f"/v1/runs/{run['id']}", key=key)).body
    assert (ended["state"], ended["error"]["type"]) == ("failed", "ValueError")


@pytest.mark.parametrize(
    ("body", "status", "kind", "says"),
    [
        ({"workflow": "nope", "input": {}}, 422, "unknown-workflow", "Registered: count, fail"),
        ({"workflow": "greet", "input": {}}, 422, "invalid-input", "name: Field required"),
        ({"workflow": "greet"}, 422, "invalid-input", "name: Field required"),
        ({"input": {}}, 422, "invalid-request", "workflow: Field required"),
        ({"workflow": "greet", "input": [1]}, 422, "invalid-request", "input: "),
        ({"workflow": "greet", "inputs": {}}, 422, "invalid-request", "inputs: is not supported"),
        ({"workflow": "greet", "input": {"name": "a\0b"}}, 422, "invalid-input", "NUL"),
        ([], 422, "invalid-request", "dictionary"),
    ],
)
async def test_what_cannot_be_a_run_is_refused(
    server: Served, key: str, body: object, status: int, kind: str, says: str
) -> None:
    answer = await server.ask("POST", "/v1/runs", key=key, json=body)
    answer.refused(status, kind)
    assert says in answer.body["detail"]
    assert (await server.ask("GET", "/v1/runs", key=key)).body["runs"] == []


async def test_a_file_for_a_workflow_without_one_and_a_form_without_a_file(
    server: Served, key: str
) -> None:
    unwanted = await server.ask("POST", "/v1/runs", key=key, data=form("greet", b"x"))
    unwanted.refused(422, "invalid-input")
    missing = aiohttp.FormData({"workflow": "count"}, default_to_multipart=True)
    answer = await server.ask("POST", "/v1/runs", key=key, data=missing)
    answer.refused(422, "")
    assert "file" in answer.body["detail"]
    broken = form("count", b"x")
    broken.add_field("input", "{no json")
    (await server.ask("POST", "/v1/runs", key=key, data=broken)).refused(400, "")


async def test_workflows_are_described_by_their_schemas(server: Served, key: str) -> None:
    answer = await server.ask("GET", "/v1/workflows", key=key)
    found = {workflow["name"]: workflow for workflow in answer.body["workflows"]}
    assert list(found) == ["count", "fail", "greet", "parrot", "spend"]
    assert found["greet"]["input"]["required"] == ["name"]
    assert found["greet"]["output"]["properties"]["greeting"] == {
        "title": "Greeting", "type": "string",
    }  # fmt: skip
    assert (found["count"]["file_field"], found["greet"]["file_field"]) == ("document", None)
    assert [name for name in found if found[name]["conversational"]] == ["parrot"]


async def test_another_tenant_sees_no_run_and_no_event(server: Served, key: str) -> None:
    run = (await server.ask("POST", "/v1/runs", key=key, json=GREETING)).body
    globex = await server.key("globex")
    for path in (f"/v1/runs/{run['id']}", f"/v1/runs/{run['id']}/events", f"/v1/runs/{uuid4()}"):
        (await server.ask("GET", path, key=globex)).refused(404, "run-not-found")
    as_json = {"Accept": "application/json"}
    timeline = f"/v1/runs/{run['id']}/events"
    (await server.ask("GET", timeline, key=globex, headers=as_json)).refused(404, "run-not-found")
    assert (await server.ask("GET", "/v1/runs", key=globex)).body["runs"] == []


async def test_another_tenants_file_cannot_be_read(server: Served, key: str) -> None:
    own = await server.ask("POST", "/v1/runs", key=key, data=form("count", b"secret"))
    reference = own.body["input"]["document"]
    globex = await server.key("globex")
    body = {"workflow": "count", "input": {"document": reference}}
    theirs = await server.ask("POST", "/v1/runs", key=globex, json=body)
    assert await server.drive(theirs.body["id"]) == "failed"
    ended = (await server.ask("GET", f"/v1/runs/{theirs.body['id']}", key=globex)).body
    assert ended["result"] is None
    assert "is not stored" in ended["error"]["message"]


async def test_a_broker_that_is_away_refuses_no_run(database_url: str) -> None:
    settings = make_settings(database_url, "redis://127.0.0.1:1/0")
    async with served(settings) as server:
        key = await server.key("acme")
        accepted = await server.ask("POST", "/v1/runs", key=key, json=GREETING)
        assert accepted.status == 202
        assert await server.drive(accepted.body["id"]) == "succeeded"
