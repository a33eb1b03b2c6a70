"""`rotina costs` and `rotina budgets` over a real ledger."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner, Result
from langgraph.graph import StateGraph
from pydantic import BaseModel

from rotina.cli import cli
from rotina.database import Pool
from rotina.gateway import ModelCall, PostgresLedger, Spent
from rotina.runs import RunStore, Workflow


class State(TypedDict, total=False):
    """What the graph holds."""

    number: int


class Number(BaseModel):
    """Input and output."""

    number: int


INVOICES = Workflow("invoices", Number, Number, lambda: StateGraph(State))


def call(**values: Any) -> ModelCall:
    given = {
        "id": uuid4(), "tenant": "acme", "run_id": None, "node": None, "route": "smart",
        "deployment": "one", "model": "tiny", "kind": "chat", "outcome": "ok",
        "prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": None,
        "cost_usd": Decimal("0.25"), "latency_ms": 3, "attempts": 1,
        "started_at": datetime.now(UTC),
    }  # fmt: skip
    return ModelCall(**{**given, **values})


@pytest.fixture
def project(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rotina.toml").write_text("")
    monkeypatch.setenv("DATABASE_URL", database_url)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


async def command(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, cli, list(arguments))


async def run_of(pool: Pool) -> UUID:
    return (await RunStore(pool, tenant="acme").accept(INVOICES, {"number": 1})).id


@pytest.mark.usefixtures("project")
async def test_costs_by_workflow_and_model(pool: Pool) -> None:
    ledger, run_id = PostgresLedger(pool), await run_of(pool)
    for each in (
        call(run_id=run_id),
        call(run_id=run_id, attempts=2),
        call(model="big", cost_usd=Decimal(2)),
        call(model="big", cost_usd=None, outcome="ModelTimeoutError", prompt_tokens=None),
        call(tenant="other", cost_usd=None),
        call(started_at=datetime.now(UTC) - timedelta(days=8)),
    ):
        await ledger.record(each)
    found = await command("costs")
    assert found.output.splitlines() == [
        "-  big  2 calls  10 + 10 tokens  $2.000000000  (1 without a price)",
        "invoices  tiny  2 calls  20 + 10 tokens  $0.500000000",
        "-  tiny  1 calls  10 + 5 tokens  unknown  (1 without a price)",
    ]
    rows = (await command("costs", "--by", "tenant", "--since", "4w", "--json")).output
    first, second = (json.loads(line) for line in rows.splitlines())
    assert (first["tenant"], first["calls"], first["cost_usd"]) == ("acme", 5, "2.750000000")
    assert (second["tenant"], second["attempts"], second["cost_usd"]) == ("other", 1, None)
    only = await command("costs", "--tenant", "other", "--by", "outcome,day")
    assert only.output.startswith("ok  20")
    assert len(only.output.splitlines()) == 1


@pytest.mark.usefixtures("project")
async def test_nothing_has_been_called(pool: Pool) -> None:
    assert "no model calls" in (await command("costs")).output
    assert (await command("costs", "--json")).output == ""
    assert "set budgets.NAME" in (await command("budgets")).output


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--by", "workflow,price", "'price' is no column"),
        ("--by", "", "is no column"),
        ("--since", "7", "is no length of time"),
        ("--since", "7y", "is no length of time"),
    ],
)
async def test_what_is_not_understood_is_refused(option: str, value: str, problem: str) -> None:
    found = await command("costs", option, value)
    assert found.exit_code != 0
    assert problem in found.output


@pytest.mark.usefixtures("project")
async def test_budgets_show_what_is_spent_and_held(pool: Pool) -> None:
    store = PostgresLedger(pool)
    claim = {
        "budget": "acme", "scope": "acme", "period": "total", "cap_usd": "5",
        "cap_tokens": 100, "cap_gpu_seconds": 60, "usd": "0.9", "tokens": 30, "gpu_seconds": "2",
    }  # fmt: skip
    done, under_way = uuid4(), uuid4()
    for each in (done, under_way):
        await store.reserve(each, [claim, {**claim, "budget": "month", "period": "month"}], 60, {})
    store.settle(done, Spent(Decimal("0.5"), 12, Decimal("1.5")))
    await store.flush()
    lines = (await command("budgets")).output.splitlines()
    assert lines[0] == (
        "acme  acme  $0.5 + $0.9 held of $5  12 + 30 held of 100 tokens"
        "  1.5 + 2 held of 60 GPU-seconds"
    )
    month = datetime.now(UTC).strftime("%Y-%m-01")
    assert lines[1].endswith(f"since {month}")
    rows = [json.loads(line) for line in (await command("budgets", "--json")).output.splitlines()]
    assert [row["settled_usd"] for row in rows] == ["0.5", "0.5"]
