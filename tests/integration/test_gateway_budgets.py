"""Budgets: what is settled and held never exceeds the cap, whoever calls and whoever dies."""

import asyncio
import functools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypedDict
from uuid import uuid4

import psycopg
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel, SecretStr, ValidationError

from rotina.database import Pool, migrate, open_pool
from rotina.errors import (
    BudgetExceededError,
    BudgetPriceError,
    DatabaseError,
    ModelError,
    ModelServerError,
    ModelTimeoutError,
    SettingsError,
)
from rotina.gateway import Gateway, MemoryLedger, PostgresLedger, RetryPolicy, Spent
from rotina.gateway.budget import Need, Payer, claims_of
from rotina.graphs.context import Context, make_context
from rotina.knowledge.loading import Limits
from rotina.runs import Control, Driver, Registry, RunStore, WorkerLease, Workflow
from rotina.settings import Budget, Deployment, Price, Route, Settings
from tests.scripted_model import Answer, ScriptedModel, chat, delayed, event, events, hang, status

ASK: Any = [{"role": "user", "content": "How much is it?"}]
PAID = Price(input=1000.0, output=1000.0)
"""A thousandth of a dollar a token."""
FAST = RetryPolicy(attempts=1)
ONCE = Decimal("0.15")
"""More than one call holds."""


@dataclass
class Stage:
    """A model server, and gateways on one database."""

    pool: Pool
    model: ScriptedModel
    ledger: MemoryLedger = field(default_factory=MemoryLedger)

    def settings(self, budgets: dict[str, Budget], **deployment: Any) -> Settings:
        made = {"model": "tiny", "base_url": SecretStr(self.model.base_url), "price": PAID}
        return Settings(
            deployments={"one": Deployment(**{**made, **deployment})},
            routes={name: Route(deployments=["one"]) for name in ("smart", "embed")},
            budgets=budgets,
        )

    def gateway(self, budgets: dict[str, Budget], **deployment: Any) -> Gateway:
        store = PostgresLedger(self.pool)
        settings = self.settings(budgets, **deployment)
        return Gateway(settings, self.ledger, retry=FAST, budgets=store)

    async def account(self, scope: str = "") -> dict[str, Any]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "select *, (select count(*) from rotina.budget_hold) as holds "
                "from rotina.budget_account where scope = %s",
                [scope],
            )
            return await cursor.fetchone() or {}


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    async with ScriptedModel("I know.") as model:
        yield Stage(pool, model)


async def ask(gateway: Gateway, **options: Any) -> str:
    """What came of one call."""
    try:
        await gateway.chat(ASK, **{"max_tokens": 20, **options})
    except ModelError as error:
        return type(error).__name__
    return "ok"


async def test_a_call_settles_what_it_cost_and_holds_nothing_after(stage: Stage) -> None:
    async with stage.gateway({"all": Budget(usd=Decimal(1))}) as gateway:
        answer = await gateway.chat(ASK, max_tokens=20)
    account = await stage.account()
    assert account["settled_usd"] == answer.cost_usd
    assert account["settled_tokens"] == sum(
        (answer.usage.prompt_tokens or 0, answer.usage.completion_tokens or 0)
    )
    assert (account["held_usd"], account["holds"]) == (0, 0)


async def test_a_hundred_calls_at_once_stay_below_the_cap(stage: Stage) -> None:
    cap = Decimal(1)
    stage.model.script = delayed(0.05, "I know.")
    async with stage.gateway({"all": Budget(usd=cap)}, concurrency=100) as gateway:
        found = Counter(await asyncio.gather(*(ask(gateway) for _ in range(100))))
        assert set(found) == {"ok", "BudgetExceededError"}
    spent = sum((call.cost_usd or Decimal(0)) for call in stage.ledger.calls)
    assert 0 < spent <= cap
    assert len(stage.model.requests) == found["ok"], "a refused call was not made"
    assert (await stage.account())["settled_usd"] == spent


async def test_a_refused_call_names_the_figures_and_is_in_the_ledger(stage: Stage) -> None:
    async with stage.gateway({"month": Budget(usd=Decimal("0.05"))}) as gateway:
        with pytest.raises(BudgetExceededError, match=r"'month'.*of \$0\.05, the call may take"):
            await gateway.chat(ASK, max_tokens=100)
    [row] = stage.ledger.calls
    assert (row.outcome, row.attempts) == ("BudgetExceededError", 0)
    account = await stage.account()
    assert (account["settled_usd"], account["held_usd"]) == (0, 0)


async def test_tokens_are_a_budget_where_nothing_has_a_price(stage: Stage) -> None:
    async with stage.gateway({"all": Budget(tokens=200)}, price=None) as gateway:
        assert await ask(gateway) == "ok"
        assert await ask(gateway, max_tokens=150) == "BudgetExceededError"
        stage.model.script = None
        assert (await gateway.embed(["word"])).vectors
        with pytest.raises(BudgetExceededError):
            await gateway.embed(["word " * 100])


async def test_a_context_is_held_for_each_text(stage: Stage) -> None:
    stage.model.script = None
    texts = [f"wor{number} " * 60 for number in range(3)]  # of 300 bytes
    refused = pytest.raises(BudgetExceededError, match="the call may take 768 tokens")
    async with stage.gateway({"all": Budget(tokens=767)}, context=256) as gateway:
        with refused:
            await gateway.embed(texts)
        with refused:
            await gateway.rerank("word", texts, route="smart")
    assert stage.model.requests == []


async def test_money_needs_a_price(stage: Stage) -> None:
    async with stage.gateway({"all": Budget(usd=Decimal(1))}, price=None) as gateway:
        with pytest.raises(BudgetPriceError, match="add price"):
            await gateway.chat(ASK)
    assert stage.model.requests == []


async def test_what_cannot_be_paid_here_is_asked_where_it_costs_less(stage: Stage) -> None:
    async with ScriptedModel("I am free.") as free:
        settings = stage.settings({"all": Budget(usd=Decimal("0.01"))})
        own = Deployment(
            model="own", base_url=SecretStr(free.base_url), price=Price(input=0, output=0)
        )
        settings = settings.model_copy(
            update={
                "deployments": {**settings.deployments, "own": own},
                "routes": {"smart": Route(deployments=["one", "own"])},
            }
        )
        async with Gateway(settings, budgets=PostgresLedger(stage.pool)) as gateway:
            assert (await gateway.chat(ASK)).text == "I am free."


async def test_tenants_workflows_and_runs_have_their_own(stage: Stage) -> None:
    budgets = {
        "each": Budget(tenant="*", usd=ONCE),
        "acme": Budget(tenant="acme", workflow="invoices", tokens=1),
        "run": Budget(period="run", tokens=1000),
    }
    run_id = uuid4()
    async with stage.gateway(budgets) as gateway:
        for tenant in ("a", "b"):
            bound = gateway.bound(run_id=None, tenant=tenant)
            assert [await ask(bound), await ask(bound, max_tokens=120)] == [
                "ok", "BudgetExceededError",
            ]  # fmt: skip
        bound = gateway.bound(run_id=run_id, tenant="acme", workflow="invoices")
        assert await ask(bound) == "BudgetExceededError"
        bound = gateway.bound(run_id=run_id, tenant="acme", workflow="tickets")
        assert await ask(bound.bound(run_id=run_id, tenant="acme", node="n")) == "ok"
    assert (await stage.account(str(run_id)))["settled_tokens"] > 0
    assert (await stage.account("acme"))["settled_usd"] > 0
    refused = await stage.account("acme/invoices")
    assert refused["settled_tokens"] == 0, "all of a call's budgets, or none"


@pytest.mark.parametrize(
    ("answer", "error", "paid"),
    [(status(500), ModelServerError, False), (hang(), ModelTimeoutError, True)],
)
async def test_a_call_that_may_have_cost_counts_as_all_it_held(
    stage: Stage, answer: Answer, error: type[ModelError], paid: bool
) -> None:
    stage.model.script = answer
    async with stage.gateway({"all": Budget(usd=Decimal(1))}) as gateway:
        with pytest.raises(error):
            await gateway.chat(ASK, max_tokens=20, timeout=0.2)
    account = await stage.account()
    assert (account["settled_usd"] > Decimal("0.02")) is paid
    assert account["held_usd"] == 0


async def test_a_stream_that_breaks_off_counts_as_all_it_held(stage: Stage) -> None:
    piece = {"choices": [{"index": 0, "delta": {"content": "I am"}}]}
    stage.model.script = events(event(piece), drop=True)
    async with stage.gateway({"all": Budget(usd=Decimal(1))}) as gateway:
        with pytest.raises(ModelError):
            [chunk async for chunk in gateway.stream(ASK, max_tokens=20)]
    account = await stage.account()
    assert account["settled_usd"] > Decimal("0.02")
    assert account["held_usd"] == 0


async def test_a_call_given_up_before_it_was_made_costs_nothing(stage: Stage) -> None:
    stage.model.script = delayed(5, "late")
    async with stage.gateway({"all": Budget(usd=Decimal(1))}, concurrency=1) as gateway:
        first = asyncio.create_task(gateway.chat(ASK, max_tokens=20))
        async with asyncio.timeout(10):
            while not stage.model.requests:
                await asyncio.sleep(0.01)
        assert await ask(gateway, timeout=0.1) == "ModelTimeoutError", "no slot"
        held = (await stage.account())["held_usd"]
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    account = await stage.account()
    assert (account["settled_usd"], account["held_usd"]) == (held, 0), "that of the first one"


async def test_the_hold_of_who_died_expires_as_spent(stage: Stage) -> None:
    store = PostgresLedger(stage.pool)
    claim = {
        "budget": "all", "scope": "", "period": "total", "cap_usd": "1", "cap_tokens": None,
        "cap_gpu_seconds": None, "usd": "0.9", "tokens": 5, "gpu_seconds": "0",
    }  # fmt: skip
    facts = {
        "tenant": "acme", "route": "smart", "deployment": "one", "model": "tiny", "kind": "chat",
        "started_at": datetime.now(UTC),
    }  # fmt: skip
    dead, alive = uuid4(), uuid4()
    await store.reserve(dead, [claim], 0.1, facts)
    with pytest.raises(BudgetExceededError):
        await store.reserve(alive, [claim], 60, facts)
    await asyncio.sleep(0.15)
    await store.reserve(alive, [{**claim, "usd": "0.1"}], 60, facts)
    store.settle(dead, Spent(Decimal("0.5"), 5))
    await store.flush()
    async with stage.pool.connection() as connection:
        cursor = await connection.execute("select id, outcome, cost_usd from rotina.model_call")
        assert await cursor.fetchall() == [
            {"id": dead, "outcome": "unknown", "cost_usd": Decimal("0.9")}
        ]
    account = await stage.account()
    assert (account["settled_usd"], account["held_usd"], account["holds"]) == (
        Decimal("0.9"), Decimal("0.1"), 1,
    )  # fmt: skip


async def test_a_cap_that_is_lowered_below_what_is_spent_refuses(stage: Stage) -> None:
    async with stage.gateway({"all": Budget(usd=Decimal(1))}) as gateway:
        assert await ask(gateway) == "ok"
    async with stage.gateway({"all": Budget(usd=Decimal("0.001"))}) as gateway:
        assert await ask(gateway) == "BudgetExceededError"
    async with stage.gateway({"all": Budget(usd=Decimal(2))}) as gateway:
        assert await ask(gateway) == "ok"


async def test_postgresql_itself_refuses_more_than_the_cap(stage: Stage) -> None:
    async with stage.gateway({"all": Budget(usd=Decimal(1))}) as gateway:
        await gateway.chat(ASK, max_tokens=20)
    async with stage.pool.connection() as connection:
        with pytest.raises(psycopg.errors.CheckViolation):
            await connection.execute("update rotina.budget_account set settled_usd = 2")


async def test_without_the_database_no_call_with_a_budget_is_made(
    stage: Stage, database_url: str
) -> None:
    settings = stage.settings({"all": Budget(usd=Decimal(1))})
    with pytest.raises(SettingsError, match="no database"):
        Gateway(settings)
    async with open_pool(database_url, size=1) as pool:
        gateway = Gateway.with_database(settings, pool)
    async with gateway:
        with pytest.raises((DatabaseError, psycopg.Error)):
            await gateway.chat(ASK)
    assert stage.model.requests == []


CALLER = """
import asyncio, sys
from decimal import Decimal
from pydantic import SecretStr
from rotina.database import open_pool
from rotina.errors import BudgetExceededError
from rotina.gateway import Gateway
from rotina.settings import Budget, Deployment, Price, Route, Settings

async def main(base_url, database_url):
    price = Price(input=1000.0, output=1000.0)
    one = Deployment(model="tiny", base_url=SecretStr(base_url), price=price, concurrency=250)
    settings = Settings(
        deployments={"one": one}, routes={"smart": Route(deployments=["one"])},
        budgets={"own": Budget(key="shop", usd=Decimal(200), period="total")},
    )
    ask = [{"role": "user", "content": "How much is it?"}]
    async with open_pool(database_url, size=2) as pool:
        async with Gateway.with_database(settings, pool) as gateway:
            bound = gateway.bound(run_id=None, tenant="acme", key="shop")
            async def one_after_another():
                while True:
                    try:
                        await bound.chat(ask, max_tokens=20)
                    except BudgetExceededError:
                        return
            await asyncio.gather(*(one_after_another() for _ in range(250)))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_thousand_calls_at_once_of_processes_that_are_killed_overspend_nothing(
    stage: Stage, database_url: str
) -> None:
    """Four processes with 250 callers each call with one key until nothing is left; two are killed
    in the middle of it. What the ledger says was spent is what the budget says, to the cent."""
    await migrate(database_url, [])
    used = {"prompt_tokens": 100, "completion_tokens": 10}
    stage.model.script = delayed(0.3, chat("I know.", usage=used))
    command = [sys.executable, "-c", CALLER, stage.model.base_url, database_url]
    environment = {name: value for name, value in os.environ.items() if "ROTINA" not in name}
    callers = [subprocess.Popen(command, env=environment) for _ in range(4)]
    try:
        async with asyncio.timeout(120):
            while len(stage.model.requests) < 1000:
                await asyncio.sleep(0.02)
            for caller in callers[:2]:
                caller.kill()
            for caller in callers:
                await asyncio.to_thread(caller.wait, 60)
        assert [caller.returncode for caller in callers[2:]] == [0, 0]
    finally:
        for caller in callers:
            with suppress(ProcessLookupError):
                caller.kill()
    async with stage.pool.connection() as connection:
        await connection.execute("update rotina.budget_hold set expires_at = now() - interval '1s'")
        await connection.execute("select rotina.expire_holds('own', scope, period_start) "
                                 "from rotina.budget_account")  # fmt: skip
        cursor = await connection.execute(
            "select sum(cost_usd) as spent, count(*) filter (where outcome = 'unknown') as unknown "
            "from rotina.model_call where api_key = 'shop'"
        )
        row = await cursor.fetchone()
    account = await stage.account("shop")
    assert (account["held_usd"], account["held_tokens"], account["holds"]) == (0, 0, 0)
    assert Decimal(199) < account["settled_usd"] <= 200
    assert row is not None
    assert row["spent"] == account["settled_usd"]
    assert row["unknown"] > 0, "what the killed ones had under way"


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        ({}, "limits nothing"),
        ({"usd": -1}, "greater than or equal to 0"),
        ({"usd": 1, "period": "week"}, "'run', 'day', 'month' or 'total'"),
        ({"usd": 1, "user": "ana"}, "Extra inputs"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(budget: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Budget(**budget)


class Said(TypedDict, total=False):
    """What the graph holds."""

    text: str


class Empty(BaseModel):
    """Input."""


class Text(BaseModel):
    """Output."""

    text: str


async def say(state: Said, runtime: Runtime[Context]) -> Said:
    return {"text": (await runtime.context.at("say").chat(ASK, max_tokens=20)).text}


def build() -> StateGraph[Said, Context]:
    graph = StateGraph(Said, context_schema=Context)
    graph.add_node("say", say)
    graph.add_edge(START, "say")
    graph.add_edge("say", END)
    return graph


async def test_a_run_that_met_an_empty_budget_goes_on_once_there_is_more(stage: Stage) -> None:
    workflow = Workflow("speaker", Empty, Text, build)
    store = RunStore(stage.pool, tenant="acme")
    run_id = (await store.accept(workflow, {})).id
    limits = Limits.from_settings(stage.settings({}))
    outcomes = []
    for tokens in (1, 10_000):
        budgets = {
            "each": Budget(workflow="speaker", tokens=tokens, period="run"),
            "others": Budget(workflow="another", tokens=0),
        }
        async with (
            stage.gateway(budgets) as gateway,
            WorkerLease(stage.pool, 60).held() as lease,
        ):
            context = functools.partial(make_context, stage.pool, gateway, limits)
            driver = Driver(stage.pool, Registry([workflow]), lease, context)
            outcomes.append(await driver.drive(run_id))
        if outcomes == ["failed"]:
            error = (await store.get(run_id)).error
            assert error is not None
            assert error["type"] == "BudgetExceededError"
            await Control(stage.pool, tenant="acme").retry(run_id, by="ana")
    assert outcomes == ["failed", "succeeded"]
    assert (await stage.account(f"speaker/{run_id}"))["settled_tokens"] > 0


def test_whose_share_is_never_ambiguous() -> None:
    deployment = Deployment(model="tiny")
    budgets = {"each": Budget(tenant="*", workflow="*", tokens=1)}
    scopes = {
        claims_of(budgets, Need(1, 1), "it", deployment, Payer(tenant, name, None, None), 1)[0][
            "scope"
        ]
        for tenant, name in (("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c"))
    }
    assert len(scopes) == 3
