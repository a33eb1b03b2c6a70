"""Threads and reviews over HTTP, in both languages and for one tenant only."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from tests.serving import Answer, Served, make_settings, served


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with served(make_settings(database_url, redis_url)) as running:
        yield running


@pytest.fixture
async def key(server: Served) -> str:
    return await server.key("acme", "front desk")


async def open_thread(server: Served, key: str) -> str:
    body = {"workflow": "parrot", "customer": "ana@example.com"}
    answer = await server.ask("POST", "/v1/threads", key=key, json=body)
    assert answer.status == 201, answer.body
    assert answer.headers["location"] == f"/v1/threads/{answer.body['id']}"
    return str(answer.body["id"])


async def say(server: Served, key: str, thread: str, text: str, name: str | None = None) -> Answer:
    headers = {"Idempotency-Key": name} if name else {}
    path = f"/v1/threads/{thread}/messages"
    return await server.ask("POST", path, key=key, json={"text": text}, headers=headers)


async def test_a_conversation(server: Served, key: str) -> None:
    thread = await open_thread(server, key)
    for text in ("Bom dia, meu pedido não chegou", "Good morning, where is it?"):
        said = await say(server, key, thread, text)
        assert (said.status, said.body["workflow"]) == (202, "parrot")
        assert said.headers["location"] == f"/v1/runs/{said.body['id']}"
        assert await server.drive(said.body["id"]) == "succeeded"
    path = f"/v1/threads/{thread}/messages"
    messages = (await server.ask("GET", path, key=key)).body["messages"]
    assert [(message["role"], message["text"]) for message in messages] == [
        ("user", "Bom dia, meu pedido não chegou"),
        ("assistant", "0: Bom dia, meu pedido não chegou"),
        ("user", "Good morning, where is it?"),
        ("assistant", "2: Good morning, where is it?"),
    ]
    later = (await server.ask("GET", f"{path}?after={messages[1]['id']}", key=key)).body
    assert later["messages"] == messages[2:]
    found = (await server.ask("GET", f"/v1/threads/{thread}", key=key)).body
    assert (found["workflow"], found["customer"]) == ("parrot", "ana@example.com")
    listed = (await server.ask("GET", "/v1/threads", key=key)).body
    assert ([each["id"] for each in listed["threads"]], listed["next"]) == ([thread], None)


async def test_a_message_sent_twice_is_one_message(server: Served, key: str) -> None:
    thread = await open_thread(server, key)
    first = await say(server, key, thread, "olá", "m1")
    again = await say(server, key, thread, "olá", "m1")
    assert (first.status, again.status) == (202, 200)
    assert first.body["id"] == again.body["id"]
    (await say(server, key, thread, "tchau", "m1")).refused(409, "idempotency-conflict")
    path = f"/v1/threads/{thread}/messages"
    assert len((await server.ask("GET", path, key=key)).body["messages"]) == 1


async def test_a_run_of_a_conversational_workflow_is_a_message_of_its_thread(
    server: Served, key: str
) -> None:
    thread = await open_thread(server, key)
    body = {"workflow": "parrot", "input": {"thread": thread, "text": "Onde está?"}}
    run = await server.ask("POST", "/v1/runs", key=key, json=body)
    assert run.status == 202
    assert await server.drive(run.body["id"]) == "succeeded"
    messages = (await server.ask("GET", f"/v1/threads/{thread}/messages", key=key)).body["messages"]
    assert [(said["role"], said["text"]) for said in messages] == [
        ("user", "Onde está?"),
        ("assistant", "0: Onde está?"),
    ]
    nowhere = {"workflow": "parrot", "input": {"thread": str(uuid4()), "text": "Onde está?"}}
    refused = await server.ask("POST", "/v1/runs", key=key, json=nowhere)
    refused.refused(404, "thread-not-found")


async def test_what_is_no_conversation_is_refused(server: Served, key: str) -> None:
    for body, kind in (
        ({"workflow": "greet"}, "invalid-input"),
        ({"workflow": "nope"}, "unknown-workflow"),
        ({}, "invalid-request"),
    ):
        (await server.ask("POST", "/v1/threads", key=key, json=body)).refused(422, kind)
    nul = {"workflow": "parrot", "customer": "a\0b"}
    (await server.ask("POST", "/v1/threads", key=key, json=nul)).refused(422, "")
    thread = await open_thread(server, key)
    (await say(server, key, thread, "")).refused(422, "invalid-input")
    (await say(server, key, str(uuid4()), "olá")).refused(404, "thread-not-found")


async def test_another_tenant_sees_no_thread_and_says_nothing_in_it(
    server: Served, key: str
) -> None:
    thread = await open_thread(server, key)
    globex = await server.key("globex")
    for path in (f"/v1/threads/{thread}", f"/v1/threads/{thread}/messages"):
        (await server.ask("GET", path, key=globex)).refused(404, "thread-not-found")
    (await say(server, globex, thread, "olá")).refused(404, "thread-not-found")
    assert (await server.ask("GET", "/v1/threads", key=globex)).body["threads"] == []
    path = f"/v1/threads/{thread}/messages"
    assert (await server.ask("GET", path, key=key)).body["messages"] == []


async def waiting_review(server: Served, key: str) -> dict[str, Any]:
    body = {"workflow": "spend", "input": {"amount": 1200}}
    run = (await server.ask("POST", "/v1/runs", key=key, json=body)).body
    assert await server.drive(run["id"]) == "waiting"
    listed = await server.ask("GET", f"/v1/reviews?run={run['id']}", key=key)
    [review] = listed.body["reviews"]
    assert isinstance(review, dict)
    return review


async def test_a_review_is_answered_once_and_its_run_goes_on(server: Served, key: str) -> None:
    review = await waiting_review(server, key)
    assert (review["question"], review["data"]) == ("Pay it?", {"amount": 1200})
    assert review["form"]["required"] == ["approve"]
    mine = await server.ask("GET", "/v1/reviews?assignee=finance", key=key)
    assert mine.body["reviews"] == [review]
    assert (await server.ask("GET", "/v1/reviews?assignee=legal", key=key)).body["reviews"] == []
    path = f"/v1/reviews/{review['id']}"
    for value in ({}, {"approve": "perhaps"}):
        wrong = await server.ask("POST", f"{path}/answer", key=key, json={"value": value})
        wrong.refused(422, "invalid-input")
    answer = {"value": {"approve": True}, "by": "Ana"}
    answered = await server.ask("POST", f"{path}/answer", key=key, json=answer)
    assert (answered.status, answered.body["answered_by"]) == (200, "Ana")
    assert await server.drive(review["run_id"]) == "succeeded"
    run = (await server.ask("GET", f"/v1/runs/{review['run_id']}", key=key)).body
    assert run["result"] == {"approved": True}
    late = {"value": {"approve": False}, "by": "Bia"}
    second = await server.ask("POST", f"{path}/answer", key=key, json=late)
    second.refused(409, "review-answered")
    assert "'Ana'" in second.body["detail"]
    kept = (await server.ask("GET", path, key=key)).body
    assert (kept["state"], kept["answer"]) == ("answered", {"approve": True})


async def test_an_answer_without_a_name_is_the_keys(server: Served, key: str) -> None:
    review = await waiting_review(server, key)
    path = f"/v1/reviews/{review['id']}/answer"
    answered = await server.ask("POST", path, key=key, json={"value": {"approve": False}})
    assert answered.body["answered_by"] == "front desk"


async def test_another_tenant_sees_no_review_and_answers_none(server: Served, key: str) -> None:
    review = await waiting_review(server, key)
    globex = await server.key("globex")
    path = f"/v1/reviews/{review['id']}"
    assert (await server.ask("GET", "/v1/reviews", key=globex)).body["reviews"] == []
    (await server.ask("GET", path, key=globex)).refused(404, "review-not-found")
    theirs = {"value": {"approve": True}}
    answered = await server.ask("POST", f"{path}/answer", key=globex, json=theirs)
    answered.refused(404, "review-not-found")
    assert (await server.ask("GET", path, key=key)).body["state"] == "open"
