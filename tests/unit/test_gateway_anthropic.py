"""Anthropic's protocol, spoken by its LangChain integration to a scripted server."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from rotina.errors import (
    ContextTooLongError,
    ModelAuthError,
    ModelError,
    ModelOutputError,
    ModelRateLimitedError,
    ModelRequestError,
    ModelServerError,
    ModelTimeoutError,
    ModelTruncatedError,
    ModelUnreachableError,
    SettingsError,
)
from rotina.gateway import Gateway, MemoryLedger, RetryPolicy
from rotina.settings import Deployment, Price, Route, Settings
from tests.scripted_model import (
    Answer,
    Behaviour,
    ScriptedModel,
    echo_authorization,
    events,
    hang,
    raw,
    status,
    unused_port,
)

KEY = "sk-ant-scripted-0123456789"
FAST = RetryPolicy(attempts=3, base=0.001, cap=0.002)
ASK: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How much?"}]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def reply(*content: dict[str, Any], stop_reason: str = "end_turn") -> Behaviour:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-scripted",
        "content": list(content),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 3, "cache_read_input_tokens": 5},
    }
    return raw(json.dumps(body).encode())


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def problem(kind: str, message: str = "no") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def settings_for(root: str, key: str | None = KEY) -> Settings:
    deployment = Deployment(
        provider="anthropic",
        model="claude-scripted",
        base_url=SecretStr(root),
        api_key=SecretStr(key) if key else None,
        price=Price(input=3, output=15),
    )
    routes = {name: Route(deployments=["claude"]) for name in ("smart", "embed")}
    return Settings(deployments={"claude": deployment}, routes=routes)


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as server:
        yield server


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
async def gateway(model: ScriptedModel, ledger: MemoryLedger) -> AsyncIterator[Gateway]:
    settings = settings_for(model.base_url.removesuffix("/v1"))
    async with Gateway(settings, ledger, retry=FAST) as opened:
        yield opened


async def test_an_answer(model: ScriptedModel, gateway: Gateway, ledger: MemoryLedger) -> None:
    model.script = reply(text("42"))
    answer = await gateway.chat(ASK, max_tokens=7, stop=["\n"])
    assert (answer.text, answer.finish_reason, answer.model) == ("42", "stop", "claude-scripted")
    assert (answer.usage.prompt_tokens, answer.usage.cached_tokens) == (15, 5)
    assert str(answer.cost_usd) == "0.000090000"
    (request,) = model.requests
    assert request.path == "/v1/messages"
    # The client's versions differ in the header that carries it.
    sent = {request.headers.get("X-Api-Key"), request.headers.get("Authorization")}
    assert sent & {KEY, f"Bearer {KEY}"}
    assert request.body["max_tokens"] == 7
    assert request.body["stop_sequences"] == ["\n"]
    assert request.body["system"] == "Be brief."
    assert [(call.outcome, call.attempts) for call in ledger.calls] == [("ok", 1)]


async def test_a_schema_is_a_tool_that_must_be_called(
    model: ScriptedModel, gateway: Gateway
) -> None:
    use = {"type": "tool_use", "id": "t1", "name": "output", "input": {"n": 3}}
    model.script = reply(use, stop_reason="tool_use")
    answer = await gateway.chat(ASK, schema=SCHEMA)
    assert (answer.data, answer.tool_calls) == ({"n": 3}, ())
    body = model.requests[0].body
    assert body["tools"] == [{"name": "output", "input_schema": SCHEMA}]
    assert body["tool_choice"] == {"type": "tool", "name": "output"}
    model.script = reply({**use, "input": {"n": "three"}}, stop_reason="tool_use")
    with pytest.raises(ModelOutputError, match="does not follow the schema"):
        await gateway.chat(ASK, schema=SCHEMA)


async def test_tools_pass_through(model: ScriptedModel, gateway: Gateway) -> None:
    use = {"type": "tool_use", "id": "t1", "name": "look_up", "input": {"id": "7"}}
    model.script = reply(use, stop_reason="tool_use")
    function = {"name": "look_up", "description": "Find it.", "parameters": SCHEMA}
    answer = await gateway.chat(
        ASK, tools=[{"type": "function", "function": function}], tool_choice="required"
    )
    (call,) = answer.tool_calls
    assert call["function"] == {"name": "look_up", "arguments": '{"id": "7"}'}
    body = model.requests[0].body
    assert body["tools"][0]["description"] == "Find it."
    assert body["tool_choice"] == {"type": "any"}


FAILURES: list[tuple[Answer, type[ModelError], int]] = [
    (status(429, problem("rate_limit_error")), ModelRateLimitedError, 3),
    (status(500, problem("api_error")), ModelServerError, 3),
    (status(529, problem("overloaded_error")), ModelServerError, 3),
    (status(400, problem("invalid_request_error")), ModelRequestError, 1),
    (
        status(400, problem("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum")),
        ContextTooLongError,
        1,
    ),
    (echo_authorization(401), ModelAuthError, 1),
    (reply(text("The total"), stop_reason="max_tokens"), ModelTruncatedError, 1),
    (reply(text("I can't"), stop_reason="refusal"), ModelOutputError, 1),
    (reply(), ModelOutputError, 1),
]


@pytest.mark.parametrize(("answer", "expected", "requests"), FAILURES)
async def test_failures(
    model: ScriptedModel,
    gateway: Gateway,
    ledger: MemoryLedger,
    answer: Answer,
    expected: type[ModelError],
    requests: int,
) -> None:
    model.script = answer
    with pytest.raises(ModelError) as caught:
        await gateway.chat(ASK)
    assert type(caught.value) is expected
    assert len(model.requests) == requests
    assert [(call.outcome, call.attempts) for call in ledger.calls] == [
        (expected.__name__, requests)
    ]
    assert KEY not in repr(caught.value)


async def test_retry_after(model: ScriptedModel, gateway: Gateway) -> None:
    limited = status(429, problem("rate_limit_error"), retry_after="1")
    model.script = [limited, reply(text("ok"))]
    assert (await gateway.chat(ASK)).attempts == 2
    assert model.requests[1].at - model.requests[0].at >= 0.99


async def test_silence_and_absence(model: ScriptedModel, gateway: Gateway) -> None:
    model.script = hang()
    with pytest.raises(ModelTimeoutError):
        await gateway.chat(ASK, timeout=0.3)
    async with asyncio.timeout(5):
        while not model.abandoned:
            await asyncio.sleep(0.005)
    async with Gateway(settings_for(f"http://127.0.0.1:{unused_port()}"), retry=FAST) as nobody:
        with pytest.raises(ModelUnreachableError):
            await nobody.chat(ASK)


def _event(kind: str, **body: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **body})}\n\n"


def _stream(stop_reason: str, prompt_tokens: int | None = 10) -> Behaviour:
    message: dict[str, Any] = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude-scripted",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 10, "output_tokens": 1},
    }
    delta = {"type": "text_delta", "text": "four"}
    usage = {"output_tokens": 2} | (
        {} if prompt_tokens is None else {"input_tokens": prompt_tokens}
    )
    return events(
        _event("message_start", message=message),
        _event("content_block_start", index=0, content_block=text("")),
        _event("content_block_delta", index=0, delta=delta),
        _event("content_block_delta", index=0, delta={**delta, "text": "ty"}),
        _event("content_block_stop", index=0),
        _event("message_delta", delta={"stop_reason": stop_reason}, usage=usage),
        _event("message_stop"),
    )


async def test_a_stream(model: ScriptedModel, gateway: Gateway, ledger: MemoryLedger) -> None:
    model.script = _stream("end_turn")
    assert "".join([c.text async for c in gateway.stream(ASK)]) == "fourty"
    assert ledger.calls[0].prompt_tokens == 10
    assert ledger.calls[0].outcome == "ok"
    # Anthropic repeats the count at the end; what a server leaves out is unknown, not zero.
    model.script = _stream("end_turn", None)
    assert [c async for c in gateway.stream(ASK)]
    assert ledger.calls[1].prompt_tokens is None
    model.script = _stream("max_tokens")
    with pytest.raises(ModelOutputError, match="length limit"):
        async for _ in gateway.stream(ASK):
            pass


async def test_there_are_no_embeddings(gateway: Gateway) -> None:
    with pytest.raises(ModelRequestError, match="no embeddings"):
        await gateway.embed(["a"])


async def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_anthropic", None)
    async with Gateway(settings_for("http://127.0.0.1:9")) as opened:
        with pytest.raises(SettingsError, match=r"pip install 'rotina\[anthropic\]'"):
            await opened.chat(ASK)


async def test_a_missing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    async with Gateway(settings_for("http://127.0.0.1:9", key=None)) as opened:
        with pytest.raises(SettingsError, match="ANTHROPIC_API_KEY"):
            await opened.chat(ASK)
