"""What every provider does, whatever its protocol: one suite, run against each.

A new provider joins by a `Dialect` in tests/dialects.py.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, get_args

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.runnables import RunnableLambda
from pydantic import SecretStr

from rotina.errors import (
    ContextTooLongError,
    ModelAuthError,
    ModelError,
    ModelMissingError,
    ModelOutputError,
    ModelRateLimitedError,
    ModelRequestError,
    ModelServerError,
    ModelTimeoutError,
    ModelTruncatedError,
    ModelUnreachableError,
)
from rotina.gateway import Gateway, MemoryLedger, RetryPolicy
from rotina.settings import Deployment, Price, Route, Settings
from tests.dialects import ANSWER, CACHED, DIALECTS, KEY, MODEL, PROMPT, Dialect, Said
from tests.scripted_model import (
    ScriptedModel,
    drop,
    drop_mid_body,
    giant,
    hang,
    hang_mid_body,
    raw,
    status,
    unused_port,
)

FAST = RetryPolicy(attempts=2, base=0.001, cap=0.002)
ASK: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Quanto é?"}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look_up", "description": "Find it.", "parameters": SCHEMA},
}


@dataclass
class Stage:
    """A provider's scripted server, and a gateway that uses it."""

    dialect: Dialect
    model: ScriptedModel
    gateway: Gateway
    ledger: MemoryLedger


def settings_for(dialect: Dialect, root: str, **more: Any) -> Settings:
    deployment = Deployment(
        provider=dialect.provider,
        model=MODEL,
        base_url=SecretStr(root + dialect.suffix),
        api_key=None if dialect.environment else SecretStr(KEY),
        options=dict(dialect.options),
        price=Price(input=1.0, output=2.0, cached_input=0.1),
        **more,
    )
    routes = {name: Route(deployments=["one"]) for name in ("smart", "embed")}
    return Settings(deployments={"one": deployment}, routes=routes)


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.provider)
async def stage(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    for name, value in request.param.environment.items():
        monkeypatch.setenv(name, value)
    ledger = MemoryLedger()
    async with ScriptedModel() as model:
        settings = settings_for(request.param, model.base_url.removesuffix("/v1"))
        async with Gateway(settings, ledger, retry=FAST) as gateway:
            yield Stage(request.param, model, gateway, ledger)


async def failure(stage: Stage, **call: Any) -> ModelError:
    """The error of a call, which never shows the key."""
    with pytest.raises(ModelError) as caught:
        await stage.gateway.chat(ASK, **call)
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY not in f"{error} {error!r}"
        error = error.__cause__
    assert [call.outcome for call in stage.ledger.calls] == [type(caught.value).__name__]
    return caught.value


async def streamed(stage: Stage, **call: Any) -> str:
    return "".join([chunk.text async for chunk in stage.gateway.stream(ASK, **call)])


def test_every_provider_has_a_dialect() -> None:
    known = get_args(Deployment.model_fields["provider"].annotation)
    assert {dialect.provider for dialect in DIALECTS} == set(known)


async def test_a_whole_answer(stage: Stage) -> None:
    stage.model.script = stage.dialect.says(Said(["São ", "42 €."]))
    answer = await stage.gateway.chat(ASK, max_tokens=9, stop=["\n"])
    assert (answer.text, answer.finish_reason, answer.attempts) == ("São 42 €.", "stop", 1)
    assert answer.model == MODEL
    check_usage(stage, answer.usage.model_dump())
    (request,) = stage.model.requests
    assert stage.dialect.credentials(request) == KEY
    sent = str(request.body)
    assert "Quanto é?" in sent
    assert "Be brief." in sent
    assert "9" in sent


def check_usage(stage: Stage, usage: dict[str, Any]) -> None:
    cached = CACHED if stage.dialect.counts_cached else None
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (PROMPT, ANSWER)
    assert usage["cached_tokens"] == cached
    dollars = ((PROMPT - (cached or 0)) * 1.0 + (cached or 0) * 0.1 + ANSWER * 2.0) / 1e6
    (call,) = stage.ledger.calls
    assert float(call.cost_usd or 0) == pytest.approx(dollars)


async def test_a_stream_says_the_same(stage: Stage) -> None:
    stage.model.script = stage.dialect.says(Said(["São ", "42 €."]))
    chunks = [chunk async for chunk in stage.gateway.stream(ASK)]
    assert "".join(chunk.text for chunk in chunks) == "São 42 €."
    assert sum(bool(chunk.text) for chunk in chunks) > 1
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    usage = next(chunk.usage for chunk in reversed(chunks) if chunk.usage)
    check_usage(stage, usage.model_dump())
    assert stage.ledger.calls[0].model == MODEL


async def test_tools(stage: Stage) -> None:
    stage.model.script = stage.dialect.says(Said((), call=("look_up", {"n": 7})))
    choice = "required" if stage.dialect.forces_tools else "auto"
    answer = await stage.gateway.chat(ASK, tools=[TOOL], tool_choice=choice)
    (call,) = answer.tool_calls
    assert (answer.finish_reason, call["type"]) == ("tool_calls", "function")
    assert call["function"] == {"name": "look_up", "arguments": '{"n": 7}'}
    assert stage.dialect.tools(stage.model.requests[0].body) == ["look_up"]
    # A conversation goes on with what the tool said.
    stage.model.script = stage.dialect.says(Said())
    result = {"role": "tool", "tool_call_id": call["id"], "content": "sete"}
    talk: Any = [*ASK, {"role": "assistant", "content": None, "tool_calls": [call]}, result]
    assert (await stage.gateway.chat(talk, tools=[TOOL])).text == "It is 42."
    assert "sete" in str(stage.model.requests[1].body)


async def test_tools_in_a_stream(stage: Stage) -> None:
    stage.model.script = stage.dialect.says(Said((), call=("look_up", {"n": 7})))
    chunks = [chunk async for chunk in stage.gateway.stream(ASK, tools=[TOOL])]
    pieces = [call["function"] for chunk in chunks for call in chunk.tool_calls]
    assert "".join(piece.get("name") or "" for piece in pieces) == "look_up"
    assert "".join(piece.get("arguments") or "" for piece in pieces) == '{"n": 7}'
    assert next(c.finish_reason for c in reversed(chunks) if c.finish_reason) == "tool_calls"


def structured(dialect: Dialect, n: Any) -> Said:
    if dialect.provider in {"anthropic", "bedrock"}:
        return Said((), call=("output", {"n": n}))
    return Said(['{"n":', f' "{n}"}}' if isinstance(n, str) else f" {n}}}"])


async def test_a_schema(stage: Stage) -> None:
    stage.model.script = stage.dialect.says(structured(stage.dialect, 3))
    answer = await stage.gateway.chat(ASK, schema=SCHEMA)
    assert (answer.data, answer.tool_calls, answer.finish_reason) == ({"n": 3}, (), "stop")
    assert stage.dialect.schema(stage.model.requests[0].body) == SCHEMA
    assert await streamed(stage, schema=SCHEMA) == '{"n": 3}'
    stage.model.script = stage.dialect.says(structured(stage.dialect, "three"))
    with pytest.raises(ModelOutputError, match="does not follow the schema"):
        await stage.gateway.chat(ASK, schema=SCHEMA)


@pytest.mark.parametrize(
    ("code", "expected", "requests"),
    [
        (400, ModelRequestError, 1),
        (401, ModelAuthError, 1),
        (404, ModelMissingError, 1),
        (429, ModelRateLimitedError, 2),
        (500, ModelServerError, 2),
    ],
)
async def test_refusals(stage: Stage, code: int, expected: type[ModelError], requests: int) -> None:
    stage.model.script = stage.dialect.fails(code)
    assert type(await failure(stage)) is expected
    assert len(stage.model.requests) == requests
    with pytest.raises(expected):
        await streamed(stage)


async def test_a_prompt_that_is_too_long(stage: Stage) -> None:
    code, body = stage.dialect.too_long
    stage.model.script = status(code, body)
    assert type(await failure(stage)) is ContextTooLongError


async def test_retry_after(stage: Stage) -> None:
    ok = stage.dialect.says(Said())
    stage.model.script = [stage.dialect.fails(429, retry_after="1"), ok]
    assert (await stage.gateway.chat(ASK)).attempts == 2
    first, second = stage.model.requests
    assert second.at - first.at >= 0.99


async def test_answers_that_are_none(stage: Stage) -> None:
    for said, expected in (
        (Said(reason="length"), ModelTruncatedError),
        (Said(()), ModelOutputError),
        (Said(("   ",)), ModelOutputError),
    ):
        stage.model.script = stage.dialect.says(said)
        stage.ledger.calls.clear()
        assert type(await failure(stage)) is expected
        with pytest.raises(expected):
            await streamed(stage)


async def test_what_a_filter_stops(stage: Stage) -> None:
    if not stage.dialect.filters:
        pytest.skip("has no filter")
    stage.model.script = stage.dialect.says(Said(reason="filter"))
    assert "content filter" in str(await failure(stage))
    with pytest.raises(ModelOutputError, match="content filter"):
        await streamed(stage)


@pytest.mark.parametrize("body", [b"<html>oops</html>", b'{"hello": 1}', b"[]", b"", b'{"a":'])
async def test_bodies_of_no_form(stage: Stage, body: bytes) -> None:
    stage.model.script = raw(body)
    assert type(await failure(stage)) is ModelOutputError


async def test_a_redirect_is_not_followed(stage: Stage) -> None:
    stage.model.script = status(307)
    assert "redirects" in str(await failure(stage))
    assert len(stage.model.requests) == 1


async def test_an_answer_without_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("http", "carrier"):
        monkeypatch.setattr(f"rotina.gateway.{module}.MAX_RESPONSE_BYTES", 200_000)
    stage.model.script = giant(2_000_000)
    assert "larger than 200,000 bytes" in str(await failure(stage))


async def test_connections_that_fail(stage: Stage) -> None:
    for behaviour in (drop(), drop_mid_body()):
        stage.model.script = behaviour
        stage.ledger.calls.clear()
        assert type(await failure(stage)) is ModelUnreachableError
    # A broken connection is a failure like another: the next try gets the answer.
    stage.model.script = [drop(), stage.dialect.says(Said())]
    assert (await stage.gateway.chat(ASK)).attempts == 2


async def test_a_stream_that_is_cut(stage: Stage) -> None:
    stage.model.script = stage.dialect.says(Said([f"{n} " for n in range(20)], drop=True))
    with pytest.raises(ModelUnreachableError):
        await streamed(stage)


async def test_an_error_inside_a_stream(stage: Stage) -> None:
    stage.model.script = stage.dialect.says(Said([f"{n} " for n in range(20)], fault=True))
    with pytest.raises(ModelServerError):
        await streamed(stage)


async def test_leaving_a_stream_closes_the_connection(stage: Stage) -> None:
    stage.model.script = stage.dialect.says(Said([f"{n} " for n in range(20)], stall=True))
    async with contextlib.aclosing(stage.gateway.stream(ASK)) as chunks:
        async for chunk in chunks:
            if chunk.text:
                break
    await until_abandoned(stage, 1)


async def test_a_stream_that_stalls_ends_at_the_deadline(stage: Stage) -> None:
    await warm(stage)
    stage.model.script = stage.dialect.says(Said([f"{n} " for n in range(20)], stall=True))
    with pytest.raises(ModelTimeoutError):
        await streamed(stage, timeout=0.5)
    await until_abandoned(stage, 1)


async def test_nobody_else_hears_the_model(stage: Stage) -> None:
    """A graph that streams model calls hears the gateway's own face, and only that."""
    heard = []

    class Ear(AsyncCallbackHandler):
        async def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            heard.append(args)

    async def node(given: str) -> str:
        return (await stage.gateway.chat(ASK)).text + await streamed(stage)

    stage.model.script = stage.dialect.says(Said())
    said = await RunnableLambda(node).ainvoke("go", {"callbacks": [Ear()]})
    assert (said, heard) == ("It is 42.It is 42.", [])


async def test_nobody_there(stage: Stage) -> None:
    settings = settings_for(stage.dialect, f"http://127.0.0.1:{unused_port()}")
    async with Gateway(settings, retry=FAST) as nobody:
        with pytest.raises(ModelUnreachableError, match="Cannot connect"):
            await nobody.chat(ASK)


async def warm(stage: Stage) -> None:
    """Open the provider: a short deadline is then about its server only."""
    stage.model.script = stage.dialect.says(Said())
    await stage.gateway.chat(ASK)


async def test_silence_ends_at_the_deadline(stage: Stage) -> None:
    await warm(stage)
    for behaviour in (hang(), hang_mid_body()):
        stage.model.script = behaviour
        stage.ledger.calls.clear()
        gone = stage.model.abandoned
        assert type(await failure(stage, timeout=0.5)) is ModelTimeoutError
        await until_abandoned(stage, gone + 1)


async def test_cancelling_closes_the_connection(stage: Stage) -> None:
    stage.model.script = hang()
    call = asyncio.create_task(stage.gateway.chat(ASK))
    async with asyncio.timeout(10):
        while not stage.model.requests:
            await asyncio.sleep(0.005)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until_abandoned(stage, 1)


async def until_abandoned(stage: Stage, times: int) -> None:
    async with asyncio.timeout(5):
        while stage.model.abandoned < times:
            await asyncio.sleep(0.005)


async def test_many_at_once(stage: Stage) -> None:
    stage.model.script = stage.dialect.says(Said())
    answers = await asyncio.gather(*(stage.gateway.chat(ASK) for _ in range(40)))
    assert {answer.text for answer in answers} == {"It is 42."}
