"""`/v1/rerank` over HTTP, through the real application."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import psycopg
import pytest

from tests.scripted_model import ScriptedModel, hang, raw, status
from tests.serving import Answer, Served, make_settings, served

ASKED: dict[str, Any] = {
    "model": "rank",
    "query": "late fee",
    "documents": ["Opening hours.", {"text": "A late fee is due."}, "A fee is due."],
}


@dataclass
class Scene:
    """The server, two rerankers behind it, and a key of the tenant acme."""

    server: Served
    model: ScriptedModel
    key: str
    database_url: str

    async def ask(self, **changes: Any) -> Answer:
        body = {**ASKED, **changes}
        return await self.server.ask("POST", "/v1/rerank", key=self.key, json=body)

    def rows(self) -> list[tuple[Any, ...]]:
        query = (
            "select tenant, kind, route, deployment, outcome, prompt_tokens "
            "from rotina.model_call order by id"
        )
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture
async def scene(database_url: str, redis_url: str) -> AsyncIterator[Scene]:
    async with ScriptedModel() as model:
        own = {"base_url": model.base_url, "capabilities": ["rerank"]}
        price = {"input": 2, "output": 0}
        settings = make_settings(
            database_url,
            redis_url,
            deployments={
                "cross": {**own, "model": "cross"},
                "spare": {**own, "model": "spare", "price": price},
                "chat": {"base_url": model.base_url, "model": "chat", "capabilities": ["tools"]},
            },
            routes={
                "rank": {"deployments": ["cross", "spare"]},
                "smart": {"deployments": ["chat"]},
            },
            budgets={"small": {"key": "poor", "tokens": 10}},
        )
        async with served(settings) as server:
            yield Scene(server, model, await server.key("acme"), database_url)


async def test_documents_are_reranked(scene: Scene) -> None:
    answer = await scene.ask()
    assert answer.status == 200
    assert answer.body.pop("id").startswith("rerank-")
    assert answer.body == {
        "object": "list",
        "model": "scripted",
        "results": [
            {"index": 1, "relevance_score": 1.0},
            {"index": 2, "relevance_score": 0.5},
            {"index": 0, "relevance_score": 0.0},
        ],
        "usage": {"prompt_tokens": 17, "total_tokens": 17},
    }
    assert scene.model.requests[0].body["documents"][1] == "A late fee is due."
    assert scene.rows() == [("acme", "rerank", "rank", "cross", "ok", 17)]


async def test_the_best_with_their_texts(scene: Scene) -> None:
    answer = await scene.ask(top_n=1, return_documents=True, user="u1", model="spare")
    best = {"index": 1, "relevance_score": 1.0, "document": {"text": "A late fee is due."}}
    assert answer.body["results"] == [best]


async def test_a_bad_reply_goes_to_the_next_and_is_told_in_headers_and_metrics(
    scene: Scene,
) -> None:
    scene.model.script = [raw(b'{"results": []}'), None]
    answer = await scene.ask()
    assert (answer.status, answer.headers["x-rotina-deployment"]) == (200, "spare")
    assert answer.headers["x-rotina-attempts"] == "2"
    assert [row[3:5] for row in scene.rows()] == [
        ("cross", "ModelOutputError"), ("spare", "ok"),
    ]  # fmt: skip
    metrics = await scene.server.ask("GET", "/metrics", key=scene.key)
    lines = metrics.body.decode().splitlines()
    assert (
        'rotina_gateway_calls_total{deployment="spare",kind="rerank",outcome="ok",route="rank"} 1.0'
        in lines
    )
    assert 'rotina_gateway_http_requests_total{path="/v1/rerank",status="200"} 1.0' in lines


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"documents": []}, "documents"),
        ({"documents": [""]}, "documents"),
        ({"documents": [{"text": "x", "title": "y"}]}, "documents"),
        ({"documents": ["x"] * 1001}, "documents"),
        ({"query": ""}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"max_tokens_per_doc": 10}, "max_tokens_per_doc"),
    ],
)
async def test_what_is_not_taken_is_refused_by_name(
    scene: Scene, changes: dict[str, Any], parameter: str
) -> None:
    answer = await scene.ask(**changes)
    assert answer.status == 400
    assert answer.body["error"]["param"].startswith(parameter)
    assert scene.model.requests == []


async def test_errors_are_in_openais_form(scene: Scene) -> None:
    answer = await scene.ask(model="gpt-9")
    assert (answer.status, answer.body["error"]["code"]) == (404, "model_not_found")
    answer = await scene.ask(model="smart")
    assert (answer.status, scene.model.requests) == (400, [])
    assert "needs rerank" in answer.body["error"]["message"]
    answer = await scene.server.ask("POST", "/v1/rerank", json=ASKED)
    assert answer.status == 401
    answer = await scene.server.ask("GET", "/v1/rerank", key=scene.key)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    poor = await scene.server.key("acme", "poor")
    answer = await scene.server.ask("POST", "/v1/rerank", key=poor, json=ASKED)
    assert (answer.status, answer.body["error"]["code"]) == (402, "budget_exceeded")
    scene.model.script = status(401)
    assert (await scene.ask()).status == 502


async def test_a_client_that_leaves_ends_the_call(scene: Scene) -> None:
    scene.model.script = hang()
    asking = asyncio.create_task(scene.ask())
    while not scene.model.requests:
        await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises((asyncio.CancelledError, aiohttp.ClientError)):
        await asking
    while not (rows := scene.rows()):
        await asyncio.sleep(0.01)
    assert rows[0][4] == "CancelledError"
    assert scene.model.abandoned == 1


async def test_the_document_of_the_interface_has_it(scene: Scene) -> None:
    found = (await scene.server.ask("GET", "/openapi.json", key=scene.key)).body
    taken = found["paths"]["/v1/rerank"]["post"]["requestBody"]["content"]["application/json"]
    assert taken["schema"]["$ref"].endswith("/RerankRequest")
    assert {"RerankRequest", "RerankList"} <= found["components"]["schemas"].keys()
