"""Whether a prompt fits is looked at before anything is sent; truncation only where allowed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from rotina.errors import ContextTooLongError, ModelCapabilityError, SettingsError
from rotina.gateway import Gateway, MemoryLedger, RetryPolicy
from rotina.gateway.answer import ChatRequest
from rotina.gateway.fit import Meter
from rotina.gateway.tokens import Encoding, weigh
from rotina.settings import Deployment, Route, Settings
from tests.scripted_model import ScriptedModel, status

FAST = RetryPolicy(attempts=1)
O200K = Encoding("o200k_base")
TOO_LONG = status(400, {"error": {"code": "context_length_exceeded", "message": "m"}})


def asking(text: str) -> Any:
    return [{"role": "user", "content": text}]


@pytest.fixture
async def models() -> AsyncIterator[tuple[ScriptedModel, ScriptedModel]]:
    async with ScriptedModel("I am a.") as a, ScriptedModel("I am b.") as b:
        yield a, b


def settings_for(models: tuple[ScriptedModel, ...], *fields: dict[str, Any]) -> Settings:
    names = "ab"[: len(fields)]
    deployments = {
        name: Deployment(model="tiny", base_url=SecretStr(model.base_url), **given)
        for name, model, given in zip(names, models, fields, strict=False)
    }
    route = Route(deployments=list(names))
    return Settings(deployments=deployments, routes={"smart": route, "embed": route})


KNOWN: dict[str, Any] = {"context": 256, "tokenizer": "o200k_base"}


async def test_what_cannot_fit_is_not_sent(models: tuple[ScriptedModel, ScriptedModel]) -> None:
    ledger = MemoryLedger()
    async with Gateway(settings_for(models, KNOWN), ledger, retry=FAST) as gateway:
        with pytest.raises(ContextTooLongError, match=r"takes 256 tokens.*at least 496.*answer 1:"):
            await gateway.chat(asking("um " * 250 + "dois " * 250))
        with pytest.raises(ContextTooLongError, match="answer 200"):
            await gateway.chat(asking("word " * 100), max_tokens=200)
        with pytest.raises(ContextTooLongError):
            async for _ in gateway.stream(asking("word " * 500)):
                pass
        assert (await gateway.chat(asking("word " * 100), max_tokens=20)).text == "I am a."
    assert len(models[0].requests) == 1
    rows = [(call.outcome, call.attempts, call.cost_usd) for call in ledger.calls]
    assert rows == [("ContextTooLongError", 0, None)] * 3 + [("ok", 1, None)]


async def test_the_route_goes_on_to_a_larger_context(
    models: tuple[ScriptedModel, ScriptedModel],
) -> None:
    async with Gateway(settings_for(models, KNOWN, {"context": 9000}), retry=FAST) as gateway:
        assert (await gateway.chat(asking("word " * 500))).deployment == "b"
        pieces = [chunk.text async for chunk in gateway.stream(asking("word " * 500))]
        assert "".join(pieces) == "I am b."
    assert [len(model.requests) for model in models] == [0, 2]


async def test_an_estimate_refuses_only_what_is_absurd(
    models: tuple[ScriptedModel, ScriptedModel],
) -> None:
    async with Gateway(settings_for(models, {"context": 256}), retry=FAST) as gateway:
        assert (await gateway.chat(asking("word " * 500))).text == "I am a.", "the server decides"
        models[0].script = TOO_LONG
        with pytest.raises(ContextTooLongError):
            await gateway.chat(asking("word " * 500))
        sent = len(models[0].requests)
        with pytest.raises(ContextTooLongError, match="estimate"):
            await gateway.chat(asking("palavra " * 5000))
        with pytest.raises(ContextTooLongError, match="estimate"):
            await gateway.chat(asking("漢" * 50_000))
        assert len(models[0].requests) == sent


async def test_an_answers_thoughts_and_white_space_may_be_left_out_by_a_template() -> None:
    meter = Meter("a", Deployment(model="m", **KNOWN), Path())
    thoughts: Any = {"role": "assistant", "content": "<think>" + "hmm " * 900 + "</think>\nYes."}
    await meter.check(ChatRequest([*asking("Hi"), thoughts, *asking(" \n" * 900 + "And?")]))


async def test_what_has_fewer_bytes_than_the_context_is_not_counted() -> None:
    meter = Meter("a", Deployment(model="m", context=256, tokenizer="nowhere.json"), Path())
    await meter.check(ChatRequest(asking("é" * 127), max_tokens=2))
    with pytest.raises(SettingsError, match=r"nowhere\.json"):
        await meter.check(ChatRequest(asking("é" * 127), max_tokens=3))


CONTENTS = st.text(max_size=80) | st.builds(
    str.__mul__, st.sampled_from(["a", "ã ", "word ", "👍", "12", "\n", " "]), st.integers(0, 900)
)


@settings(deadline=None)
@given(st.lists(CONTENTS, min_size=1, max_size=6), st.sampled_from([1, 50]), st.booleans())
async def test_what_may_fit_is_never_refused(texts: list[str], answer: int, known: bool) -> None:
    """Whatever a server counts, tokens of the texts alone are the least that it counts."""
    messages: Any = [{"role": "user", "content": text} for text in texts]
    tokenizer = "o200k_base" if known else None
    meter = Meter("a", Deployment(model="m", context=256, tokenizer=tokenizer), Path())
    fits = sum(map(O200K.count, texts)) + answer <= 256
    try:
        await meter.check(ChatRequest(messages, max_tokens=answer))
    except ContextTooLongError:
        assert not fits


@settings(deadline=None)
@given(st.lists(CONTENTS, min_size=1, max_size=6))
async def test_a_budget_holds_at_least_what_the_messages_count(texts: list[str]) -> None:
    messages: Any = [{"role": "user", "content": text} for text in texts]
    request = ChatRequest(messages, max_tokens=10)
    for tokenizer in ("o200k_base", None):
        meter = Meter("a", Deployment(model="m", tokenizer=tokenizer), Path())
        assert (await meter.need(request)).prompt >= sum(weigh(m, O200K) for m in messages)


async def test_an_exact_count_holds_less_of_a_budget() -> None:
    request = ChatRequest(asking("The answer is in the document. " * 2000), max_tokens=10)
    exact = await Meter("a", Deployment(model="m", tokenizer="o200k_base"), Path()).need(request)
    bytewise = await Meter("a", Deployment(model="m"), Path()).need(request)
    assert exact.prompt * 3 < bytewise.prompt


TALK: Any = [
    {"role": "system", "content": "Seja breve."},
    {"role": "user", "content": "Qual é o prazo? " * 40},
    {"role": "assistant", "content": "Cinco dias. " * 40},
    {"role": "user", "content": "E o preço?"},
]


async def test_a_prompt_is_shortened_only_on_request(
    models: tuple[ScriptedModel, ScriptedModel],
) -> None:
    async with Gateway(settings_for(models, KNOWN), retry=FAST) as gateway:
        with pytest.raises(ContextTooLongError):
            await gateway.chat(TALK)
        answer = await gateway.chat(TALK, truncate="oldest", max_tokens=50)
        assert answer.truncated_messages == 2
        chunks = [chunk async for chunk in gateway.stream(TALK, truncate="oldest")]
        assert [chunk.truncated_messages for chunk in chunks] == [2] + [0] * (len(chunks) - 1)
        assert (await gateway.chat(asking("Oi"), truncate="oldest")).truncated_messages == 0
        with pytest.raises(ContextTooLongError, match="at least"):
            await gateway.chat(asking("Oi " * 900), truncate="oldest")
        answer = await gateway.chat(asking("Oi " * 900), truncate="middle")
        assert answer.truncated_messages == 1
    sent = models[0].requests
    assert sent[0].body["messages"] == sent[1].body["messages"] == [TALK[0], TALK[3]]
    assert "characters left out" in sent[-1].last_message
    assert all("truncate" not in request.body for request in sent)


async def test_a_larger_context_is_asked_before_anything_is_cut(
    models: tuple[ScriptedModel, ScriptedModel],
) -> None:
    async with Gateway(settings_for(models, KNOWN, {"context": 9000}), retry=FAST) as gateway:
        answer = await gateway.chat(TALK, truncate="oldest")
        assert (answer.deployment, answer.truncated_messages) == ("b", 0)
    assert not models[0].requests


def test_the_policy_is_part_of_what_was_asked() -> None:
    plain, cut = ChatRequest(TALK), ChatRequest(TALK, truncate="oldest")
    assert "truncate" not in plain.asked(), "records from before it was there are still found"
    assert cut.asked() == {**plain.asked(), "truncate": "oldest"}


TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
IMAGE: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]


async def test_what_a_deployment_cannot_do_is_asked_elsewhere(
    models: tuple[ScriptedModel, ScriptedModel],
) -> None:
    plain = {"capabilities": {"json_schema"}}
    able = {"capabilities": {"tools", "vision", "embeddings"}}
    async with Gateway(settings_for(models, plain, able), retry=FAST) as gateway:
        assert (await gateway.chat(asking("Hi"))).deployment == "a"
        assert (await gateway.chat(asking("Hi"), tools=[TOOL])).deployment == "b"
        assert (await gateway.chat(IMAGE)).deployment == "b"
        models[1].script = None
        assert (await gateway.embed(["Hi"])).deployment == "b"


async def test_what_no_deployment_can_do_is_refused(
    models: tuple[ScriptedModel, ScriptedModel],
) -> None:
    async with Gateway(settings_for(models, {"capabilities": {"vision"}}), retry=FAST) as gateway:
        with pytest.raises(ModelCapabilityError, match=r"needs tools.*'smart'.*capabilities"):
            await gateway.chat(asking("Hi"), tools=[TOOL])
        with pytest.raises(ModelCapabilityError, match="embeddings"):
            await gateway.embed(["Hi"])
    assert not models[0].requests


async def test_a_schema_is_asked_for_in_words_where_the_server_cannot(
    models: tuple[ScriptedModel, ScriptedModel],
) -> None:
    models[0].script = "{}"
    async with Gateway(settings_for(models, {"capabilities": {"tools"}}), retry=FAST) as gateway:
        assert (await gateway.chat(asking("Hi"), schema={"type": "object"})).data == {}
    assert models[0].requests[0].schema is None
