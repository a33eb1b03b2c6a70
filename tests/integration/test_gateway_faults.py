"""Every fault of an upstream: what the caller sees, what was sent, what ledger and budget say.

The same table is played for a complete answer and for a stream. After each scenario no slot, no
hold and no connection is left.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

import aiohttp
import pytest
from pydantic import SecretStr

from rotina.database import Pool
from rotina.errors import (
    ContextTooLongError,
    ModelAuthError,
    ModelError,
    ModelMissingError,
    ModelOutputError,
    ModelRateLimitedError,
    ModelServerError,
    ModelTimeoutError,
    ModelTruncatedError,
    ModelUnreachableError,
)
from rotina.gateway import Gateway, PostgresLedger, RetryPolicy, openai_wire
from rotina.gateway import http as gateway_http
from rotina.settings import Budget, Deployment, Price, Route, Settings
from tests.scripted_model import (
    ScriptedModel,
    chat,
    choices,
    closing,
    drip,
    drop,
    drop_mid_body,
    event,
    events,
    giant,
    hang,
    hang_mid_body,
    raw,
    status,
    unused_port,
)

ASK: Any = [{"role": "user", "content": "How much is it?"}]
FAST = RetryPolicy(attempts=3, base=0.001, cap=0.002)
DOLLAR = Decimal("0.000001")
PRICE = Price(input=1.0, output=1.0)
"""A dollar a million tokens, so that a token costs `DOLLAR`."""
LIMIT = 20
DONE = "data: [DONE]\n\n"
HEAD = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
USAGE = event({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}})

Spent = Literal["nothing", "counted", "all that was held"]


def piece(text: str, finish_reason: str | None = None) -> str:
    """One event of a stream."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return event({"choices": [choice], "model": "scripted"})


@dataclass(frozen=True)
class Expected:
    """What comes of one call."""

    outcome: str | type[ModelError]
    """The text of the answer, or the error."""
    essential: str = ""
    """A regular expression that the error's message has."""
    attempts: int = 1
    tokens: tuple[int, int] | None = None
    """Of prompt and answer, as the ledger has them; None: unknown."""
    spent: Spent = "nothing"
    """What the budget says."""
    requests: int | None = None
    """That arrived; None: as many as `attempts`."""


@dataclass(frozen=True)
class Fault:
    """One way to fail, and what comes of it."""

    name: str
    script: Any
    chat: Expected | None
    stream: Expected | None
    url: str = ""
    """Instead of the scripted server's."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the call."""
    deployment: dict[str, Any] = field(default_factory=dict)


def same(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """The same for a complete answer and for a stream."""
    found = Expected(*args, **kwargs)
    return {"chat": found, "stream": found}


def output(essential: str, **kwargs: Any) -> Expected:
    """An unusable answer, which was paid for."""
    return Expected(ModelOutputError, essential, **{"spent": "all that was held", **kwargs})


TOO_LONG = {"error": {"code": "context_length_exceeded", "message": "too long"}}
NO_MODEL = {"error": {"code": "model_not_found", "message": "no such model"}}
WHOLE = json.dumps(
    {
        "choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 1},
    }
).encode()
TIMED_OUT: dict[str, Any] = {"spent": "all that was held"}
FINE = (4, 1)

FAULTS = [
    Fault("429 without Retry-After", status(429), **same(ModelRateLimitedError, "429", 3)),
    Fault(
        "429 with Retry-After that fits",
        [status(429, retry_after="0"), "fine"],
        **same("fine", "", 2, FINE, "counted"),
    ),
    Fault(
        "429 with Retry-After after the deadline",
        status(429, retry_after="3600"),
        **same(ModelRateLimitedError, "429", 1),
        options={"timeout": 5},
    ),
    Fault("500", status(500), **same(ModelServerError, r"failed \(500\)", 3)),
    Fault("503", status(503, "overloaded"), **same(ModelServerError, "503.*overloaded", 3)),
    Fault("503 that passes", [status(503), "fine"], **same("fine", "", 2, FINE, "counted")),
    Fault(
        "connection refused",
        None,
        **same(ModelUnreachableError, "Cannot connect.*is the server running", 3, requests=0),
        url=f"http://127.0.0.1:{unused_port()}/v1",
    ),
    Fault(
        "no such host",
        None,
        **same(ModelUnreachableError, "Cannot connect to.*nowhere.invalid", 3, requests=0),
        url="http://nowhere.invalid/v1",
    ),
    Fault(
        "TLS where there is none",
        None,
        **same(ModelUnreachableError, "TLS", 3, requests=0),
        url="https",
    ),
    Fault(
        "hang before headers",
        hang(),
        **same(ModelTimeoutError, r"within 0\.2 s", **TIMED_OUT),
        options={"timeout": 0.2},
    ),
    Fault(
        "hang in the middle",
        hang_mid_body(),
        Expected(ModelTimeoutError, r"within 0\.2 s", **TIMED_OUT),
        None,
        options={"timeout": 0.2},
    ),
    Fault(
        "hang in the middle of a stream",
        events(HEAD, piece("a"), hang=True),
        None,
        Expected(ModelTimeoutError, r"sent nothing for 0\.2 s", **TIMED_OUT),
        deployment={"idle_timeout": 0.2},
    ),
    Fault(
        "slow drip that never pauses",
        drip(WHOLE, gap=0.1),
        Expected(ModelTimeoutError, r"within 0\.4 s", **TIMED_OUT),
        None,
        options={"timeout": 0.4},
    ),
    Fault(
        "slow drip of a stream",
        events(HEAD, *[piece("x")] * 100, gap=0.1),
        None,
        Expected(ModelTimeoutError, r"within 0\.4 s", **TIMED_OUT),
        options={"timeout": 0.4},
        deployment={"idle_timeout": 0.3},
    ),
    Fault(
        "slow drip that ends in time",
        drip(WHOLE, gap=0.001),
        **same("fine", "", 1, FINE, "counted"),
    ),
    Fault(
        "drop in the middle",
        drop_mid_body(),
        Expected(ModelUnreachableError, "dropped the connection", 3),
        None,
    ),
    Fault(
        "drop after three tokens",
        events(HEAD, piece("one"), piece(" two"), piece(" three"), drop=True),
        None,
        Expected(ModelUnreachableError, "dropped the connection", **TIMED_OUT),
    ),
    Fault(
        "drop before the first token",
        [events(HEAD, drop=True), events(HEAD, piece("fine", "stop"), USAGE, DONE)],
        None,
        Expected("fine", "", 2, (4, 2), "counted"),
    ),
    Fault("truncated JSON", raw(WHOLE[:40]), output("is not JSON"), output("is not JSON")),
    Fault(
        "truncated JSON in a stream",
        events(HEAD, piece("a"), 'data: {"choices":[{"del\n\n'),
        None,
        output("is not JSON"),
    ),
    Fault("not JSON", raw(b"no JSON"), output("is not JSON"), output("is not JSON")),
    Fault(
        "no choices",
        choices(),
        output("has no choices"),
        output("has no choices"),
    ),
    Fault("no choices in a stream", events(event({"choices": []}), DONE), None, output("finish")),
    Fault(
        "cut at its length",
        chat("The total is", finish_reason="length"),
        **same(ModelTruncatedError, "raise max_tokens", 1, (4, 3), "counted"),
    ),
    Fault(
        "a content filter",
        chat("The", finish_reason="content_filter"),
        **same(ModelOutputError, "content filter", 1, FINE, "counted"),
    ),
    Fault(
        "a content filter before the model",
        status(400, {"error": {"code": "content_filter", "message": "no"}}),
        output(r"filtered the content \(400\)"),
        output(r"filtered the content \(400\)"),
    ),
    Fault("context too long", status(400, TOO_LONG), **same(ContextTooLongError, "does not fit")),
    Fault("401", status(401), **same(ModelAuthError, "refused the credentials")),
    Fault("no such model", status(404, NO_MODEL), **same(ModelMissingError, "Check `model`")),
    Fault(
        "an error in the middle of a stream",
        events(HEAD, piece("a"), event({"error": {"message": "gpu lost"}})),
        None,
        Expected(ModelServerError, "gpu lost", **TIMED_OUT),
    ),
    Fault(
        "a giant answer",
        giant(5_000_000),
        output("larger than 1,000,000 bytes"),
        output("larger than 1,000,000 bytes"),
    ),
    Fault(
        "a giant stream",
        events(*[piece("x" * 10_000)] * 200),
        None,
        output("larger than 1,000,000 bytes"),
    ),
    Fault(
        "the same event twice",
        events(
            *["id: 1\n" + HEAD],
            *["id: 2\n" + piece("twice")] * 2,
            *["id: 3\n" + piece(" twice")],
            *["id: 4\n" + piece(" twice")],
            DONE.replace("[DONE]", piece("", "stop")[6:-2]),
            DONE,
        ),
        None,
        Expected("twice twice twice", "", 1, None, "all that was held"),
    ),
    Fault(
        "the same words twice, and one id for all",
        events(*["id: 1\n" + each for each in (HEAD, piece("ha"), piece(" ha"), piece(" ha"))],
               piece("", "stop"), USAGE, DONE),
        None,
        Expected("ha ha ha", "", 1, (4, 2), "counted"),
    ),
    Fault(
        "finish reason, usage and end twice",
        events(HEAD, piece("fine"), *[piece("", "stop")] * 2, USAGE, USAGE, DONE, DONE),
        None,
        Expected("fine", "", 1, (4, 2), "counted"),
    ),
    Fault(
        "a connection that was closed before its answer",
        [drop(), "fine"],
        **same("fine", "", 2, FINE, "counted"),
    ),
]  # fmt: skip


@dataclass
class Stage:
    """A scripted model, and a gateway with a ledger and a budget in PostgreSQL."""

    model: ScriptedModel
    gateway: Gateway
    pool: Pool

    async def answer(self, how: str, **options: Any) -> str:
        """The text of one answer."""
        asked = {"max_tokens": LIMIT, **options}
        if how == "chat":
            return (await self.gateway.chat(ASK, **asked)).text
        return "".join([chunk.text async for chunk in self.gateway.stream(ASK, **asked)])

    def left(self) -> tuple[int, int]:
        """Slots and connections that are in use."""
        lane = self.gateway._lanes.get("smart", "one")
        sessions: list[aiohttp.ClientSession] = list(
            self.gateway._lanes._sessions._sessions.values()
        )
        connectors: list[Any] = [session.connector for session in sessions]
        return lane.slots.busy, sum(len(each._acquired) for each in connectors)

    async def rows(self) -> list[dict[str, Any]]:
        """The ledger."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute("select * from rotina.model_call order by id")
            return await cursor.fetchall()

    async def account(self) -> dict[str, Any]:
        """What the budget says."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "select *, (select count(*) from rotina.budget_hold) as holds "
                "from rotina.budget_account"
            )
            found = await cursor.fetchone()
        assert found is not None
        return found


@asynccontextmanager
async def staged(pool: Pool, fault: Fault) -> AsyncIterator[Stage]:
    async with ScriptedModel(fault.script) as model:
        own = model.base_url
        url = own.replace("http:", "https:") if fault.url == "https" else fault.url or own
        made = {"model": "tiny", "base_url": SecretStr(url), "price": PRICE, **fault.deployment}
        settings = Settings(
            deployments={"one": Deployment(**made)},
            routes={"smart": Route(deployments=["one"])},
            budgets={"all": Budget(usd=Decimal(1), period="total")},
        )
        ledger = PostgresLedger(pool)
        gateway = Gateway(settings, ledger, retry=FAST, budgets=ledger)
        async with gateway:
            yield Stage(model, gateway, pool)


PLAYED = [
    pytest.param(fault, how, id=f"{fault.name}, {how}")
    for fault in FAULTS
    for how in ("chat", "stream")
    if getattr(fault, how) is not None
]


@pytest.mark.parametrize(("fault", "how"), PLAYED)
async def test_fault(pool: Pool, fault: Fault, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (gateway_http, openai_wire):
        monkeypatch.setattr(module, "MAX_RESPONSE_BYTES", 1_000_000)
    expected: Expected = getattr(fault, how)
    async with staged(pool, fault) as stage:
        if isinstance(expected.outcome, str):
            assert await stage.answer(how, **fault.options) == expected.outcome
            outcome = "ok"
        else:
            with pytest.raises(ModelError, match=expected.essential) as caught:
                await stage.answer(how, **fault.options)
            assert type(caught.value) is expected.outcome
            assert "deployment 'one'" in str(caught.value)
            outcome = expected.outcome.__name__
        await asyncio.sleep(0)
        assert stage.left() == (0, 0)
    arrived = expected.attempts if expected.requests is None else expected.requests
    assert len(stage.model.requests) == arrived
    (row,) = await stage.rows()
    assert (row["outcome"], row["attempts"], row["deployment"], row["kind"]) == (
        outcome,
        expected.attempts,
        "one",
        "chat",
    )
    found = row["prompt_tokens"], row["completion_tokens"]
    assert found == (expected.tokens or (None, None))
    cost = None if expected.tokens is None else sum(expected.tokens) * DOLLAR
    assert row["cost_usd"] == cost
    account = await stage.account()
    assert (account["held_usd"], account["held_tokens"], account["holds"]) == (0, 0, 0)
    if expected.spent == "all that was held":
        # A token a byte, what servers add, and the most that may be answered.
        assert account["settled_tokens"] > 64 + LIMIT
    else:
        assert account["settled_usd"] == (cost if expected.spent == "counted" else 0)


async def test_another_model_than_was_asked_for_is_in_the_ledger(pool: Pool) -> None:
    fault = Fault("", raw(WHOLE.replace(b"{", b'{"model":"another",', 1)), None, None)
    async with staged(pool, fault) as stage:
        assert (await stage.gateway.chat(ASK)).model == "another"
        assert await stage.answer("stream") == "fine"
    assert [row["model"] for row in await stage.rows()] == ["another", "another"]


async def test_a_kept_connection_that_the_server_closed_is_not_used_again(pool: Pool) -> None:
    async with staged(pool, Fault("", [closing("one"), "two"], None, None)) as stage:
        assert await stage.answer("chat") == "one"
        await asyncio.sleep(0.1)
        assert await stage.answer("chat") == "two"
        first, second = stage.model.requests
    assert first.connection != second.connection
    assert [row["attempts"] for row in await stage.rows()] == [1, 1]


async def test_retry_after_is_waited_for(pool: Pool) -> None:
    fault = Fault("", [status(429, retry_after="1"), "fine"], None, None)
    async with staged(pool, fault) as stage:
        assert await stage.answer("stream") == "fine"
    one, two = stage.model.requests
    assert two.at - one.at >= 0.99


async def test_a_repair_that_hangs_costs_all_that_was_held(pool: Pool) -> None:
    """What the first answer has cost is known, what the second has is not."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    async with staged(pool, Fault("", [{"n": "x"}, hang()], None, None)) as stage:
        with pytest.raises(ModelTimeoutError):
            await stage.answer("chat", schema=schema, timeout=0.4)
        assert stage.left() == (0, 0)
    (row,) = await stage.rows()
    assert (row["outcome"], row["attempts"], row["prompt_tokens"]) == ("ModelTimeoutError", 2, None)
    account = await stage.account()
    assert (account["held_tokens"], account["holds"]) == (0, 0)
    assert account["settled_tokens"] > 2 * LIMIT


async def test_a_repair_is_paid_and_recorded_once(pool: Pool) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    async with staged(pool, Fault("", [{"n": "x"}, {"n": 3}], None, None)) as stage:
        answer = await stage.gateway.chat(ASK, schema=schema, max_tokens=LIMIT)
    assert answer.data == {"n": 3}
    (row,) = await stage.rows()
    assert (row["outcome"], row["attempts"], row["cost_usd"]) == ("ok", 2, answer.cost_usd)
    account = await stage.account()
    assert (account["settled_usd"], account["holds"]) == (answer.cost_usd, 0)
