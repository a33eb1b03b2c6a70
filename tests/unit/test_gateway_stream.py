"""Streams: pieces in order, and no cut, refused or invalid stream that passes as an answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from pydantic import SecretStr

from rotina.errors import (
    ModelError,
    ModelOutputError,
)
from rotina.gateway import Gateway, MemoryLedger, RetryPolicy
from rotina.gateway.sse import read_events
from rotina.settings import Deployment, Route, Settings
from tests.scripted_model import (
    Behaviour,
    ScriptedModel,
    chat,
    drop,
    event,
    events,
    raw,
    status,
)

FAST = RetryPolicy(attempts=3, base=0.001, cap=0.002)
ASK: Any = [{"role": "user", "content": "one two three"}]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def piece(text: str, finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return event({"choices": [choice], "model": "scripted"})


DONE = "data: [DONE]\n\n"
USAGE = event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as server:
        yield server


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
async def gateway(model: ScriptedModel, ledger: MemoryLedger) -> AsyncIterator[Gateway]:
    deployment = Deployment(model="tiny", base_url=SecretStr(model.base_url))
    settings = Settings(
        deployments={"one": deployment}, routes={"smart": Route(deployments=["one"])}
    )
    async with Gateway(settings, ledger, retry=FAST) as opened:
        yield opened


async def collect(gateway: Gateway, **options: Any) -> str:
    return "".join([chunk.text async for chunk in gateway.stream(ASK, **options)])


async def test_pieces_make_the_answer(
    model: ScriptedModel, gateway: Gateway, ledger: MemoryLedger
) -> None:
    for _ in range(2):
        assert await collect(gateway) == "You said: one two three"
    (call, _) = ledger.calls
    assert (call.outcome, call.attempts, call.prompt_tokens) == ("ok", 1, 3)
    assert call.completion_tokens == 5
    assert model.requests[0].body["stream_options"] == {"include_usage": True}
    # The first stream was read to its end, so its connection served the second.
    assert model.requests[0].connection == model.requests[1].connection


async def test_a_stream_follows_its_schema(model: ScriptedModel, gateway: Gateway) -> None:
    model.script = '{"n": 3}'
    assert await collect(gateway, schema=SCHEMA) == '{"n": 3}'
    model.script = '{"n": "three"}'
    with pytest.raises(ModelOutputError, match="does not follow the schema"):
        await collect(gateway, schema=SCHEMA)


@pytest.mark.parametrize("first", [status(503), drop(), events(": hello\n\n", drop=True)])
async def test_before_the_first_piece_it_is_tried_again(
    model: ScriptedModel, gateway: Gateway, ledger: MemoryLedger, first: Behaviour
) -> None:
    model.script = [first, "at last"]
    assert await collect(gateway) == "at last"
    assert [(call.outcome, call.attempts) for call in ledger.calls] == [("ok", 2)]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (events(piece("a")), ModelOutputError),
        (events(piece("a"), DONE), ModelOutputError),
        (events(piece("", "stop"), DONE), ModelOutputError),
        (events(DONE), ModelOutputError),
        (events(), ModelOutputError),
    ],
)
async def test_what_is_not_a_whole_answer_raises(
    model: ScriptedModel,
    gateway: Gateway,
    ledger: MemoryLedger,
    answer: Behaviour,
    expected: type[ModelError],
) -> None:
    model.script = answer
    with pytest.raises(ModelError) as caught:
        await collect(gateway)
    assert type(caught.value) is expected
    assert [call.outcome for call in ledger.calls] == [expected.__name__]
    assert len(model.requests) == 1


async def test_leaving_early_closes_the_connection(
    model: ScriptedModel, gateway: Gateway, ledger: MemoryLedger
) -> None:
    model.script = events(*[piece("x")] * 1000, gap=0.01)
    async with aclosing(gateway.stream(ASK)) as chunks:
        async for _ in chunks:
            break
    await _until_abandoned(model)
    assert [call.outcome for call in ledger.calls] == ["CancelledError"]


async def _until_abandoned(model: ScriptedModel) -> None:
    async with asyncio.timeout(5):
        while not model.abandoned:
            await asyncio.sleep(0.005)


async def test_tool_calls_arrive_in_pieces(model: ScriptedModel, gateway: Gateway) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    model.script = chat(None, finish_reason="tool_calls", tool_calls=[call])
    found = [chunk.tool_calls async for chunk in gateway.stream(ASK) if chunk.tool_calls]
    assert found == [({"index": 0, **call},)]


EVENTS = (
    "\ufeff: comment\r\n\r\ndata: one\r\nid: 7\r\n\r\nevent: x\rdata:two\r\r"
    "data: a\ndata: b\n\n\n\ndata: olá\u2028\n\ndata: last"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_events_are_read_however_they_are_cut(size: int) -> None:
    whole = EVENTS.encode()

    async def blocks() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), size):
            yield whole[start : start + size]

    found = [data async for data in read_events(blocks(), 1000)]
    assert found == ["one", "two", "a\nb", "olá\u2028", "last"]


async def test_an_endless_stream_is_given_up() -> None:
    async def blocks() -> AsyncIterator[bytes]:
        while True:
            yield b"data: x\n\n"

    with pytest.raises(ModelOutputError, match="larger than 100 bytes"):
        async for _ in read_events(blocks(), 100):
            pass


async def test_a_whole_answer_where_a_stream_was_asked_for(
    model: ScriptedModel, gateway: Gateway, ledger: MemoryLedger
) -> None:
    """Some servers, and some proxies, do not stream."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    message = {"content": "hi", "tool_calls": [call]}
    choice = {"message": message, "finish_reason": "tool_calls"}
    model.script = raw(json.dumps({"choices": [choice], "usage": usage}).encode())
    (chunk,) = [chunk async for chunk in gateway.stream(ASK)]
    assert (chunk.text, chunk.tool_calls) == ("hi", ({"index": 0, **call},))
    assert (ledger.calls[0].prompt_tokens, ledger.calls[0].completion_tokens) == (3, 2)


async def test_usage_after_the_finish_reason_is_counted(
    model: ScriptedModel, gateway: Gateway, ledger: MemoryLedger
) -> None:
    model.script = events(piece("hi", "stop"), USAGE, DONE)
    assert await collect(gateway) == "hi"
    assert (ledger.calls[0].prompt_tokens, ledger.calls[0].completion_tokens) == (3, 2)
