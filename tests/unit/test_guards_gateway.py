"""Guards on a route: what a model was really sent, and what the caller got."""

import json
import re
import tomllib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from rotina.errors import GuardError, ModelOutputError, SettingsError
from rotina.gateway import ChatAnswer, ChatChunk, Gateway, MemoryLedger, RetryPolicy
from rotina.gateway.langchain import RotinaChatModel
from rotina.server.problems import problem_of
from rotina.settings import Deployment, GuardTable, Route, Settings
from tests.scripted_model import ScriptedModel, chat, events, status
from tests.unit.test_gateway_stream import DONE, USAGE, piece

CPF, MAIL, KEY = "529.982.247-25", "ana@example.org", "ghp_" + "a1B2" * 9
FAST = RetryPolicy(attempts=2, base=0.001, cap=0.002)
RESTORE = {"pii": {"kind": "pii", "action": "restore"}}
SCHEMA = {
    "type": "object",
    "properties": {"cpf": {"type": "string", "pattern": r"^[0-9.-]+$"}},
    "required": ["cpf"],
}
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as server:
        yield server


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


class Cache:
    """An `AnswerCache` in memory."""

    def __init__(self) -> None:
        self.kept: dict[bytes, ChatAnswer] = {}

    async def find(self, tenant: str, key: bytes) -> ChatAnswer | None:
        return self.kept.get(key)

    async def keep(self, tenant: str, key: bytes, answer: ChatAnswer, seconds: float) -> None:
        self.kept[key] = answer


class Slot:
    """One call's place in a record."""

    answer: bytes | None = None

    async def keep(self, answer: bytes) -> None:
        self.answer = answer

    def add(self, answer: bytes) -> None:
        raise AssertionError


class Record:
    """A `Recorder` that shows what it was given."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.slot = Slot()

    async def recall(self, kind: str, request: Mapping[str, Any]) -> Slot:
        self.asked.append(json.loads(json.dumps(request)))
        return self.slot

    def fact(self, kind: str, request: Mapping[str, Any], tell: Any) -> int:
        raise AssertionError


def settings(model: ScriptedModel, guards: dict[str, Any], **route: Any) -> Settings:
    names = ["tiny", "other"]
    one = Deployment(model="tiny", base_url=SecretStr(model.base_url))
    table = Route(deployments=names, guards=list(guards), **route)
    return Settings(
        deployments=dict.fromkeys(names, one),
        routes={"smart": table, "embed": table},
        guards={name: GuardTable(**given) for name, given in guards.items()},
    )


def gateway(model: ScriptedModel, guards: dict[str, Any], **named: Any) -> Gateway:
    route = named.pop("route", {})
    return Gateway(settings(model, guards, **route), retry=FAST, **named)


def ask(text: str) -> Any:
    return [{"role": "user", "content": text}]


async def streamed(pieces: AsyncIterator[ChatChunk]) -> list[ChatChunk]:
    return [chunk async for chunk in pieces]


def text_of(chunks: list[ChatChunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


# ── restore ───────────────────────────────────────────────────────────────────────────────────


async def test_values_do_not_leave_and_come_back(
    model: ScriptedModel, ledger: MemoryLedger
) -> None:
    question = f"O CPF {CPF} de {MAIL}; de novo {CPF}; e <CPF_1> é só texto."
    async with gateway(model, RESTORE, ledger=ledger) as guarded:
        answer = await guarded.chat(ask(question))
        chunks = await streamed(guarded.stream(ask(question)))
    sent = "O CPF <CPF_2> de <EMAIL_1>; de novo <CPF_2>; e <CPF_1> é só texto."
    assert [request.last_message for request in model.requests] == [sent, sent]
    assert answer.text == f"You said: {question}"
    assert text_of(chunks) == f"You said: {question}"
    assert sum(bool(chunk.text) for chunk in chunks) > 3, "it still comes in pieces"
    assert [call.outcome for call in ledger.calls] == ["ok", "ok"]


async def test_nothing_to_find_changes_nothing(model: ScriptedModel) -> None:
    async with gateway(model, RESTORE) as guarded:
        answer = await guarded.chat(ask("Bom dia, <CPF_1>!"))
        assert (await guarded.chat(ask(""))).text
    assert model.requests[0].last_message == "Bom dia, <CPF_1>!"
    assert answer.text == "You said: Bom dia, <CPF_1>!"


@pytest.mark.parametrize("fence", ["{}", "```json\n{}\n```"])
async def test_values_come_back_into_data_and_are_held_to_the_schema(
    model: ScriptedModel, fence: str
) -> None:
    model.script = lambda request: fence.replace("{}", '{"cpf": "\\u003cCPF_1\\u003e"}')
    found = settings(model, RESTORE)
    prompt = found.deployments["tiny"].model_copy(update={"structured_output": "prompt"})
    found = found.model_copy(update={"deployments": {"tiny": prompt, "other": prompt}})
    async with Gateway(found) as guarded:
        answer = await guarded.chat(ask(f"CPF: {CPF}"), schema=SCHEMA)
        chunks = await streamed(guarded.stream(ask(f"CPF: {CPF}"), schema=SCHEMA))
    assert answer.data == {"cpf": CPF}
    assert CPF in answer.text
    assert CPF in text_of(chunks)


async def test_parts_tool_calls_and_tool_results_are_guarded(model: ScriptedModel) -> None:
    call = {"id": "1", "type": "function"}
    arguments = json.dumps({"cpf": CPF, "number": 52998224725})
    messages: Any = [
        {"role": "user", "content": [{"type": "text", "text": f"Find {CPF}"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{**call, "function": {"name": "find", "arguments": arguments}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": f'{{"mail": "{MAIL}"}}'},
    ]
    asked = [{**call, "function": {"name": "find", "arguments": '{"q": "<EMAIL_1> <CPF_1>"}'}}]
    model.script = chat(None, finish_reason="tool_calls", tool_calls=asked)
    async with gateway(model, RESTORE) as guarded:
        answer = await guarded.chat(messages, tools=[TOOL])
        chunks = await streamed(guarded.stream(messages, tools=[TOOL]))
    sent = model.requests[0].body["messages"]
    assert sent[0]["content"] == [{"type": "text", "text": "Find <CPF_1>"}]
    told = json.loads(sent[1]["tool_calls"][0]["function"]["arguments"])
    assert told == {"cpf": "<CPF_1>", "number": "<CPF_2>"}
    assert sent[2]["content"] == '{"mail": "<EMAIL_1>"}'
    assert messages[0]["content"][0]["text"] == f"Find {CPF}", "the caller's own are not touched"
    whole = json.loads(answer.tool_calls[0]["function"]["arguments"])
    pieces = "".join(
        piece["function"].get("arguments", "") for chunk in chunks for piece in chunk.tool_calls
    )
    assert whole == json.loads(pieces) == {"q": f"{MAIL} {CPF}"}


async def test_a_placeholder_cut_between_pieces_comes_back(model: ScriptedModel) -> None:
    for cut in range(1, len("a <CPF_1> b")):
        text = "a <CPF_1> b"
        lines = [piece(text[:cut]), piece(text[cut:]), piece("", "stop"), USAGE, DONE]
        model.script = events(*lines)
        async with gateway(model, RESTORE) as guarded:
            chunks = await streamed(guarded.stream(ask(CPF)))
        assert text_of(chunks) == f"a {CPF} b"
    model.script = events(piece("a <CPF_"), piece("", "stop"), DONE)
    async with gateway(model, RESTORE) as guarded:
        assert text_of(await streamed(guarded.stream(ask(CPF)))) == "a <CPF_"


async def test_errors_and_the_log_show_placeholders(
    model: ScriptedModel, caplog: pytest.LogCaptureFixture
) -> None:
    model.script = [chat('{"cpf": "of <CPF_1>"}'), chat("no JSON, <CPF_1>")]
    async with gateway(model, RESTORE) as guarded:
        with pytest.raises(ModelOutputError) as caught:
            await guarded.chat(ask(CPF), schema=SCHEMA)
        with pytest.raises(ModelOutputError) as streaming:
            await streamed(guarded.stream(ask(CPF), schema=SCHEMA))
    for told in (str(caught.value), str(streaming.value), caplog.text):
        assert "<CPF_1>" in told
        assert CPF not in told


async def test_a_value_that_the_schema_does_not_take_is_told_without_it(
    model: ScriptedModel,
) -> None:
    model.script = {"cpf": "<CPF_1>"}
    schema = {"type": "object", "properties": {"cpf": {"type": "string", "maxLength": 8}}}
    async with gateway(model, RESTORE) as guarded:
        with pytest.raises(ModelOutputError, match="'<CPF_1>' is too long") as caught:
            await guarded.chat(ask(CPF), schema=schema)
    assert CPF not in str(caught.value)


async def test_runs_and_the_cache_keep_what_the_caller_got(model: ScriptedModel) -> None:
    record, cache = Record(), Cache()
    async with gateway(model, RESTORE, cache=cache, route={"cache_seconds": 60}) as guarded:
        answer = await guarded.recorded(record).chat(ask(CPF))
        again = await guarded.recorded(record).chat(ask(CPF))
        cached = await guarded.chat(ask(CPF))
        assert record.asked[0]["messages"] == ask(CPF), "a digest of what was asked, not of <CPF_1>"
        record.slot = Slot()
        chunks = await streamed(guarded.recorded(record).stream(ask(CPF)))
    assert answer.text == again.text == cached.text == f"You said: {CPF}"
    assert cached.cached
    assert len(model.requests) == 2
    kept = ChatChunk.model_validate_json(record.slot.answer or b"")
    assert kept.text == text_of(chunks) == f"You said: {CPF}"
    # Another guard is another question.
    redact = {"pii": {"kind": "pii"}}
    async with gateway(model, redact, cache=cache, route={"cache_seconds": 60}) as guarded:
        assert (await guarded.chat(ask(CPF))).text == "You said: <CPF>"


async def test_what_is_embedded_does_not_hang_on_what_is_beside_it(model: ScriptedModel) -> None:
    async with gateway(model, RESTORE) as guarded:
        await guarded.embed([f"a {MAIL}", f"b {CPF}", "c 168.995.350-09"], route="embed")
        assert (await guarded.embed([], route="embed")).vectors == []
    assert model.requests[0].body["input"] == ["a <EMAIL>", "b <CPF>", "c <CPF>"]


# ── redact and refuse ─────────────────────────────────────────────────────────────────────────

REDACT = {"keys": {"kind": "secrets"}, "pii": {"kind": "pii", "entities": ["cpf"]}}


async def test_what_is_redacted_is_gone_both_ways(model: ScriptedModel) -> None:
    model.script = f"{MAIL} has {CPF} and {KEY}"
    async with gateway(model, REDACT) as guarded:
        answer = await guarded.chat(ask(f"{MAIL} {CPF} {KEY}"))
        chunks = await streamed(guarded.stream(ask("x")))
    assert model.requests[0].last_message == f"{MAIL} <CPF> <GITHUB_TOKEN>"
    assert answer.text == f"{MAIL} has <CPF> and <GITHUB_TOKEN>"
    assert text_of(chunks) == answer.text
    assert [chunk.finish_reason for chunk in chunks] == ["stop"], "it is looked at whole"
    assert chunks[-1].usage is not None


async def test_redacted_data_is_held_to_the_schema(model: ScriptedModel) -> None:
    model.script = {"cpf": CPF}
    async with gateway(model, REDACT) as guarded:
        answer = await guarded.chat(ask("x"), schema={"type": "object"})
        assert answer.data == {"cpf": "<CPF>"}
        with pytest.raises(ModelOutputError, match="<CPF>") as caught:
            await guarded.chat(ask("x"), schema=SCHEMA)
    assert CPF not in str(caught.value)


async def test_tool_calls_of_a_stream_are_looked_at_whole(model: ScriptedModel) -> None:
    function = {"name": "find", "arguments": json.dumps({"q": CPF})}
    called = [{"id": "1", "type": "function", "function": function}]
    model.script = chat(None, finish_reason="tool_calls", tool_calls=called)
    async with gateway(model, REDACT) as guarded:
        (chunk,) = await streamed(guarded.stream(ask("x"), tools=[TOOL]))
    (call,) = chunk.tool_calls
    assert call["function"] == {"name": "find", "arguments": '{"q": "<CPF>"}'}
    assert (call["index"], call["id"]) == (0, "1")


@pytest.mark.parametrize(
    ("guard", "told"),
    [
        (
            {"kind": "pii", "action": "refuse"},
            r"'g' refused the request: it holds .*a CPF \(2 times",
        ),
        ({"kind": "secrets", "action": "refuse"}, "it holds a GitHub token"),
        ({"kind": "size", "max_chars": 20}, "more than 20 characters"),
        ({"kind": "size", "max_messages": 1}, "2 messages, and may have 1"),
    ],
)
async def test_a_refused_request_is_not_sent(
    model: ScriptedModel, ledger: MemoryLedger, guard: dict[str, Any], told: str
) -> None:
    question = [{"role": "system", "content": "You help."}, *ask(f"{CPF} {KEY} {CPF}")]
    async with gateway(model, {"g": guard}, ledger=ledger) as guarded:
        with pytest.raises(GuardError, match=told) as caught:
            await guarded.chat(question)
        with pytest.raises(GuardError, match=told):
            await streamed(guarded.stream(question))
    assert model.requests == []
    assert ledger.calls == []
    assert CPF not in str(caught.value)
    assert KEY not in str(caught.value)
    assert problem_of(caught.value).status == 422


@pytest.mark.parametrize(
    ("guard", "told"),
    [
        (
            {"kind": "pii", "action": "refuse", "on": ["output"]},
            "refused the answer: it holds a CPF",
        ),
        ({"kind": "secrets", "action": "refuse"}, "refused the answer: it holds a GitHub token"),
        ({"kind": "size", "max_chars": 20, "on": ["output"]}, "the answer: it has more than 20"),
    ],
)
async def test_a_refused_answer_is_paid_for_and_asked_of_nobody_else(
    model: ScriptedModel, ledger: MemoryLedger, guard: dict[str, Any], told: str
) -> None:
    model.script = f"It is {CPF}, {KEY}"
    async with gateway(model, {"g": guard}, ledger=ledger) as guarded:
        with pytest.raises(GuardError, match=told):
            await guarded.chat(ask("Which CPF has the customer, please?"[:20]))
        got: list[ChatChunk] = []

        async def stream() -> None:
            async for chunk in guarded.stream(ask("Which?")):
                got.append(chunk)  # noqa: PERF401 - what came before the error counts

        with pytest.raises(GuardError, match=told):
            await stream()
    assert len(model.requests) == 2
    assert [call.outcome for call in ledger.calls] == ["GuardError", "GuardError"]
    assert ledger.calls[0].completion_tokens
    assert CPF not in text_of(got)
    assert len(text_of(got)) <= 20


async def test_the_order_is_an_onion(model: ScriptedModel) -> None:
    """The outer guard sees the answer with its values back in it."""
    outer = {"keys": {"kind": "pii", "action": "refuse", "on": ["output"]}, **RESTORE}
    async with gateway(model, outer) as guarded:
        with pytest.raises(GuardError, match="refused the answer: it holds a CPF"):
            await guarded.chat(ask(CPF))
    inner = {**RESTORE, "keys": {"kind": "pii", "action": "refuse", "on": ["output"]}}
    async with gateway(model, inner) as guarded:
        assert (await guarded.chat(ask(CPF))).text == f"You said: {CPF}"


async def test_a_stream_that_is_looked_at_whole_may_still_go_elsewhere(
    model: ScriptedModel,
) -> None:
    for nothing in (events(piece("half"), drop=True), events(USAGE, DONE)):
        model.script = [nothing, chat(f"whole {KEY}")]
        async with gateway(model, REDACT) as guarded:
            chunks = await streamed(guarded.stream(ask("x")))
        assert text_of(chunks) == "whole <GITHUB_TOKEN>"


async def test_a_long_text_is_guarded_too(model: ScriptedModel) -> None:
    async with gateway(model, RESTORE) as guarded:
        answer = await guarded.chat(ask("nada aqui. " * 3000 + CPF))
        model.script = status(400)
        assert answer.text.endswith(CPF)
    assert model.requests[0].last_message.endswith("<CPF_1>")


async def test_langchain_is_guarded_too(model: ScriptedModel) -> None:
    async with gateway(model, RESTORE) as guarded:
        answer = await RotinaChatModel(gateway=guarded).ainvoke(f"CPF {CPF}")
    assert answer.content == f"You said: CPF {CPF}"
    assert CPF not in model.requests[0].prompt


# ── settings ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"kind": "size"}, "which needs one"),
        ({"kind": "pii", "max_chars": 3}, "belong to kind"),
        ({"kind": "secrets", "entities": ["cpf"]}, "for kind"),
        ({"kind": "secrets", "action": "restore"}, "for kind"),
        ({"kind": "pii", "action": "restore", "on": ["input"]}, "on input and output"),
        ({"kind": "size", "max_chars": 3, "action": "redact"}, "can only refuse"),
        ({"kind": "pii", "entities": ["name"]}, "'email'"),
        ({"kind": "pii", "entities": []}, "at least 1"),
        ({"kind": "pii", "on": []}, "at least 1"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(table: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        GuardTable(**table)


def test_the_table_of_the_page_is_one() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "guards.md"
    found = re.search(r"^```toml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    assert found
    table = {**tomllib.loads(found[1]), "deployments": {"api": Deployment(model="tiny")}}
    assert Settings(**table).routes["smart"].guards == ["size", "customers", "keys"]


def test_a_guard_that_is_not_declared_is_named() -> None:
    one = Deployment(model="tiny")
    with pytest.raises(ValidationError, match=r"routes\.smart names the guard 'pii'.*guards\.pii"):
        Settings(
            deployments={"tiny": one},
            routes={"smart": Route(deployments=["tiny"], guards=["pii"])},
        )


async def test_a_missing_extra_is_told_before_anything_is_sent(
    model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"rotina\[guards\]"):
        gateway(model, RESTORE)
    async with gateway(model, {"keys": {"kind": "secrets"}}) as guarded:
        assert (await guarded.chat(ask("x"))).text
