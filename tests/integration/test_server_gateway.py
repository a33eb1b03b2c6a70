"""The gateway over HTTP, driven by the unchanged `openai` client."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import psycopg
import pytest
from openai.types.chat import ChatCompletionMessageParam
from psycopg.rows import dict_row

from tests.scripted_model import ScriptedModel, chat, event, events, hang, status, vector
from tests.serving import Served, make_settings, served

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Olá, tudo bem?"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "order_status",
        "parameters": {"type": "object", "properties": {"order": {"type": "string"}}},
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"total": {"type": "integer"}},
    "required": ["total"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA}}


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as running:
        yield running


@pytest.fixture
async def server(database_url: str, redis_url: str, model: ScriptedModel) -> AsyncIterator[Served]:
    async with served(make_settings(database_url, redis_url, model.base_url)) as running:
        yield running


@pytest.fixture
async def client(server: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    key = await server.key("acme")
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key) as opened:
        yield opened


def ledger(database_url: str) -> list[dict[str, Any]]:
    query = "select tenant, run_id, route, kind, outcome, prompt_tokens from rotina.model_call"
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        return connection.execute(query).fetchall()


async def test_a_chat_completion(
    client: openai.AsyncOpenAI, model: ScriptedModel, database_url: str
) -> None:
    answer = await client.chat.completions.create(
        model="smart", messages=QUESTION, temperature=0.5, max_tokens=50, stop="END", user="u1"
    )
    assert answer.choices[0].message.content == "You said: Olá, tudo bem?"
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", "scripted")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (3, 8)
    [sent] = model.requests
    assert (sent.body["temperature"], sent.body["max_tokens"]) == (0.5, 50)
    assert (sent.body["stop"], sent.body["model"]) == (["END"], "scripted")
    [row] = ledger(database_url)
    assert (row["tenant"], row["run_id"], row["route"], row["outcome"], row["prompt_tokens"]) == (
        *("acme", None, "smart", "ok", 3),
    )


async def test_a_models_own_name_is_a_route(client: openai.AsyncOpenAI, database_url: str) -> None:
    await client.chat.completions.create(model="scripted", messages=QUESTION)
    assert ledger(database_url)[0]["route"] == "scripted"


async def test_a_parameter_that_is_left_out_is_the_servers_business(
    client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    await client.chat.completions.create(model="smart", messages=QUESTION)
    assert {"temperature", "max_tokens", "stop"}.isdisjoint(model.requests[0].body)


async def test_a_stream_comes_in_pieces_and_ends(
    client: openai.AsyncOpenAI, database_url: str
) -> None:
    stream = await client.chat.completions.create(
        model="smart", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == "You said: Olá, tudo bem?"
    assert len([text for text in texts if text]) > 2
    assert chunks[0].choices[0].delta.role == "assistant"
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons == [None] * (len(reasons) - 1) + ["stop"]
    assert chunks[-1].usage is not None
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 8)
    assert len({chunk.id for chunk in chunks}) == 1
    assert [row["outcome"] for row in ledger(database_url)] == ["ok"]


async def test_a_raw_stream_ends_in_done(server: Served) -> None:
    key = await server.key("acme")
    body = {"model": "smart", "messages": QUESTION, "stream": True}
    answer = await server.ask("POST", "/v1/chat/completions", key=key, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert b"usage" not in answer.body, "nobody asked for it"


async def test_json_that_follows_a_schema(client: openai.AsyncOpenAI, model: ScriptedModel) -> None:
    model.script = {"total": 3}
    answer = await client.chat.completions.create(
        model="fast", messages=QUESTION, response_format=FORMAT
    )
    assert json.loads(answer.choices[0].message.content or "") == {"total": 3}
    assert model.requests[0].schema == SCHEMA
    parsed = await client.chat.completions.create(
        model="fast", messages=QUESTION, response_format={"type": "json_object"}
    )
    assert json.loads(parsed.choices[0].message.content or "") == {"total": 3}


@pytest.mark.parametrize("streamed", [False, True])
async def test_json_against_the_schema_is_no_answer(
    client: openai.AsyncOpenAI, model: ScriptedModel, streamed: bool
) -> None:
    model.script = {"total": "three"}
    reasons: list[str | None] = []

    async def ask() -> None:
        answer: Any = await client.chat.completions.create(
            model="fast", messages=QUESTION, response_format=FORMAT, stream=streamed
        )
        async for chunk in answer:
            reasons.append(chunk.choices[0].finish_reason)  # noqa: PERF401 - kept on an error

    with pytest.raises(openai.APIError, match="does not follow the schema") as caught:
        await ask()
    assert set(reasons) == ({None} if streamed else set()), "never proven to be finished"
    if not streamed:
        assert isinstance(caught.value, openai.InternalServerError)
        assert caught.value.status_code == 502
    repaired = 1 if streamed else 2
    assert len(model.requests) == repaired, "the client does not ask again: the gateway has tried"


@pytest.mark.parametrize("streamed", [False, True])
async def test_tools_are_passed_through(
    client: openai.AsyncOpenAI, model: ScriptedModel, streamed: bool
) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "order_status", "arguments": '{"order": "7"}'},
    }
    model.script = chat(None, finish_reason="tool_calls", tool_calls=[call])
    answer: Any = await client.chat.completions.create(
        model="smart", messages=QUESTION, tools=[TOOL], tool_choice="auto", stream=streamed
    )
    if streamed:
        deltas = [chunk.choices[0] async for chunk in answer]
        [made] = [tool for each in deltas for tool in each.delta.tool_calls or []]
        assert deltas[-1].finish_reason == "tool_calls"
    else:
        [made] = answer.choices[0].message.tool_calls
        assert answer.choices[0].finish_reason == "tool_calls"
    assert (made.id, made.function.name) == ("call_1", "order_status")
    assert json.loads(made.function.arguments) == {"order": "7"}
    assert model.requests[0].body["tools"] == [TOOL]
    model.script = chat("It is on its way.")
    result: list[Any] = [
        *QUESTION,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sent"},
    ]
    await client.chat.completions.create(model="smart", messages=result, tools=[TOOL])
    assert model.requests[1].body["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sent"},
    ]


async def test_a_tool_call_in_many_pieces_is_put_together(
    client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    def piece(index: int, **parts: Any) -> str:
        delta = {"tool_calls": [{"index": index, **parts}]}
        return event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    model.script = events(
        piece(0, id="a", type="function", function={"name": "first", "arguments": ""}),
        piece(0, function={"arguments": '{"x"'}),
        piece(0, function={"arguments": ": 1}"}),
        piece(1, id="b", type="function", function={"name": "second", "arguments": "{}"}),
        event({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
        "data: [DONE]\n\n",
    )
    async with client.chat.completions.stream(
        model="smart", messages=QUESTION, tools=[TOOL], stream_options={"include_usage": True}
    ) as stream:
        answer = await stream.get_final_completion()
    calls: Any = answer.choices[0].message.tool_calls
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("a", "first", '{"x": 1}'),
        ("b", "second", "{}"),
    ]
    assert answer.usage is None, "the model server did not say"


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_cut_at_its_limit_says_length(
    client: openai.AsyncOpenAI, model: ScriptedModel, database_url: str, streamed: bool
) -> None:
    model.script = chat("Once upon a", finish_reason="length")
    answer: Any = await client.chat.completions.create(
        model="smart", messages=QUESTION, max_completion_tokens=3, stream=streamed
    )
    if streamed:
        choices = [chunk.choices[0] async for chunk in answer]
        assert "".join(each.delta.content or "" for each in choices) == "Once upon a"
        assert choices[-1].finish_reason == "length"
    else:
        assert answer.choices[0].message.content == "Once upon a"
        assert answer.choices[0].finish_reason == "length"
    assert [row["outcome"] for row in ledger(database_url)] == ["ModelTruncatedError"]


async def test_a_refusal_is_handed_on(client: openai.AsyncOpenAI, model: ScriptedModel) -> None:
    model.script = chat(None, refusal="I won't.")
    answer = await client.chat.completions.create(model="smart", messages=QUESTION)
    assert answer.choices[0].message.refusal == "I won't."


async def test_an_unknown_model(client: openai.AsyncOpenAI, model: ScriptedModel) -> None:
    with pytest.raises(openai.NotFoundError, match="Known: embed, fast, scripted") as caught:
        await client.chat.completions.create(model="gpt-9", messages=QUESTION)
    assert (caught.value.code, caught.value.type) == ("model_not_found", "invalid_request_error")
    with pytest.raises(openai.NotFoundError):
        await client.embeddings.create(model="gpt-9", input="x")
    assert model.requests == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_model_server_that_fails(
    client: openai.AsyncOpenAI, model: ScriptedModel, database_url: str, streamed: bool
) -> None:
    model.script = status(500)
    with pytest.raises(openai.InternalServerError, match=r"failed \(500\)") as caught:
        await client.chat.completions.create(model="smart", messages=QUESTION, stream=streamed)
    assert (caught.value.status_code, caught.value.type) == (502, "api_error")
    assert caught.value.code == "model_server"
    assert len(model.requests) == 3, "the gateway's tries, and none of the client's on top"
    assert [row["outcome"] for row in ledger(database_url)] == ["ModelServerError"]


async def test_a_model_server_that_fails_in_the_middle_of_a_stream(
    client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    piece = event({"choices": [{"index": 0, "delta": {"content": "Half "}}]})
    model.script = events(piece, drop=True)
    stream = await client.chat.completions.create(model="smart", messages=QUESTION, stream=True)
    texts: list[str | None] = []

    async def read() -> None:
        async for chunk in stream:
            texts.append(chunk.choices[0].delta.content)  # noqa: PERF401 - kept on an error

    with pytest.raises(openai.APIError, match="dropped the connection"):
        await read()
    assert "Half " in texts


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_prompt_that_is_too_long(
    client: openai.AsyncOpenAI, model: ScriptedModel, streamed: bool
) -> None:
    code = "context_length_exceeded"
    model.script = status(400, {"error": {"message": "too many tokens", "code": code}})
    with pytest.raises(openai.BadRequestError, match="Send less text") as caught:
        await client.chat.completions.create(model="smart", messages=QUESTION, stream=streamed)
    assert caught.value.code == code


async def test_a_rate_limit_and_bad_credentials_upstream(
    client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    model.script = status(429)
    with pytest.raises(openai.RateLimitError) as limited:
        await client.chat.completions.create(model="smart", messages=QUESTION)
    assert limited.value.code == "rate_limit_exceeded"
    model.script = status(401)
    with pytest.raises(openai.InternalServerError) as refused:
        await client.chat.completions.create(model="smart", messages=QUESTION)
    assert refused.value.status_code == 502, "the caller's own key is good"


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"n": 2}, "n=2"),
        ({"logprobs": True}, "logprobs"),
        ({"top_p": 0.5}, "top_p"),
        ({"extra_body": {"min_p": 0.1}}, "min_p"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "role"),
        ({"response_format": {"type": "xml"}}, "response_format"),
    ],
)
async def test_what_the_gateway_does_not_take_is_refused_by_name(
    client: openai.AsyncOpenAI, model: ScriptedModel, parameters: dict[str, Any], named: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=named):
        await client.chat.completions.create(
            **{"model": "smart", "messages": QUESTION, **parameters}
        )
    assert model.requests == []


async def test_a_schema_that_is_none(client: openai.AsyncOpenAI) -> None:
    wrong: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "x"}}}
    with pytest.raises(openai.BadRequestError, match="Not a valid JSON Schema"):
        await client.chat.completions.create(
            model="smart", messages=QUESTION, response_format=wrong
        )


async def test_neutral_values_are_taken(client: openai.AsyncOpenAI) -> None:
    await client.chat.completions.create(
        model="smart",
        messages=QUESTION,
        n=1,
        top_p=1,
        presence_penalty=0,
        logprobs=False,
        seed=7,
        response_format={"type": "text"},
    )


@pytest.mark.parametrize("encoding", ["float", "base64", None])
async def test_embeddings(client: openai.AsyncOpenAI, database_url: str, encoding: Any) -> None:
    wanted = {} if encoding is None else {"encoding_format": encoding}
    texts = ["nota fiscal", "invoice"]
    answer = await client.embeddings.create(model="embed", input=texts, **wanted)
    for data, text in zip(answer.data, texts, strict=True):
        found: Any = data.embedding
        if encoding == "base64":
            assert isinstance(found, str), "what was asked for explicitly is not decoded"
        else:
            assert found == pytest.approx(vector(text), abs=1e-6)
    assert [data.index for data in answer.data] == [0, 1]
    assert answer.usage.prompt_tokens == 3
    [row] = ledger(database_url)
    assert (row["tenant"], row["kind"], row["route"]) == ("acme", "embedding", "embed")
    one = await client.embeddings.create(model="scripted-embed", input="um texto")
    assert one.data[0].embedding == pytest.approx(vector("um texto"), abs=1e-6)


@pytest.mark.parametrize("given", [[], "", [[1, 2, 3]], [""]])
async def test_embeddings_are_of_texts(client: openai.AsyncOpenAI, given: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="input"):
        await client.embeddings.create(model="embed", input=given)


async def test_models_are_routes_and_the_models_behind_them(client: openai.AsyncOpenAI) -> None:
    found = {model.id: model.owned_by async for model in client.models.list()}
    assert found == {
        "embed": "route",
        "fast": "route",
        "smart": "route",
        "scripted": "deployment",
        "scripted-embed": "deployment",
    }
    assert (await client.models.retrieve("smart")).id == "smart"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-9")


async def test_a_wrong_key_in_openais_form(server: Served) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="sk-x") as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.models.list()
        assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_caller_that_gives_up_ends_the_call(
    server: Served, model: ScriptedModel, database_url: str, streamed: bool
) -> None:
    """Waiting for the first piece of a stream, and in the middle of one."""
    key = await server.key("acme")
    piece = event({"choices": [{"index": 0, "delta": {"content": "x"}}]})
    model.script = events(*[piece] * 1000, gap=0.05) if streamed else hang()
    body = {"model": "smart", "messages": QUESTION, "stream": True}
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{server.url}/v1/chat/completions"

    async def ask() -> None:
        async with server.session.post(url, json=body, headers=headers) as response:
            await response.content.readany()
            response.close()

    asking = asyncio.create_task(ask())
    while not model.requests:
        await asyncio.sleep(0.01)
    if not streamed:
        asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    while not model.abandoned or not ledger(database_url):
        await asyncio.sleep(0.02)
    assert ledger(database_url)[0]["outcome"] == "CancelledError"


def test_the_synchronous_client_works_too(database_url: str, redis_url: str) -> None:
    """As most programs use it: blocking, in a thread of its own."""

    async def run() -> str | None:
        async with (
            ScriptedModel("Bom dia!") as model,
            served(make_settings(database_url, redis_url, model.base_url)) as server,
        ):
            key = await server.key("acme")

            def ask() -> str | None:
                with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key) as client:
                    answer = client.chat.completions.create(model="fast", messages=QUESTION)
                    return answer.choices[0].message.content

            return await asyncio.to_thread(ask)

    assert asyncio.run(run()) == "Bom dia!"
