"""Every way an upstream can answer: what the caller sees, what was sent, what was recorded."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from rotina.errors import (
    ContextTooLongError,
    DatabaseError,
    ModelAuthError,
    ModelError,
    ModelOutputError,
    ModelQuotaError,
    ModelRequestError,
    ModelServerError,
    ModelTimeoutError,
    ModelUnreachableError,
    SettingsError,
)
from rotina.gateway import Gateway, MemoryLedger, ModelCall, RetryPolicy
from rotina.settings import Deployment, Price, Route, Settings
from tests.scripted_model import (
    Answer,
    Behaviour,
    Request,
    ScriptedModel,
    chat,
    choices,
    delayed,
    drop,
    drop_mid_body,
    echo_authorization,
    hang,
    raw,
    status,
    unused_port,
    vector,
)

KEY = "sk-scripted-secret-0123456789"
FAST = RetryPolicy(attempts=3, base=0.001, cap=0.002)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"total": {"type": "number"}},
    "required": ["total"],
    "additionalProperties": False,
}
ASK: Any = [{"role": "user", "content": "How much is it?"}]


def settings_for(base_url: str, **deployment: Any) -> Settings:
    """One deployment behind the routes `smart` and `embed`."""
    made = Deployment(model="tiny", base_url=SecretStr(base_url), **deployment)
    routes = {name: Route(deployments=["one"]) for name in ("smart", "embed")}
    return Settings(deployments={"one": made}, routes=routes)


@dataclass
class Stage:
    """A scripted model, a gateway that uses it, and what the gateway recorded."""

    model: ScriptedModel
    gateway: Gateway
    ledger: MemoryLedger

    def outcomes(self) -> list[tuple[str, int]]:
        """Outcome and tries of each recorded call."""
        return [(call.outcome, call.attempts) for call in self.ledger.calls]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    ledger = MemoryLedger()
    async with ScriptedModel() as model:
        settings = settings_for(model.base_url, api_key=KEY)
        async with Gateway(settings, ledger, retry=FAST) as gateway:
            yield Stage(model, gateway, ledger)


async def test_an_answer_says_what_it_cost(stage: Stage) -> None:
    settings = settings_for(stage.model.base_url, price=Price(input=0.15, output=0.6))
    usage = {
        "prompt_tokens": 1001,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 900},
    }
    stage.model.script = chat("42", usage=usage)
    ledger, run_id = MemoryLedger(), uuid4()
    async with Gateway(settings, ledger) as gateway:
        bound = gateway.bound(run_id=run_id, tenant="acme", node="extract")
        answer = await bound.chat(ASK, max_tokens=9, stop=["\n"])
    assert answer.text == "42"
    assert answer.data is None
    assert (answer.route, answer.deployment, answer.model) == ("smart", "one", "scripted")
    assert answer.cost_usd == Decimal("0.000154350")
    assert answer.usage.cached_tokens == 900
    (call,) = ledger.calls
    assert (call.tenant, call.run_id, call.node) == ("acme", run_id, "extract")
    assert (call.kind, call.outcome, call.attempts) == ("chat", "ok", 1)
    assert call.cost_usd == answer.cost_usd
    assert call.latency_ms == answer.latency_ms
    (request,) = stage.model.requests
    assert request.body == {
        "model": "tiny",
        "messages": ASK,
        "temperature": 0.0,
        "max_tokens": 9,
        "stop": ["\n"],
    }
    assert "Authorization" not in request.headers


@pytest.mark.parametrize(
    ("usage", "price"),
    [({}, Price(input=1, output=1)), ({"prompt_tokens": 1, "completion_tokens": 1}, None)],
)
async def test_an_unknown_cost_is_unknown(
    stage: Stage, usage: dict[str, Any], price: Price | None
) -> None:
    stage.model.script = chat("yes", usage=usage)
    ledger = MemoryLedger()
    async with Gateway(settings_for(stage.model.base_url, price=price), ledger) as gateway:
        answer = await gateway.chat(ASK)
    assert answer.cost_usd is None
    assert ledger.calls[0].cost_usd is None


async def test_one_connection_serves_many_calls(stage: Stage) -> None:
    for _ in range(3):
        await stage.gateway.chat(ASK)
    assert len({request.connection for request in stage.model.requests}) == 1
    assert stage.model.requests[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_tool_calls_are_an_answer(stage: Stage) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    stage.model.script = chat(None, finish_reason="tool_calls", tool_calls=[call])
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {}}}
    answer = await stage.gateway.chat(ASK, tools=[tool], tool_choice="required")
    assert answer.text == ""
    assert answer.tool_calls == (call,)
    assert stage.model.requests[0].body["tools"] == [tool]
    assert stage.model.requests[0].body["tool_choice"] == "required"


FAILURES: list[tuple[Answer, type[ModelError], int]] = [
    (status(429, {"error": {"code": "insufficient_quota"}}), ModelQuotaError, 1),
    (status(529), ModelServerError, 3),
    (status(408), ModelTimeoutError, 3),
    (drop(), ModelUnreachableError, 3),
    (raw(b"<html>gateway</html>", code=502, content_type="text/html"), ModelServerError, 3),
    (raw(b"[" * 100_000), ModelOutputError, 1),
    (raw(b"null"), ModelOutputError, 1),
    (raw(b""), ModelOutputError, 1),
    (raw(b'{"error": {"message": "overloaded", "code": 503}}'), ModelServerError, 3),
    (raw(b'{"error": "boom"}'), ModelServerError, 3),
    (choices({"index": 0, "finish_reason": "stop"}), ModelOutputError, 1),
    (chat("", finish_reason="stop"), ModelOutputError, 1),
    (chat(" \n"), ModelOutputError, 1),
    (chat(None), ModelOutputError, 1),
    (chat("The total is", finish_reason="abort"), ModelOutputError, 1),
    (chat("The total is", finish_reason=None), ModelOutputError, 1),
    (chat(None, refusal="I can't help with that."), ModelOutputError, 1),
    (status(400), ModelRequestError, 1),
    (status(302), ModelRequestError, 1),
    (status(403), ModelAuthError, 1),
    (
        status(400, {"error": {"code": 400, "type": "exceed_context_size_error", "message": "m"}}),
        ContextTooLongError,
        1,
    ),
    (
        status(400, {"message": "This model's maximum context length is 4096 tokens."}),
        ContextTooLongError,
        1,
    ),
]


@pytest.mark.parametrize(("answer", "expected", "requests"), FAILURES)
async def test_failures(
    stage: Stage, answer: Behaviour, expected: type[ModelError], requests: int
) -> None:
    stage.model.script = answer
    with pytest.raises(ModelError) as caught:
        await stage.gateway.chat(ASK)
    assert type(caught.value) is expected
    assert len(stage.model.requests) == requests
    assert stage.outcomes() == [(expected.__name__, requests)]
    assert "deployment 'one'" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("first", [status(503), status(429, retry_after="0"), drop_mid_body()])
async def test_what_passes_is_tried_again(stage: Stage, first: Behaviour) -> None:
    stage.model.script = [first, "better now"]
    answer = await stage.gateway.chat(ASK)
    assert answer.text == "better now"
    assert answer.attempts == 2
    assert stage.outcomes() == [("ok", 2)]


async def test_a_stale_connection_costs_a_try_not_the_call(stage: Stage) -> None:
    stage.model.script = ["first", drop(), "second"]
    await stage.gateway.chat(ASK)
    answer = await stage.gateway.chat(ASK)
    assert (answer.text, answer.attempts) == ("second", 2)
    ports = [request.connection for request in stage.model.requests]
    assert ports[0] == ports[1] != ports[2]


async def test_cancelling_closes_the_connection(stage: Stage) -> None:
    stage.model.script = hang()
    task = asyncio.create_task(stage.gateway.chat(ASK))
    while not stage.model.requests:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _until_abandoned(stage.model)
    await asyncio.sleep(0)
    assert stage.outcomes() == [("CancelledError", 1)]


async def _until_abandoned(model: ScriptedModel) -> None:
    async with asyncio.timeout(5):
        while not model.abandoned:
            await asyncio.sleep(0.005)


async def test_a_giant_error_does_not_poison_the_connection(stage: Stage) -> None:
    stage.model.script = [raw(b"x" * 5_000_000, code=400), "fine"]
    with pytest.raises(ModelRequestError):
        await stage.gateway.chat(ASK)
    assert (await stage.gateway.chat(ASK)).text == "fine"


async def test_concurrency_is_limited(stage: Stage) -> None:
    busy, most = 0, 0

    async def script(request: Request) -> Answer:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.02)
        busy -= 1
        return "ok"

    stage.model.script = script
    async with Gateway(settings_for(stage.model.base_url, concurrency=3)) as gateway:
        await asyncio.gather(*(gateway.chat(ASK) for _ in range(12)))
    assert most == 3


async def test_waiting_for_a_slot_counts_against_the_callers_deadline(stage: Stage) -> None:
    stage.model.script = delayed(0.5, "slow")
    ledger = MemoryLedger()
    async with Gateway(settings_for(stage.model.base_url, concurrency=1), ledger) as gateway:
        first = asyncio.create_task(gateway.chat(ASK))
        await asyncio.sleep(0.05)
        with pytest.raises(ModelTimeoutError, match="no free slot"):
            await gateway.chat(ASK, timeout=0.1)
        assert (await first).text == "slow"
    assert [(call.outcome, call.attempts) for call in ledger.calls] == [
        ("ModelTimeoutError", 0),
        ("ok", 1),
    ]


@pytest.mark.parametrize(
    ("parameter", "replacement"),
    [("temperature", None), ("max_tokens", "max_completion_tokens")],
)
async def test_a_parameter_the_model_refuses_is_left_out(
    stage: Stage, parameter: str, replacement: str | None
) -> None:
    def script(request: Request) -> Answer:
        if parameter in request.body:
            problem = {"code": "unsupported_value", "param": parameter, "message": "no"}
            return status(400, {"error": problem})
        return "ok"

    stage.model.script = script
    first = await stage.gateway.chat(ASK, max_tokens=5)
    second = await stage.gateway.chat(ASK, max_tokens=5)
    assert (first.attempts, second.attempts) == (2, 1)
    if replacement is not None:
        assert stage.model.requests[-1].body[replacement] == 5


async def test_calls_under_way_survive_the_first_refusal(stage: Stage) -> None:
    async def script(request: Request) -> Answer:
        await asyncio.sleep(0.02)
        problem = {"code": "unsupported_value", "param": "temperature", "message": "no"}
        return status(400, {"error": problem}) if "temperature" in request.body else "ok"

    stage.model.script = script
    answers = await asyncio.gather(*(stage.gateway.chat(ASK) for _ in range(8)))
    assert {answer.attempts for answer in answers} == {2}


@pytest.mark.parametrize("key", ["sk-two\nlines", "sk-ключ"])
async def test_a_key_that_no_header_carries(stage: Stage, key: str) -> None:
    async with Gateway(settings_for(stage.model.base_url, api_key=key)) as gateway:
        with pytest.raises(SettingsError, match="API key of deployment 'one'") as caught:
            await gateway.chat(ASK)
    assert key not in str(caught.value)


async def test_a_line_break_after_the_key_is_ignored(stage: Stage) -> None:
    async with Gateway(settings_for(stage.model.base_url, api_key=KEY + "\n")) as gateway:
        await gateway.chat(ASK)
    assert stage.model.requests[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_unknown_route(stage: Stage) -> None:
    with pytest.raises(SettingsError, match=r"No route 'clever'\. Known routes: embed, smart"):
        await stage.gateway.chat(ASK, route="clever")
    assert stage.gateway.context("smart") == 8192


class BrokenLedger:
    """A ledger whose database is gone."""

    async def record(self, call: ModelCall, *, soon: bool = True) -> None:
        raise DatabaseError("the database is gone")


async def test_a_lost_row_is_loud_but_the_answer_is_kept(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(stage.model.base_url)
    async with Gateway(settings, BrokenLedger()) as gateway:
        assert (await gateway.chat(ASK)).text == "You said: How much is it?"
        assert gateway.ledger_failures == 1
    (entry,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert entry.__dict__["model_call"]["prompt_tokens"] == 4


async def test_a_closed_gateway_says_so(stage: Stage) -> None:
    with pytest.raises(RuntimeError, match="not open"):
        await Gateway(settings_for(stage.model.base_url)).chat(ASK)


async def test_embeddings_come_in_order_and_in_batches(stage: Stage) -> None:
    texts = [f"text {number}" for number in range(70)]
    answer = await stage.gateway.embed(texts)
    assert answer.vectors == [vector(text) for text in texts]
    assert [len(request.body["input"]) for request in stage.model.requests] == [32, 32, 6]
    assert answer.usage.prompt_tokens == 140
    (call,) = stage.ledger.calls
    assert (call.kind, call.outcome, call.attempts, call.prompt_tokens) == (
        "embedding",
        "ok",
        3,
        140,
    )


def _vectors(*given: Any) -> Behaviour:
    data = [{"index": i, "embedding": v} for i, v in enumerate(given)]
    return raw(json.dumps({"data": data}).encode())


@pytest.mark.parametrize(
    "answer",
    [
        _vectors([1.0]),
        _vectors([1.0], [1.0, 2.0]),
        _vectors([], []),
        _vectors([1.0], "AAAA"),
        _vectors([1.0], [None]),
        raw(b'{"data": [{"index":0,"embedding":[NaN]},{"index":1,"embedding":[1.0]}]}'),
        raw(b'{"data": null}'),
    ],
)
async def test_bad_vectors_are_no_answer(stage: Stage, answer: Behaviour) -> None:
    stage.model.script = answer
    with pytest.raises(ModelOutputError, match="deployment 'one'"):
        await stage.gateway.embed(["a", "b"])
    assert stage.outcomes() == [("ModelOutputError", 1)]


async def test_vectors_are_put_in_the_order_of_the_texts(stage: Stage) -> None:
    data = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    stage.model.script = raw(json.dumps({"data": data}).encode())
    assert (await stage.gateway.embed(["a", "b"])).vectors == [[1.0], [2.0]]


@pytest.mark.parametrize(
    "url",
    [
        "http://user:sk-scripted-secret-0123456789@{host}/v1",
        "http://{host}/v1?key=sk-scripted-secret-0123456789",
        "http://user:plainpassword%40word@{host}/v1",
    ],
)
@pytest.mark.parametrize("answer", [echo_authorization(code) for code in (400, 401, 500)])
async def test_secrets_stay_out_of_errors_and_logs(
    stage: Stage, url: str, answer: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    host = stage.model.base_url.removeprefix("http://").removesuffix("/v1")
    base_url = url.format(host=host)
    key = KEY if "?" in url else None
    stage.model.script = answer
    async with Gateway(settings_for(base_url, api_key=key), retry=FAST) as gateway:
        with pytest.raises(ModelError) as caught:
            await gateway.chat(ASK)
        shown = f"{caught.value!r} {caught.value.__cause__!r} {gateway!r} {caplog.text}"
    sent = stage.model.requests[0]
    secret = sent.headers["Authorization"].split()[1]
    for hidden in (KEY, secret, "plainpassword"):
        assert hidden not in shown


async def test_secrets_stay_out_when_the_connection_fails() -> None:
    url = f"http://user:{KEY}@127.0.0.1:{unused_port()}/v1?key={KEY}"
    async with Gateway(settings_for(url, api_key=KEY), retry=FAST) as gateway:
        with pytest.raises(ModelUnreachableError) as caught:
            await gateway.chat(ASK)
    assert KEY not in repr(caught.value)
    assert caught.value.__cause__ is None
