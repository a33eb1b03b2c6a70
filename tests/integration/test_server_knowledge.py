"""Search over HTTP, on the tenant's own collections only."""

from collections.abc import AsyncIterator

import pytest

from rotina.knowledge import KnowledgeBase
from rotina.knowledge.loading import load
from tests.scripted_model import ScriptedModel, status
from tests.serving import Answer, Served, make_settings, served

TEXTS = {
    "returns.txt": "You may return a product within seven days of delivery.",
    "devolução.txt": "Você pode devolver um produto até sete dias depois da entrega.",
}


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as running:
        yield running


@pytest.fixture
async def server(database_url: str, redis_url: str, model: ScriptedModel) -> AsyncIterator[Served]:
    async with served(make_settings(database_url, redis_url, model.base_url)) as running:
        knowledge: KnowledgeBase = running.app.state.client.bound("acme").knowledge
        await knowledge.create("help")
        for name, text in TEXTS.items():
            document = load(text.encode(), name=name)
            await knowledge.add("help", document, metadata={"kind": name[:3]})
        yield running


@pytest.fixture
async def key(server: Served) -> str:
    return await server.key("acme")


async def search(server: Served, key: str, name: str = "help", **body: object) -> Answer:
    return await server.ask("POST", f"/v1/collections/{name}/search", key=key, json=body)


async def test_a_search_finds_passages_in_both_languages(server: Served, key: str) -> None:
    for query, name in (("return a product", "returns.txt"), ("devolver produto", "devolução.txt")):
        answer = await search(server, key, query=query, k=1)
        [passage] = answer.body["passages"]
        assert passage["document"] == name
        assert TEXTS[name][passage["start"] : passage["end"]] == passage["text"]
    filtered = await search(server, key, query="return a product", filter={"kind": "dev"})
    assert {each["document"] for each in filtered.body["passages"]} == {"devolução.txt"}
    early = await search(server, key, query="return a product", as_of="1999-01-01T00:00:00Z")
    assert len(early.body["passages"]) == 2, "these hold whenever"
    wide = await search(server, key, query="return", k=1, section=True, diversity=0.5, access=[])
    assert [each["document"] for each in wide.body["passages"]] == ["returns.txt"]
    listed = await server.ask("GET", "/v1/collections", key=key)
    assert [each["name"] for each in listed.body["collections"]] == ["help"]


async def test_another_tenant_finds_no_collection(server: Served) -> None:
    globex = await server.key("globex")
    (await search(server, globex, query="return")).refused(404, "collection-not-found")
    assert (await server.ask("GET", "/v1/collections", key=globex)).body == {"collections": []}


async def test_what_cannot_be_searched_is_refused(server: Served, key: str) -> None:
    (await search(server, key, name="nope", query="x")).refused(404, "collection-not-found")
    (await search(server, key, query="   ")).refused(422, "knowledge")
    (await search(server, key, query="")).refused(422, "invalid-request")
    (await search(server, key, query="x", k=0)).refused(422, "invalid-request")
    (await search(server, key, query="x", diversity=2)).refused(422, "invalid-request")
    (await search(server, key, query="x", as_of="1999-01-01")).refused(422, "invalid-request")
    wrong = {"kind": {"$near": 1}}
    (await search(server, key, query="x", filter=wrong)).refused(422, "filter")


async def test_a_model_server_that_fails_is_said(
    server: Served, key: str, model: ScriptedModel
) -> None:
    model.script = status(500)
    (await search(server, key, query="return")).refused(502, "model-server")
