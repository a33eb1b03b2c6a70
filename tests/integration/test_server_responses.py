"""`/v1/responses`, driven by the unchanged `openai` client."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pydantic
import pytest
from openai.types.responses import Response, ResponseStreamEvent

from tests.scripted_model import ScriptedModel, chat, event, events, hang, status
from tests.serving import Served, make_settings, served

QUESTION = "Olá, tudo bem?"
TOOL: Any = {
    "type": "function",
    "name": "order_status",
    "description": "Where an order is",
    "parameters": {"type": "object", "properties": {"order": {"type": "string"}}},
    "strict": False,
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "order_status", "arguments": '{"order": "7"}'},
}


class Sum(pydantic.BaseModel):
    """What `parse` asks for."""

    total: int


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


async def test_a_response(client: openai.AsyncOpenAI, model: ScriptedModel) -> None:
    answer = await client.responses.create(
        model="smart",
        instructions="Seja breve.",
        input=QUESTION,
        temperature=0.5,
        max_output_tokens=50,
        store=False,
        metadata={"ticket": "7"},
    )
    assert answer.output_text == "You said: Olá, tudo bem?"
    assert (answer.status, answer.model, answer.error) == ("completed", "scripted", None)
    assert answer.metadata == {"ticket": "7"}
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    [sent] = model.requests
    assert sent.body["messages"] == [
        {"role": "system", "content": "Seja breve."},
        {"role": "user", "content": QUESTION},
    ]
    assert (sent.body["temperature"], sent.body["max_tokens"]) == (0.5, 50)
    Response.model_validate(answer.model_dump(by_alias=True))


async def test_a_conversation_with_a_tool_is_sent_whole(
    client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    model.script = chat("Vou ver.", finish_reason="tool_calls", tool_calls=[CALL])
    said: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
    ]
    answer = await client.responses.create(
        model="smart",
        input=said,
        tools=[TOOL],
        tool_choice={"type": "function", "name": "order_status"},
    )
    text, call = answer.output
    assert (text.type, call.type) == ("message", "function_call")
    assert call.type == "function_call"
    assert (call.call_id, call.name, call.arguments) == ("call_1", "order_status", '{"order": "7"}')
    said += [item.model_dump() for item in answer.output]
    said.append({"type": "function_call_output", "call_id": call.call_id, "output": "enviado"})
    model.script = chat("Foi enviado.")
    answer = await client.responses.create(model="smart", input=said, tools=[TOOL])
    assert answer.output_text == "Foi enviado."
    first, second = model.requests
    function = {key: TOOL[key] for key in ("name", "description", "parameters", "strict")}
    assert first.body["tools"] == [{"type": "function", "function": function}]
    assert first.body["tool_choice"] == {"type": "function", "function": {"name": "order_status"}}
    assert second.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "Vou ver.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "enviado"},
    ]


async def test_an_image_is_handed_on(client: openai.AsyncOpenAI, model: ScriptedModel) -> None:
    url = "data:image/png;base64,AAAA"
    parts: Any = [
        {"type": "input_text", "text": "O que é?"},
        {"type": "input_image", "image_url": url, "detail": "low"},
    ]
    await client.responses.create(model="smart", input=[{"role": "user", "content": parts}])
    assert model.requests[0].body["messages"][0]["content"] == [
        {"type": "text", "text": "O que é?"},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]


async def test_parse(client: openai.AsyncOpenAI, model: ScriptedModel) -> None:
    model.script = {"total": 3}
    answer = await client.responses.parse(model="smart", input=QUESTION, text_format=Sum)
    assert answer.output_parsed == Sum(total=3)
    schema = model.requests[0].schema
    assert schema is not None
    assert schema["required"] == ["total"]
    anything = await client.responses.create(
        model="smart", input=QUESTION, text={"format": {"type": "json_object"}}
    )
    assert json.loads(anything.output_text) == {"total": 3}
    model.script = {"total": "three"}
    with pytest.raises(openai.InternalServerError, match="does not follow the schema"):
        await client.responses.parse(model="smart", input=QUESTION, text_format=Sum)


async def test_a_stream_of_events(client: openai.AsyncOpenAI) -> None:
    async with client.responses.stream(model="smart", input=QUESTION) as stream:
        seen = [found async for found in stream]
        final = await stream.get_final_response()
    assert final.output_text == "You said: Olá, tudo bem?"
    kinds = [found.type.removeprefix("response.") for found in seen]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert kinds[4:-4] == ["output_text.delta"] * (len(kinds) - 8)
    assert len(kinds) > 10
    assert [found.sequence_number for found in seen] == list(range(len(seen)))
    assert final.usage is not None
    assert final.usage.total_tokens == 8


async def test_every_event_has_the_form_that_the_client_declares(
    client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    declared: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)
    for script in (
        chat("Vou ver.", finish_reason="tool_calls", tool_calls=[CALL]),
        chat(None, refusal="Não posso."),
        chat("Era uma", finish_reason="length"),
    ):
        model.script = script
        stream = await client.responses.create(
            model="smart", input=QUESTION, tools=[TOOL], stream=True
        )
        async for found in stream:
            declared.validate_python(found.model_dump(by_alias=True))


async def test_a_streamed_call_in_pieces(client: openai.AsyncOpenAI, model: ScriptedModel) -> None:
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
    async with client.responses.stream(model="smart", input=QUESTION, tools=[TOOL]) as stream:
        final = await stream.get_final_response()
    found: list[Any] = list(final.output)
    assert [(call.call_id, call.name, call.arguments) for call in found] == [
        ("a", "first", '{"x": 1}'),
        ("b", "second", "{}"),
    ]
    assert final.usage is None, "the model server did not say"


@pytest.mark.parametrize("streamed", [False, True])
async def test_half_a_surrogate_pair_is_replaced(
    client: openai.AsyncOpenAI, model: ScriptedModel, streamed: bool
) -> None:
    half = {**CALL, "function": {"name": "order_status", "arguments": '{"order": "\ud83d"}'}}
    model.script = chat(None, finish_reason="tool_calls", tool_calls=[half])
    answer: Any = await client.responses.create(
        model="smart", input=QUESTION, tools=[TOOL], stream=streamed
    )
    if streamed:
        answer = [found async for found in answer][-1].response
    assert answer.output[0].arguments == '{"order": "?"}'


async def test_a_streamed_answer_is_parsed(
    client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    model.script = {"total": 3}
    async with client.responses.stream(model="smart", input=QUESTION, text_format=Sum) as stream:
        assert (await stream.get_final_response()).output_parsed == Sum(total=3)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("reason", "named"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
async def test_an_answer_that_was_cut_is_incomplete(
    client: openai.AsyncOpenAI, model: ScriptedModel, streamed: bool, reason: str, named: str
) -> None:
    model.script = chat("Era uma vez", finish_reason=reason)
    answer: Any = await client.responses.create(model="smart", input=QUESTION, stream=streamed)
    if streamed:
        seen = [found async for found in answer]
        assert seen[-1].type == "response.incomplete"
        answer = seen[-1].response
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", named)
    assert answer.output_text == "Era uma vez"
    assert answer.output[0].status == "incomplete"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_refusal(client: openai.AsyncOpenAI, model: ScriptedModel, streamed: bool) -> None:
    model.script = chat(None, refusal="Não posso.")
    answer: Any = await client.responses.create(model="smart", input=QUESTION, stream=streamed)
    if streamed:
        seen = [found async for found in answer]
        assert "response.refusal.done" in {found.type for found in seen}
        answer = seen[-1].response
    assert answer.output[0].content[0].refusal == "Não posso."


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_model_server_that_fails(
    client: openai.AsyncOpenAI, model: ScriptedModel, streamed: bool
) -> None:
    model.script = status(500)
    with pytest.raises(openai.InternalServerError) as caught:
        await client.responses.create(model="smart", input=QUESTION, stream=streamed)
    assert (caught.value.status_code, caught.value.code) == (502, "model_server")


async def test_a_failure_in_the_middle_is_an_event(
    client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    piece = event({"choices": [{"index": 0, "delta": {"content": "Half "}}]})
    model.script = events(piece, drop=True)
    stream = await client.responses.create(model="smart", input=QUESTION, stream=True)
    seen = [found async for found in stream]
    last: Any = seen[-1]
    assert last.type == "response.failed"
    assert (last.response.status, last.response.error.code) == ("failed", "model_unreachable")
    assert "dropped the connection" in last.response.error.message
    kinds = {found.type for found in seen}
    assert "response.output_text.delta" in kinds
    assert "response.output_item.done" not in kinds, "nothing was finished"


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id.*whole conversation"),
        ({"background": True}, "background.*POST /v1/runs"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.*'web_search' is not supported"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"top_p": 0.5}, "top_p"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"extra_body": {"min_p": 0.1}}, "min_p: is not supported"),
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"input": []}, "input"),
        ({"input": [{"role": "king", "content": "x"}]}, "input.0.*role"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input_file",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
            "no function_call before",
        ),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
    ],
)
async def test_what_is_not_taken_is_refused_by_name(
    client: openai.AsyncOpenAI, model: ScriptedModel, parameters: dict[str, Any], named: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=named):
        await client.responses.create(**{"model": "smart", "input": QUESTION, **parameters})
    assert model.requests == []


async def test_neutral_values_are_taken(client: openai.AsyncOpenAI) -> None:
    await client.responses.create(
        model="smart",
        input=QUESTION,
        store=False,
        background=False,
        top_p=1,
        truncation="disabled",
        include=[],
        parallel_tool_calls=True,
        text={"format": {"type": "text"}, "verbosity": "medium"},
        user="u1",
    )


async def test_a_stored_response_is_not_there(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve("resp_1")


async def test_a_caller_that_gives_up_ends_the_call(
    client: openai.AsyncOpenAI, server: Served, model: ScriptedModel
) -> None:
    model.script = hang()
    asking = asyncio.create_task(client.responses.create(model="smart", input=QUESTION))
    while not model.requests:
        await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    while not model.abandoned:
        await asyncio.sleep(0.02)
    while any(state.under_way for state in server.app.state.face.gateway.deployments()):
        await asyncio.sleep(0.02)
