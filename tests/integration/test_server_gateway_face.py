"""What surrounds the gateway's answers over HTTP: headers, budgets, limits, metrics, clients that
leave."""

import asyncio
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import openai
import psycopg
import pytest
from openai.types.chat import ChatCompletionMessageParam
from prometheus_client.parser import text_string_to_metric_families

from rotina.server.gateway.app import GatewayApp
from rotina.server.listening import listen
from rotina.server.serving import Server
from rotina.settings import Settings
from tests.scripted_model import ScriptedModel, chat, event, events, hang, status
from tests.serving import make_settings

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Olá, tudo bem?"}]
HEADERS = {
    "x-request-id",
    "x-rotina-route",
    "x-rotina-deployment",
    "x-rotina-call-id",
    "x-rotina-attempts",
    "x-rotina-cached",
    "x-rotina-overhead-ms",
}


class Scene:
    """`rotina gateway serve` in this process, and a client with a key of tenant acme."""

    def __init__(self, app: GatewayApp, url: str, key: str) -> None:
        self.app, self.url, self.key = app, url, key
        self.client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key)

    async def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """What `/metrics` says, as the reference parser reads it."""
        text = await self.client.get("../metrics", cast_to=str)
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def until_idle(self) -> None:
        """Until every call has given its slot back."""
        while any(state.under_way for state in self.app.face.gateway.deployments()):
            await asyncio.sleep(0.01)


def settings_of(database_url: str, url: str, **more: Any) -> Settings:
    price = {"input": 2, "output": 4}
    deployments = {
        "first": {"model": "scripted", "base_url": url, "price": price},
        "second": {"model": "scripted-2", "base_url": url, "price": price},
        "embed": {"model": "scripted-embed", "base_url": url},
        "cross": {"model": "scripted-cross", "base_url": url, "capabilities": ["rerank"]},
    }
    routes = {
        "smart": {"deployments": ["first"]},
        "fast": {"deployments": ["first", "second"]},
        "kept": {"deployments": ["first"], "cache_seconds": 60},
        "embed": {"deployments": ["embed"]},
        "rank": {"deployments": ["cross"]},
    }
    return make_settings(
        database_url, "redis://127.0.0.1:1/0", deployments=deployments, routes=routes, **more
    )


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as running:
        yield running


@pytest.fixture
def more() -> dict[str, Any]:
    """Further settings of a test."""
    return {}


@pytest.fixture
async def scene(
    database_url: str, model: ScriptedModel, more: dict[str, Any]
) -> AsyncIterator[Scene]:
    settings = settings_of(database_url, model.base_url, **more)
    with listen("127.0.0.1", 0) as listener:
        async with GatewayApp.open(settings) as app:
            server = Server(app, access_log=False)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            await server.listening.wait()
            made = await app.face.keys.create("test", "acme")
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            scene = Scene(app, url, made.token.get_secret_value())
            async with scene.client:
                yield scene
            server.should_exit = True
            await serving


async def test_an_answer_says_who_gave_it_and_what_it_cost(scene: Scene, database_url: str) -> None:
    raw = await scene.client.chat.completions.with_raw_response.create(
        model="smart", messages=QUESTION, extra_headers={"x-request-id": "pedido-7"}
    )
    assert set(raw.headers) >= HEADERS
    assert raw.headers["x-request-id"] == "pedido-7"
    assert (raw.headers["x-rotina-route"], raw.headers["x-rotina-deployment"]) == (
        *("smart", "first"),
    )
    assert (raw.headers["x-rotina-attempts"], raw.headers["x-rotina-cached"]) == ("1", "false")
    # 3 tokens in at $2 and 5 out at $4 a million.
    assert Decimal(raw.headers["x-rotina-cost-usd"]) == Decimal("0.000026")
    assert 0 < float(raw.headers["x-rotina-overhead-ms"]) < 60_000
    with psycopg.connect(database_url) as connection:
        [row] = connection.execute("select id::text, tenant from rotina.model_call").fetchall()
    assert row == (raw.headers["x-rotina-call-id"], "acme")


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, 'a"b'])
async def test_a_request_id_that_is_none_is_replaced(scene: Scene, given: str | None) -> None:
    raw = await scene.client.models.with_raw_response.list(
        extra_headers={} if given is None else {"x-request-id": given}
    )
    assert re.fullmatch(r"[0-9a-f]{32}", raw.headers["x-request-id"])


async def test_the_wait_for_the_model_is_no_overhead(scene: Scene, model: ScriptedModel) -> None:
    piece = event({"choices": [{"index": 0, "delta": {"content": "x"}}]})
    last = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    await scene.client.chat.completions.create(model="smart", messages=QUESTION)
    model.script = events(*[piece] * 30, last, "data: [DONE]\n\n", gap=0.1)
    response = await scene.client.chat.completions.with_raw_response.create(
        model="smart", messages=QUESTION, stream=True
    )
    async for _ in response.parse():
        pass
    found = await scene.metrics()
    total = found["rotina_gateway_overhead_seconds_sum", _path("/v1/chat/completions")]
    calls = sum(v for (name, _), v in found.items() if name == "rotina_gateway_call_seconds_sum")
    assert calls > 3.0
    assert total < calls / 2


def _path(path: str) -> frozenset[tuple[str, str]]:
    return frozenset({("path", path)})


async def test_a_stream_tells_its_deployment_first_and_its_cost_last(
    scene: Scene, model: ScriptedModel
) -> None:
    asked: dict[str, dict[str, Any]] = {
        "/chat/completions": {"messages": QUESTION},
        "/responses": {"input": "Olá"},
    }
    for path, body in asked.items():
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {scene.key}"}) as session,
            session.post(
                f"{scene.url}/v1{path}", json={"model": "smart", "stream": True, **body}
            ) as response,
        ):
            assert {name.lower() for name in response.headers} >= HEADERS
            assert "x-rotina-cost-usd" not in response.headers
            assert response.headers["x-rotina-deployment"] == "first"
            text = (await response.read()).decode()
        comments = dict(re.findall(r"^: (x-rotina-[\w-]+): (\S+)$", text, re.MULTILINE))
        assert set(comments) == {"x-rotina-cost-usd", "x-rotina-overhead-ms"}
        assert Decimal(comments["x-rotina-cost-usd"]) > 0


async def test_the_next_deployment_answers_and_the_headers_count_both(
    scene: Scene, model: ScriptedModel
) -> None:
    model.script = lambda request: (
        status(500) if request.body["model"] == "scripted" else chat("Oi.")
    )
    raw = await scene.client.chat.completions.with_raw_response.create(
        model="fast", messages=QUESTION
    )
    assert raw.headers["x-rotina-deployment"] == "second"
    assert raw.headers["x-rotina-attempts"] == "2"
    assert "x-rotina-cost-usd" not in raw.headers, "the first one's tokens are unknown"


async def test_an_answer_out_of_the_cache_says_so(scene: Scene, model: ScriptedModel) -> None:
    found = [
        await scene.client.chat.completions.with_raw_response.create(
            model="kept", messages=QUESTION, temperature=0
        )
        for _ in range(2)
    ]
    assert [raw.headers["x-rotina-cached"] for raw in found] == ["false", "true"]
    assert (found[1].headers["x-rotina-cost-usd"], found[1].headers["x-rotina-attempts"]) == (
        *("0", "0"),
    )
    assert found[1].headers["x-rotina-deployment"] == "first"
    assert len(model.requests) == 1


@pytest.mark.parametrize("more", [{"budgets": {"acme": {"tenant": "acme", "usd": "0.0005"}}}])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_budget_refuses_with_402(
    scene: Scene, model: ScriptedModel, streamed: bool
) -> None:
    with pytest.raises(openai.APIStatusError, match=r"Budget 'acme'.*too little left") as caught:
        await scene.client.chat.completions.create(
            model="smart", messages=QUESTION, max_tokens=1000, stream=streamed
        )
    error = caught.value
    assert (error.status_code, error.type, error.code) == (
        *(402, "insufficient_quota", "budget_exceeded"),
    )
    assert error.response.headers["x-should-retry"] == "false"
    assert model.requests == []
    with pytest.raises(openai.APIStatusError) as caught:
        await scene.client.responses.create(model="smart", input="x", max_output_tokens=1000)
    assert caught.value.status_code == 402
    raw = await scene.client.chat.completions.with_raw_response.create(
        model="smart", messages=QUESTION, max_tokens=5
    )
    assert raw.status_code == 200, "what fits the budget is asked"


async def test_a_rate_limit_tells_how_long_to_wait(scene: Scene, model: ScriptedModel) -> None:
    model.script = status(429, retry_after="400")
    client = scene.client.with_options(timeout=60)
    task = asyncio.create_task(client.chat.completions.create(model="smart", messages=QUESTION))
    with pytest.raises(openai.RateLimitError) as caught:
        await task
    assert caught.value.response.headers["retry-after"] == "400"
    assert caught.value.response.headers["x-rotina-deployment"] == "first"


async def test_metrics(scene: Scene, model: ScriptedModel) -> None:
    await scene.client.chat.completions.create(model="smart", messages=QUESTION)
    stream = await scene.client.chat.completions.create(
        model="smart", messages=QUESTION, stream=True
    )
    async for _ in stream:
        pass
    await scene.client.embeddings.create(model="embed", input="nota fiscal")
    model.script = status(401)
    with pytest.raises(openai.InternalServerError):
        await scene.client.chat.completions.create(model="smart", messages=QUESTION)
    found = await scene.metrics()

    def value(name: str, **labels: str) -> float:
        return found[f"rotina_gateway_{name}", frozenset(labels.items())]

    lane = {"route": "smart", "deployment": "first"}
    assert value("calls_total", **lane, kind="chat", outcome="ok") == 2
    assert value("calls_total", **lane, kind="chat", outcome="ModelAuthError") == 1
    embedded = {"route": "embed", "deployment": "embed"}
    assert value("calls_total", **embedded, kind="embedding", outcome="ok") == 1
    assert value("tokens_total", **lane, direction="in") == 6
    assert value("tokens_total", **lane, direction="out") == 10
    assert value("cost_usd_total", **lane) == pytest.approx(0.000052)
    assert value("attempts_total", **lane) == 3
    assert value("call_seconds_count", **lane, kind="chat") == 3
    assert value("first_piece_seconds_count", **lane) == 1
    assert value("overhead_seconds_count", path="/v1/chat/completions") == 3
    assert value("http_requests_total", path="/v1/chat/completions", status="502") == 1
    assert value("calls_under_way", deployment="first") == 0
    assert value("circuit_open", deployment="first") == 1
    assert value("circuit_open", deployment="embed") == 0
    assert value("ledger_failures_total") == 0


async def test_metrics_tell_calls_under_way_and_rows_that_were_lost(
    scene: Scene, model: ScriptedModel, database_url: str
) -> None:
    model.script = hang()
    asking = asyncio.create_task(
        scene.client.chat.completions.create(model="smart", messages=QUESTION)
    )
    while not model.requests:
        await asyncio.sleep(0.01)
    busy = "rotina_gateway_calls_under_way", frozenset({("deployment", "first")})
    assert (await scene.metrics())[busy] == 1
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await scene.until_idle()
    assert (await scene.metrics())[busy] == 0
    with psycopg.connect(database_url) as connection:
        connection.execute("alter table rotina.model_call rename to elsewhere")
    model.script = chat("Oi.")
    await scene.client.chat.completions.create(model="smart", messages=QUESTION)
    while (await scene.metrics())["rotina_gateway_ledger_failures_total", frozenset()] < 1:
        await asyncio.sleep(0.05)


async def test_paths_of_the_gateway_alone(scene: Scene) -> None:
    client = scene.client
    assert await client.get("../health", cast_to=object) == {"status": "ok"}
    assert await client.get("../ready", cast_to=object) == {"status": "ok", "database": "ok"}
    with pytest.raises(openai.NotFoundError, match="rotina gateway serve"):
        await client.get("/runs", cast_to=object)
    with pytest.raises(openai.APIStatusError) as caught:
        await client.get("/chat/completions", cast_to=object)
    assert (caught.value.status_code, caught.value.response.headers["allow"]) == (405, "POST")
    for path in ("/models", "../metrics", "/responses"):
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="rtn_a_b").get(path, cast_to=object)


async def test_reranking(scene: Scene) -> None:
    asked = {"model": "rank", "query": "late fee", "documents": ["A fee.", "A late fee"]}
    answer: Any = await scene.client.post("/rerank", body=asked, cast_to=object)
    assert [each["index"] for each in answer["results"]] == [1, 0]


@pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2], [3]]])
async def test_tokens_are_no_texts(scene: Scene, given: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="token arrays are not supported"):
        await scene.client.embeddings.create(model="embed", input=given)


async def test_dimensions_are_the_models(scene: Scene) -> None:
    with pytest.raises(openai.BadRequestError, match="dimensions: is not supported") as caught:
        await scene.client.embeddings.create(model="embed", input="x", dimensions=8)
    assert caught.value.param == "dimensions"


def test_the_synchronous_client_works_too(database_url: str) -> None:
    """As most programs use it: blocking, in a thread of its own."""

    def ask(url: str, key: str) -> list[str]:
        with openai.OpenAI(base_url=f"{url}/v1", api_key=key) as client:
            whole = client.chat.completions.create(model="smart", messages=QUESTION)
            pieces = client.chat.completions.create(model="smart", messages=QUESTION, stream=True)
            streamed = [chunk.choices[0].delta.content or "" for chunk in pieces if chunk.choices]
            response = client.responses.create(model="smart", input="Olá")
            with client.responses.stream(model="smart", input="Olá") as stream:
                final = stream.get_final_response()
            vectors = client.embeddings.create(model="embed", input=["um", "dois"]).data
            return [
                whole.choices[0].message.content or "",
                "".join(streamed),
                response.output_text,
                final.output_text,
                str(len(vectors)),
                str(sorted(model.id for model in client.models.list())),
            ]

    async def run() -> list[str]:
        async with ScriptedModel() as model:
            settings = settings_of(database_url, model.base_url)
            with listen("127.0.0.1", 0) as listener:
                async with GatewayApp.open(settings) as app:
                    server = Server(app, access_log=False)
                    serving = asyncio.create_task(server.serve(sockets=[listener]))
                    made = await app.face.keys.create("test", "acme")
                    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                    found = await asyncio.to_thread(ask, url, made.token.get_secret_value())
                    server.should_exit = True
                    await serving
                    return found

    *texts, vectors, models = asyncio.run(run())
    assert texts == [*["You said: Olá, tudo bem?"] * 2, *["You said: Olá"] * 2]
    assert vectors == "2"
    assert "'smart'" in models
