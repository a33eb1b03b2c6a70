"""Structured output: how a schema is asked for, what is done about refusals and bad answers."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, ValidationError, field_validator

from rotina.errors import (
    ModelError,
    ModelOutputError,
    ModelRequestError,
    ModelServerError,
    SchemaError,
)
from rotina.gateway import Gateway, MemoryLedger, ModelCall, RetryPolicy
from rotina.gateway.budget import Need
from rotina.gateway.ladder import Learned
from rotina.gateway.structured import Contract
from rotina.settings import Deployment, Price, Route, Settings
from tests.scripted_model import (
    Answer,
    Behaviour,
    Request,
    ScriptedModel,
    chat,
    event,
    events,
    status,
)

FAST = RetryPolicy(attempts=3, base=0.001, cap=0.002)
ASK: Any = [{"role": "user", "content": "How much is it?"}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"total": {"type": "number"}},
    "required": ["total"],
    "additionalProperties": False,
}
PATTERNED: dict[str, Any] = {
    "type": "object",
    "properties": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
    "required": ["zip"],
}
PRICE = Price(input=1.0, output=1.0)


class Invoice(BaseModel):
    """An invoice whose number has a check that no schema tells."""

    number: str
    total: Decimal

    @field_validator("number")
    @classmethod
    def _is_ours(cls, number: str) -> str:
        if not number.startswith("N"):
            raise ValueError("our numbers begin with N")
        return number


@dataclass
class Stage:
    """A scripted model, a gateway that uses it, and what the gateway recorded."""

    model: ScriptedModel
    gateway: Gateway
    ledger: MemoryLedger = field(default_factory=MemoryLedger)

    def outcomes(self) -> list[tuple[str, int]]:
        """Outcome and tries of each recorded call."""
        return [(call.outcome, call.attempts) for call in self.ledger.calls]


@asynccontextmanager
async def staged(
    script: Any = None, *, repairs: int = 1, **deployment: Any
) -> AsyncIterator[Stage]:
    """A stage with one deployment."""
    ledger = MemoryLedger()
    async with ScriptedModel(script) as model:
        made = Deployment(
            model="tiny", base_url=SecretStr(model.base_url), price=PRICE, **deployment
        )
        route = Route(deployments=["one"], repairs=repairs)
        settings = Settings(deployments={"one": made}, routes={"smart": route})
        async with Gateway(settings, ledger, retry=FAST) as gateway:
            yield Stage(model, gateway, ledger)


# ── how it is asked for ───────────────────────────────────────────────────────────────────────


async def test_the_schema_goes_on_the_wire() -> None:
    async with staged() as stage:
        answer = await stage.gateway.chat(ASK, schema=SCHEMA, schema_name="an invoice")
    assert answer.data == {"total": 1.5}
    wanted = stage.model.requests[0].body["response_format"]["json_schema"]
    assert wanted == {"name": "an_invoice", "schema": SCHEMA, "strict": True}


async def test_prompt_mode_asks_in_the_prompt() -> None:
    messages: Any = [{"role": "system", "content": "You read invoices."}, *ASK]
    async with staged('```json\n{"total": 3}\n```', structured_output="prompt") as stage:
        answer = await stage.gateway.chat(messages, schema=SCHEMA)
    assert answer.data == {"total": 3}
    sent = stage.model.requests[0]
    assert "response_format" not in sent.body
    assert sent.body["messages"][0]["content"].startswith("You read invoices.\n\n")
    assert json.dumps(SCHEMA, separators=(",", ":")) in sent.body["messages"][0]["content"]


async def test_grammar_mode_is_vllms() -> None:
    async with staged({"total": 3}, structured_output="grammar") as stage:
        assert (await stage.gateway.chat(ASK, schema=SCHEMA)).data == {"total": 3}
    (request,) = stage.model.requests
    assert request.body["structured_outputs"] == {"json": SCHEMA}
    assert "response_format" not in request.body


def tool_call(arguments: str, name: str = "output") -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("reason", ["tool_calls", "stop"])
async def test_tool_mode_takes_the_arguments_for_the_answer(reason: str) -> None:
    said = chat(None, finish_reason=reason, tool_calls=[tool_call('{"total": 3}')])
    async with staged(said, structured_output="tool") as stage:
        answer = await stage.gateway.chat(ASK, schema=SCHEMA, schema_name="an invoice")
        grown = [value async for value in stage.gateway.stream_data(ASK, schema=SCHEMA)]
    assert (answer.data, answer.text) == ({"total": 3}, '{"total": 3}')
    assert (answer.tool_calls, answer.finish_reason) == ((), "stop")
    assert grown[-1] == {"total": 3}
    body = stage.model.requests[0].body
    function = {"name": "an_invoice", "parameters": SCHEMA}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "an_invoice"}}
    assert stage.outcomes() == [("ok", 1), ("ok", 1)]


async def test_tool_mode_takes_a_text_too() -> None:
    async with staged('```\n{"total": 3}\n```', structured_output="tool") as stage:
        assert (await stage.gateway.chat(ASK, schema=SCHEMA)).data == {"total": 3}


@pytest.mark.parametrize(
    "options",
    [
        {"schema": {"type": "array"}},
        {"schema": SCHEMA, "tools": [{"type": "function", "function": {"name": "f"}}]},
    ],
)
async def test_what_no_tool_can_hold_is_asked_for_in_the_prompt(options: dict[str, Any]) -> None:
    good: Answer = [1] if options["schema"]["type"] == "array" else {"total": 1}
    async with staged(lambda _: good, structured_output="tool") as stage:
        assert (await stage.gateway.chat(ASK, **options)).data == good
    assert "tool_choice" not in stage.model.requests[0].body
    assert "JSON Schema" in stage.model.requests[0].prompt


# ── schemas and models ────────────────────────────────────────────────────────────────────────


async def test_a_pydantic_model_is_a_schema_with_its_own_checks() -> None:
    script = [{"number": "7", "total": "2.50"}, {"number": "N7", "total": "2.50"}]
    async with staged(script) as stage:
        answer = await stage.gateway.chat(ASK, schema=Invoice)
    assert answer.data == {"number": "N7", "total": "2.50"}
    assert answer.as_model(Invoice) == Invoice(number="N7", total=Decimal("2.50"))
    first, second = stage.model.requests
    assert first.body["response_format"]["json_schema"]["name"] == "Invoice"
    assert "at $.number: Value error, our numbers begin with N" in second.last_message
    with pytest.raises(ValidationError):
        answer.model_copy(update={"data": None}).as_model(Invoice)


@pytest.mark.parametrize("schema", [{"type": "strin"}, {"minimum": "3"}])
async def test_an_invalid_schema_is_never_sent(schema: dict[str, Any]) -> None:
    async with staged() as stage:
        with pytest.raises(SchemaError, match=r"Not a valid JSON Schema \(Draft 2020-12\)"):
            await stage.gateway.chat(ASK, schema=schema)
    assert stage.model.requests == []


@pytest.mark.parametrize("keyword", ["pattern", "patternProperties"])
async def test_a_pattern_that_python_cannot_read_is_never_sent(keyword: str) -> None:
    value: Any = "\\p{L}+" if keyword == "pattern" else {"\\p{L}+": {}}
    async with staged() as stage:
        with pytest.raises(SchemaError, match="pattern"):
            await stage.gateway.chat(ASK, schema={"properties": {"pattern": {keyword: value}}})
    assert stage.model.requests == []
    Contract({"properties": {"pattern": {"const": {"pattern": "\\p{L}+"}}}})


@pytest.mark.parametrize(
    "schema",
    [{"$ref": "http://127.0.0.1:9/s.json"}, {"$ref": "#/$defs/missing"}, {"$ref": "#"}],
)
async def test_a_reference_that_leads_nowhere(schema: dict[str, Any]) -> None:
    async with staged({"a": 1}) as stage:
        with pytest.raises(SchemaError, match="refers to"):
            await stage.gateway.chat(ASK, schema=schema)


def test_an_older_dialect_is_read_as_such() -> None:
    dialect = "http://json-schema.org/draft-04/schema#"
    contract = Contract({"$schema": dialect, "minimum": 3, "exclusiveMinimum": True})
    assert contract.examine("3", fenced=False).problems
    assert not contract.examine("4", fenced=False).problems
    with pytest.raises(SchemaError, match="Draft 4"):
        Contract({"$schema": dialect, "exclusiveMinimum": 3})
    # The meta-schema comes with the library: nothing is fetched.
    assert not Contract({"$ref": dialect}).examine("{}", fenced=False).problems


# ── repair ────────────────────────────────────────────────────────────────────────────────────


BAD = ['{"total": ', '{"total": NaN}', '{"total": "3"}', "{}", '{"total": 1, "x": 2}', "[]"]


@pytest.mark.parametrize("text", [*BAD, '{"total": "três euros"}'])
async def test_a_bad_answer_is_sent_back_with_what_is_wrong(text: str) -> None:
    async with staged([text, {"total": 3}]) as stage:
        answer = await stage.gateway.chat(ASK, schema=SCHEMA)
    assert answer.data == {"total": 3}
    first, second = stage.model.requests
    assert second.body["messages"][:-2] == first.body["messages"]
    said, asked = second.body["messages"][-2:]
    assert said == {"role": "assistant", "content": text}
    assert asked["role"] == "user"
    assert (
        "is not JSON" in asked["content"] or "does not follow the schema at $" in asked["content"]
    )
    assert second.body["response_format"] == first.body["response_format"]
    # Both are paid for, and are one call.
    (call,) = stage.ledger.calls
    assert (call.outcome, call.attempts, answer.attempts) == ("ok", 2, 2)
    assert call.prompt_tokens == 4 + 4 + len(text.split()) + len(asked["content"].split())
    assert call.cost_usd == answer.cost_usd == cost_of(call)


def cost_of(call: ModelCall) -> Decimal:
    assert call.prompt_tokens is not None
    assert call.completion_tokens is not None
    return Decimal(call.prompt_tokens + call.completion_tokens) / 1_000_000


@pytest.mark.parametrize("repairs", [0, 1, 3])
async def test_repairs_are_bounded(repairs: int) -> None:
    async with staged('{"total": "3"}', repairs=repairs) as stage:
        with pytest.raises(ModelOutputError, match=r"deployment 'one'.*at \$\.total"):
            await stage.gateway.chat(ASK, schema=SCHEMA)
    assert stage.outcomes() == [("ModelOutputError", 1 + repairs)]
    assert len(stage.model.requests) == 1 + repairs
    # The tokens of useless answers are paid for all the same.
    assert (stage.ledger.calls[0].prompt_tokens or 0) >= 4 * (1 + repairs)


async def test_many_and_long_problems_are_told_within_bounds() -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    async with staged([["x" * 5000] * 500, [1]]) as stage:
        await stage.gateway.chat(ASK, schema=schema)
    assert len(stage.model.requests[1].last_message) < 4000


async def test_an_alternative_tells_what_is_closest() -> None:
    union = {"anyOf": [{"type": "null"}, SCHEMA]}
    (problem,) = Contract(union).examine('{"total": "x"}', fenced=False).problems
    assert "at $.total: 'x' is not of type 'number'" in problem


@pytest.mark.parametrize("answer", ["", chat("no", finish_reason="content_filter")])
async def test_what_is_no_answer_at_all_is_not_repaired(answer: Behaviour | str) -> None:
    async with staged(answer) as stage:
        with pytest.raises(ModelOutputError):
            await stage.gateway.chat(ASK, schema=SCHEMA)
    assert stage.outcomes() == [("ModelOutputError", 1)]


TOO_LONG = status(400, {"error": {"code": "context_length_exceeded", "message": "m"}})


@pytest.mark.parametrize("then", [TOO_LONG, chat("{", finish_reason="length"), status(400)])
async def test_a_repair_that_fails_leaves_the_first_error(then: Behaviour) -> None:
    """Else a prompt that fitted would be told to be too long, and a cascade would end there."""
    async with staged([{"total": "3"}, then]) as stage:
        with pytest.raises(ModelOutputError, match=r"at \$\.total"):
            await stage.gateway.chat(ASK, schema=SCHEMA)
    assert stage.outcomes() == [("ModelOutputError", 2)]


async def test_a_server_that_dies_in_a_repair() -> None:
    async with staged([{"total": "3"}, status(500)]) as stage:
        with pytest.raises(ModelServerError):
            await stage.gateway.chat(ASK, schema=SCHEMA)
    (call,) = stage.ledger.calls
    assert (call.outcome, call.attempts, call.prompt_tokens) == ("ModelServerError", 4, 4)


async def test_the_next_deployment_is_asked_once_repairs_are_used_up() -> None:
    ledger = MemoryLedger()
    async with ScriptedModel({"total": "x"}) as small, ScriptedModel({"total": 3}) as large:
        deployments = {
            name: Deployment(model=name, base_url=SecretStr(server.base_url))
            for name, server in (("small", small), ("large", large))
        }
        routes = {"smart": Route(deployments=["small", "large"])}
        settings = Settings(deployments=deployments, routes=routes)
        async with Gateway(settings, ledger, retry=FAST) as gateway:
            answer = await gateway.chat(ASK, schema=SCHEMA)
    assert (answer.deployment, answer.attempts) == ("large", 1)
    assert [(c.deployment, c.outcome, c.attempts) for c in ledger.calls] == [
        ("small", "ModelOutputError", 2),
        ("large", "ok", 1),
    ]
    assert len(large.requests[0].body["messages"]) == 1, "it does not see what the other said"


def test_a_budget_holds_what_repairs_may_use() -> None:
    deployment = Deployment(model="m", context=100_000)
    once, twice = (Need.of("question", 100, rounds=rounds) for rounds in (1, 2))
    prompt, answer = once.tokens(deployment)
    prompts, answers = twice.tokens(deployment)
    assert answers == 2 * answer
    # The second prompt has the first, its answer, and what is wrong with it.
    assert prompts >= 2 * prompt + answer


# ── down-levelling ────────────────────────────────────────────────────────────────────────────


REFUSALS = [
    (400, "Invalid schema for response_format 'output': In context=('zip',), 'pattern' is not"),
    (400, "JSON schema error at #/properties/zip: unsupported regex"),
    (400, "Failed to initialize samplers: failed to parse grammar"),
    (500, "Grammar error: cannot compile"),
    (422, "The provided JSON schema contains features not supported by xgrammar."),
    (200, "The provided JSON schema contains features not supported by xgrammar."),
]


def refusing(code: int, message: str, *, all_of_them: bool = False) -> Any:
    """A server that takes no schema with a pattern, or none at all."""

    def script(request: Request) -> Answer:
        schema = request.schema
        if schema is not None and (all_of_them or "pattern" in json.dumps(schema)):
            return status(code, {"error": {"message": message, "code": 400}})
        return {"zip": "12345"}

    return script


@pytest.mark.parametrize(("code", "message"), REFUSALS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_refused_schema_is_sent_reduced_from_then_on(
    code: int, message: str, *, streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with staged(refusing(code, message)) as stage:
        for _ in range(3):
            if streamed:
                grown = [v async for v in stage.gateway.stream_data(ASK, schema=PATTERNED)]
                assert grown[-1] == {"zip": "12345"}
            else:
                await stage.gateway.chat(ASK, schema=PATTERNED)
    assert stage.outcomes() == [("ok", 2), ("ok", 1), ("ok", 1)]
    sent = stage.model.requests[1]
    assert sent.schema is not None
    assert sent.schema["properties"]["zip"] == {"type": "string"}
    # What the server cannot enforce is told in words.
    assert '#/properties/zip: pattern "^[0-9]{5}$"' in sent.prompt
    (warning,) = [record for record in caplog.records if "does not take" in record.message]
    assert "pattern at #/properties/zip" in warning.message


async def test_what_is_refused_reduced_too_is_asked_for_in_the_prompt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with staged(refusing(400, "response_format is not supported", all_of_them=True)) as stage:
        for _ in range(2):
            assert (await stage.gateway.chat(ASK, schema=PATTERNED)).data == {"zip": "12345"}
        # Nothing to leave out: straight to the prompt.
        with pytest.raises(ModelOutputError):
            await stage.gateway.chat(ASK, schema=SCHEMA)
    assert stage.outcomes() == [("ok", 3), ("ok", 1), ("ModelOutputError", 3)]
    assert "pattern" in stage.model.requests[2].prompt
    assert "asked for in the prompt" in caplog.text


async def test_the_whole_schema_still_counts() -> None:
    def script(request: Request) -> Answer:
        if request.schema is not None and "pattern" in json.dumps(request.schema):
            return status(400, {"error": {"message": "failed to parse grammar"}})
        return {"zip": "one"} if len(request.body["messages"]) == 2 else {"zip": "12345"}

    async with staged(script) as stage:
        assert (await stage.gateway.chat(ASK, schema=PATTERNED)).data == {"zip": "12345"}
    assert stage.outcomes() == [("ok", 3)]
    assert "'one' does not match" in stage.model.requests[2].last_message


async def test_a_schema_that_ends_a_servers_process_is_never_sent_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    described = {"allOf": [{"$ref": "#/$defs/node"}, {"title": "the next one"}]}
    node = {"type": "object", "properties": {"next": described}}
    async with staged(lambda _: {"next": {}}) as stage:
        await stage.gateway.chat(ASK, schema={"$ref": "#/$defs/node", "$defs": {"node": node}})
    assert "allOf" not in json.dumps(stage.model.requests[0].schema)
    assert "refers to itself through allOf" in caplog.text


async def test_a_server_that_ignores_the_schema_is_asked_in_the_prompt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fenced = 'Here you are:\n```json\n{"total": 3}\n```'

    def script(request: Request) -> Answer:
        return fenced if request.schema is not None else '```json\n{"total": 3}\n```'

    async with staged(script) as stage:
        for _ in range(2):
            assert (await stage.gateway.chat(ASK, schema=SCHEMA)).data == {"total": 3}
    assert stage.outcomes() == [("ok", 2), ("ok", 1)]
    assert "is not JSON" in caplog.text


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [(400, "max_tokens is too large", ModelRequestError), (500, "out of memory", ModelServerError)],
)
async def test_other_refusals_are_not_the_schemas(
    code: int, message: str, expected: type[ModelError]
) -> None:
    async with staged(refusing(code, message, all_of_them=True)) as stage:
        with pytest.raises(expected):
            await stage.gateway.chat(ASK, schema=PATTERNED)
    assert {request.schema is None for request in stage.model.requests} == {False}


async def test_a_server_that_takes_no_tools_is_asked_in_the_prompt() -> None:
    def script(request: Request) -> Answer:
        problem = {"error": {"message": "tool_choice is not supported"}}
        return status(400, problem) if "tool_choice" in request.body else {"total": 3}

    async with staged(script, structured_output="tool") as stage:
        assert (await stage.gateway.chat(ASK, schema=SCHEMA)).data == {"total": 3}
        grown = [value async for value in stage.gateway.stream_data(ASK, schema=SCHEMA)]
    assert grown[-1] == {"total": 3}
    assert stage.outcomes() == [("ok", 2), ("ok", 1)]


async def test_without_a_schema_nothing_is_reduced() -> None:
    async with staged(status(400, {"error": {"message": "Invalid schema for function"}})) as stage:
        with pytest.raises(ModelRequestError, match="Invalid schema"):
            await stage.gateway.chat(ASK, tools=[{"type": "function", "function": {"name": "f"}}])
    assert stage.outcomes() == [("ModelRequestError", 1)]


def test_what_was_learned_is_bounded() -> None:
    learned = Learned(size=2)
    assert learned.keep(("a", b""), "reduced")
    assert not learned.keep(("a", b""), "reduced")
    learned.keep(("b", b""), "prompt")
    assert learned.get(("a", b"")) == "reduced"
    learned.keep(("c", b""), "prompt")
    assert len(learned) == 2
    assert learned.get(("b", b"")) is None, "the one that was not asked for longest"


# ── while it is streamed ──────────────────────────────────────────────────────────────────────


def pieces(*texts: str, finish_reason: str = "stop") -> Behaviour:
    """A stream of exactly these texts."""
    deltas: list[Any] = [({"content": text}, None) for text in texts]
    lines = [
        event({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
        for delta, reason in [*deltas, ({}, finish_reason)]
    ]
    return events(*lines, "data: [DONE]\n\n")


ITEMS = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "lines": {"type": "array"}},
    "required": ["name", "lines"],
}


async def test_values_grow_and_end_whole() -> None:
    said = pieces('{"name"', ': "Jo', 'ão"', " ", ', "lines": [1', "2, {", '"a": true}', "]}", "\n")
    async with staged(said) as stage:
        grown = [value async for value in stage.gateway.stream_data(ASK, schema=ITEMS)]
    assert grown == [
        {},
        {"name": "Jo"},
        {"name": "João"},
        {"name": "João", "lines": [1]},
        {"name": "João", "lines": [12, {}]},
        {"name": "João", "lines": [12, {"a": True}]},
    ]
    assert stage.outcomes() == [("ok", 1)]


async def test_a_fence_is_no_part_of_a_growing_value() -> None:
    said = pieces("```json\n", '{"total": 1', "5}", "\n```")
    async with staged(said, structured_output="prompt") as stage:
        grown = [value async for value in stage.gateway.stream_data(ASK, schema=SCHEMA)]
    assert grown == [{"total": 1}, {"total": 15}]


async def test_one_and_true_are_two_values() -> None:
    async with staged(pieces("[1", ", true", "]")) as stage:
        grown = [v async for v in stage.gateway.stream_data(ASK, schema={"type": "array"})]
    assert grown == [[1], [1, True]]


@pytest.mark.parametrize(
    ("said", "last"),
    [
        (pieces('{"name": "x"', "}"), {"name": "x"}),
        (pieces('{"name": "x"', finish_reason="length"), {"name": "x"}),
        (pieces("Here it is"), None),
    ],
)
async def test_a_value_that_ends_unusable_raises(said: Behaviour, last: Any) -> None:
    found: list[Any] = [None]

    async def read(gateway: Gateway) -> None:
        async for value in gateway.stream_data(ASK, schema=ITEMS):
            found.append(value)  # noqa: PERF401 - what came before the error counts

    async with staged(said) as stage:
        with pytest.raises(ModelOutputError):
            await read(stage.gateway)
    assert found[-1] == last
    assert stage.ledger.calls[0].attempts == 1
