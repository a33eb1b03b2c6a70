"""The gateway's parts that need no server."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from rotina.errors import ModelRateLimitedError, ModelRequestError
from rotina.gateway.answer import Usage
from rotina.gateway.failure import excerpt
from rotina.gateway.provider import RefusedError
from rotina.gateway.retry import RetryPolicy, parse_retry_after, with_retries
from rotina.gateway.structured import Contract, fits_strict_mode


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("3", 3.0),
        ("0.5", 0.5),
        ("-1", None),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds


def test_retry_after_as_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    found = parse_retry_after(later)
    assert found is not None
    assert 55 < found <= 60


def test_waits_grow_to_the_cap_and_respect_the_server() -> None:
    policy = RetryPolicy(base=1.0, cap=3.0)
    for failures, most in [(1, 1.0), (2, 2.0), (3, 3.0), (9, 3.0)]:
        waits = [policy.wait(failures, None) for _ in range(500)]
        assert all(0 <= wait <= most for wait in waits)
        assert max(waits) > most / 2 > min(waits)
    assert all(7 <= policy.wait(1, 7.0) <= 8 for _ in range(500))


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (ModelRateLimitedError("x"), 3),
        (ModelRequestError("x"), 1),
        (RefusedError(ModelRateLimitedError("x"), retry_after=0), 3),
        (RefusedError(ModelRequestError("x"), again=True), 3),
    ],
)
async def test_only_what_may_pass_is_tried_again(error: Exception, tries: int) -> None:
    made = 0

    async def operation() -> None:
        nonlocal made
        made += 1
        raise error

    with pytest.raises((ModelRateLimitedError, ModelRequestError)):
        await with_retries(operation, RetryPolicy(base=0.001), None)
    assert made == tries


STRICT: list[tuple[dict[str, Any], bool]] = [
    (closed(a={"type": "string"}), True),
    (closed(a={"type": ["string", "null"]}, b=closed()), True),
    (closed(a={"type": "array", "items": closed()}), True),
    (closed(a={"$ref": "#/$defs/A"}) | {"$defs": {"A": closed()}}, True),
    (closed(a={"type": "object"}), False),
    (closed(a={"type": "array", "items": {"type": "object"}}), False),
    (closed(a={"anyOf": [{"type": "null"}, {"type": "object"}]}), False),
    (closed(a={"$ref": "#/$defs/A"}) | {"$defs": {"A": {"type": "object"}}}, False),
    (closed(a={"type": "string"}) | {"required": []}, False),
    (closed(a={"type": "string", "minLength": 1}), False),
    (closed(a={"oneOf": [{"type": "string"}]}), False),
    ({"type": "array", "items": closed()}, False),
    ({}, False),
]


@pytest.mark.parametrize(("schema", "fits"), STRICT)
def test_strict_mode_is_asked_for_only_where_it_fits(schema: dict[str, Any], fits: bool) -> None:
    assert fits_strict_mode(schema) is fits


@pytest.mark.parametrize(
    "text", ["```json\n[1]\n```", "```\n[1]\n```", " \n```JSON\n[1]```\n", "[1]", " [1]\n"]
)
def test_fences_are_tolerated_in_prompt_mode(text: str) -> None:
    assert Contract({"type": "array"}).examine(text, fenced=True).data == [1]
    assert Contract({"type": "array"}).examine(text, fenced=False).is_json is ("`" not in text)


@pytest.mark.parametrize("text", ["Here: [1]", "```json\n[1]\n``` as asked", "[1] [2]", ""])
def test_prose_around_json_is_not_tolerated(text: str) -> None:
    found = Contract({"type": "array"}).examine(text, fenced=True)
    assert not found.is_json
    assert found.problems[0].startswith("is not JSON (")


def test_the_shallowest_problem_is_named() -> None:
    schema = closed(a=closed(b={"type": "integer"}))
    (problem,) = Contract(schema).examine('{"a": {"b": "x"}}', fenced=False).problems
    assert problem == "does not follow the schema at $.a.b: 'x' is not of type 'integer'"


@pytest.mark.parametrize(
    "secret",
    ["sk-abcdefghijkl", "Bearer abc.def-123456", "AIzaSyA1234567890abcdefghijk", "hf_abcdefghijk"],
)
def test_what_looks_like_a_key_is_hidden(secret: str) -> None:
    shown = excerpt(f"the key {secret} is wrong\n\x1b[31mred " + "x" * 5000)
    assert secret.rsplit(maxsplit=1)[-1] not in shown
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert len(shown) <= 201


def test_unknown_tokens_stay_unknown() -> None:
    known = Usage(prompt_tokens=1, completion_tokens=2)
    total = known + Usage(prompt_tokens=4)
    assert (total.prompt_tokens, total.completion_tokens) == (5, None)
