"""Prompt caches of providers: what is marked, what is sent, and what it costs."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from rotina.gateway import Gateway, Usage
from rotina.gateway.budget import Need
from rotina.settings import Deployment, Price, Route, Settings
from tests.dialects import DIALECTS, KEY, Said
from tests.scripted_model import ScriptedModel, raw

DIALECT = {dialect.provider: dialect for dialect in DIALECTS}
TOOL = {"type": "function", "function": {"name": "look_up", "description": "", "parameters": {}}}
CALL = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
TALK: Any = [
    {"role": "system", "content": "Seja breve."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Um."},
    {"role": "user", "content": "Two?"},
]
EPHEMERAL = {"type": "ephemeral"}


async def sent(
    provider: str,
    messages: Any,
    *,
    tenant: str = "acme",
    prompt_cache: bool = True,
    **call: Any,
) -> dict[str, Any]:
    """The body of the request that a call makes."""
    dialect = DIALECT[provider]
    async with ScriptedModel(dialect.says(Said())) as model:
        root = model.base_url.removesuffix("/v1")
        deployment = Deployment(
            provider=dialect.provider,
            model="anthropic.claude-tiny" if provider == "bedrock" else "tiny",
            base_url=SecretStr(root + dialect.suffix),
            api_key=None if dialect.environment else SecretStr(KEY),
            options=dict(dialect.options),
            prompt_cache=prompt_cache,
        )
        settings = Settings(
            deployments={"one": deployment}, routes={"smart": Route(deployments=["one"])}
        )
        async with Gateway(settings) as gateway:
            bound = gateway.bound(run_id=None, tenant=tenant)
            await bound.chat(messages, **call)
        return model.requests[0].body


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in DIALECT["bedrock"].environment.items():
        monkeypatch.setenv(name, value)


async def test_anthropic_marks_the_constant_beginning() -> None:
    body = await sent("anthropic", TALK, tools=[TOOL, TOOL])
    assert [tool.get("cache_control") for tool in body["tools"]] == [None, EPHEMERAL]
    assert body["system"] == [{"type": "text", "text": "Seja breve.", "cache_control": EPHEMERAL}]
    one, answer, newest = body["messages"]
    assert answer["content"] == [{"type": "text", "text": "Um.", "cache_control": EPHEMERAL}]
    assert "cache_control" not in str(one)
    assert "cache_control" not in str(newest)


async def test_a_turn_with_tools_is_marked_before_it() -> None:
    said = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "c", "content": "7"}
    body = await sent("anthropic", [*TALK, said, result], tools=[TOOL])
    # The message that only calls has nothing to mark; the one before it has.
    assert "cache_control" in str(body["messages"][2])
    assert "cache_control" not in str(body["messages"][3:])


async def test_nothing_is_marked_that_is_not_there_or_not_asked_for() -> None:
    only: Any = [{"role": "user", "content": "One?"}]
    for provider in ("anthropic", "bedrock"):
        for body in (
            await sent(provider, only),
            await sent(provider, TALK, prompt_cache=False, tools=[TOOL]),
        ):
            assert "cache_control" not in str(body)
            assert "cachePoint" not in str(body)


async def test_bedrock_sets_points() -> None:
    point = {"cachePoint": {"type": "default"}}
    body = await sent("bedrock", TALK, tools=[TOOL])
    assert body["system"] == [{"text": "Seja breve."}, point]
    assert body["messages"][1]["content"] == [{"text": "Um."}, point]
    assert body["toolConfig"]["tools"][-1] == point
    assert str(body).count("cachePoint") == 3


async def test_openai_is_given_a_key() -> None:
    async def key(messages: Any, **more: Any) -> str:
        found = (await sent("openai", messages, **more))["prompt_cache_key"]
        assert isinstance(found, str)
        return found

    later: Any = [*TALK, {"role": "assistant", "content": "Dois."}, TALK[1]]
    other: Any = [{"role": "system", "content": "Be long."}, TALK[1]]
    first = await key(TALK)
    assert first == await key(later)
    differ = {
        first,
        await key(other),
        await key(TALK, tenant="zeta"),
        await key(TALK, tools=[TOOL]),
    }
    assert len(differ) == 4
    assert "prompt_cache_key" not in await sent("openai", TALK, prompt_cache=False)


async def test_providers_that_need_no_mark_get_none() -> None:
    for provider in ("google", "ollama"):
        assert await sent(provider, TALK) == await sent(provider, TALK, prompt_cache=False)


PRICE = Price(input=3.0, output=15.0, cached_input=0.3, cache_write=3.75)


def test_what_the_cache_gave_and_took_has_its_price() -> None:
    usage = Usage(
        prompt_tokens=1000, completion_tokens=100, cached_tokens=600, cache_write_tokens=300
    )
    # 100 × 3 + 600 × 0.30 + 300 × 3.75 + 100 × 15, for a million.
    assert usage.cost(PRICE) == Decimal("0.003105000")
    assert usage.cost(Price(input=3.0, output=15.0)) == Decimal("0.004500000")
    assert usage.cost(Price(input=3, output=15, cached_input=0)) == Decimal("0.002700000")
    # A server that counts more out of the cache than the prompt has is not paid for it.
    odd = Usage(prompt_tokens=10, completion_tokens=0, cached_tokens=50, cache_write_tokens=50)
    assert odd.cost(PRICE) == Decimal("0.000003000")
    assert Usage(prompt_tokens=None, cached_tokens=5).cost(PRICE) is None


def test_usages_add_up() -> None:
    one = Usage(prompt_tokens=1, completion_tokens=2, cache_write_tokens=3, reasoning_tokens=4)
    assert (one + one).model_dump(exclude_none=True) == {
        "prompt_tokens": 2,
        "completion_tokens": 4,
        "cache_write_tokens": 6,
        "reasoning_tokens": 8,
    }
    assert (one + Usage()).reasoning_tokens is None


def test_a_budget_holds_for_the_dearest_token() -> None:
    deployment = Deployment(model="m", price=PRICE, context=1000)
    assert Need(1000, 0).usd(deployment) == Decimal("0.00375")


ANTHROPIC: dict[str, Any] = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "tiny",
    "content": [{"type": "text", "text": "42"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
}


@pytest.mark.parametrize(
    "written",
    [
        {"cache_creation_input_tokens": 30},
        # What is kept for minutes and for an hour is told apart, and LangChain zeroes the sum.
        {
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
        },
    ],
)
async def test_what_anthropic_wrote_to_its_cache_is_counted(written: Mapping[str, Any]) -> None:
    usage = {"input_tokens": 10, "output_tokens": 3, "cache_read_input_tokens": 5, **written}
    async with ScriptedModel(raw(_json({**ANTHROPIC, "usage": usage}))) as model:
        deployment = Deployment(
            provider="anthropic",
            model="tiny",
            base_url=SecretStr(model.base_url.removesuffix("/v1")),
            api_key=SecretStr(KEY),
            price=PRICE,
        )
        routes = {"smart": Route(deployments=["one"])}
        async with Gateway(Settings(deployments={"one": deployment}, routes=routes)) as gateway:
            answer = await gateway.chat(TALK)
    assert (answer.usage.prompt_tokens, answer.usage.cached_tokens) == (45, 5)
    assert answer.usage.cache_write_tokens == 30
    assert answer.cost_usd == Decimal("0.000189000")


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body).encode()
