"""The call ledger in PostgreSQL."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import uuid4

import pytest
from pydantic import SecretStr

from rotina.database import Pool
from rotina.errors import DatabaseError, ModelRateLimitedError
from rotina.gateway import (
    Gateway,
    Message,
    ModelCall,
    PostgresLedger,
    RetryPolicy,
    purge_content,
)
from rotina.settings import Budget, Deployment, Price, Route, Settings
from tests.scripted_model import ScriptedModel, chat, hang, status

FAST = RetryPolicy(attempts=3, base=0.001, cap=0.002)


def settings_for(base_url: str) -> Settings:
    deployment = Deployment(
        model="tiny", base_url=SecretStr(base_url), price=Price(input=0.15, output=0.6)
    )
    routes = {name: Route(deployments=["one"]) for name in ("smart", "embed", "rank")}
    return Settings(deployments={"one": deployment}, routes=routes)


async def test_each_call_leaves_one_row(pool: Pool) -> None:
    run_id = uuid4()
    async with ScriptedModel() as model:
        settings = settings_for(model.base_url)
        async with Gateway(settings, PostgresLedger(pool), retry=FAST) as gateway:
            bound = gateway.bound(run_id=run_id, tenant="acme", node="extract")
            ask: list[Message] = [{"role": "user", "content": "x"}]
            model.script = chat("y", usage={"prompt_tokens": 1001, "completion_tokens": 7})
            answer = await bound.chat(ask)
            model.script = None
            await gateway.embed(["a", "b"])
            await bound.rerank("a", ["a", "b"], route="rank")
            model.script = status(429)
            with pytest.raises(ModelRateLimitedError):
                await bound.chat(ask)
            model.script = hang()
            cancelled = asyncio.create_task(bound.chat(ask))
            while len(model.requests) < 7:
                await asyncio.sleep(0.005)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        # Closing the gateway waits for the rows that are being written.
    async with pool.connection() as connection:
        cursor = await connection.execute("select * from rotina.model_call order by id")
        rows = await cursor.fetchall()
    assert [(row["kind"], row["outcome"], row["attempts"]) for row in rows] == [
        ("chat", "ok", 1),
        ("embedding", "ok", 1),
        ("rerank", "ok", 1),
        ("chat", "ModelRateLimitedError", 3),
        ("chat", "CancelledError", 1),
    ]
    first, second, ranked, third, _ = rows
    assert first["cost_usd"] == answer.cost_usd == Decimal("0.000154350")
    assert (first["tenant"], first["run_id"], first["node"]) == ("acme", run_id, "extract")
    assert (first["prompt_tokens"], first["cached_tokens"]) == (1001, None)
    assert (second["tenant"], second["run_id"], second["node"]) == ("default", None, None)
    assert (ranked["tenant"], ranked["route"], ranked["prompt_tokens"]) == ("acme", "rank", 4)
    assert ranked["cost_usd"] == Decimal("0.0000006")
    assert (third["prompt_tokens"], third["cost_usd"]) == (None, None)
    assert gateway.ledger_failures == 0


async def test_an_answer_survives_its_ledger(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    async with pool.connection() as connection:
        await connection.execute("drop table rotina.model_call")
    async with (
        ScriptedModel("still here") as model,
        Gateway(settings_for(model.base_url), PostgresLedger(pool)) as gateway,
    ):
        answer = await gateway.chat([{"role": "user", "content": "x"}])
        assert answer.text == "still here"
        assert gateway.ledger_failures == 1
    (entry,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "UndefinedTable" in entry.message
    assert entry.__dict__["model_call"]["outcome"] == "ok"


@pytest.mark.parametrize("policy", ["off", "full"])
async def test_what_was_said_is_kept_where_the_settings_ask_for_it(
    pool: Pool, policy: Literal["off", "full"]
) -> None:
    async with ScriptedModel("The answer is \x00 42.") as model:
        settings = settings_for(model.base_url).model_copy(update={"store_prompts": policy})
        async with Gateway.with_database(settings, pool) as gateway:
            bound = gateway.bound(run_id=None, tenant="acme")
            await bound.chat([{"role": "user", "content": "Quanto é?\x00"}])
            async for _ in bound.stream([{"role": "user", "content": "And now?"}]):
                pass
            model.script = None
            await bound.embed(["a text"])
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "select content.* from rotina.model_call_content content "
            "join rotina.model_call using (id, tenant) order by id"
        )
        rows = await cursor.fetchall()
        await connection.execute(
            "update rotina.model_call_content set created_at = now() - interval '31 days'"
        )
    if policy == "off":
        assert rows == []
        return
    assert [row["answer"] for row in rows] == ["The answer is  42."] * 2
    assert json.loads(rows[0]["request"])["messages"][0]["content"] == "Quanto é?"
    assert await purge_content(pool, 30) == 2


async def test_what_was_said_is_kept_without_personal_data(pool: Pool) -> None:
    async with ScriptedModel("O CPF 529.982.247-25 confere.") as model:
        settings = settings_for(model.base_url).model_copy(update={"store_prompts": "redacted"})
        async with Gateway.with_database(settings, pool) as gateway:
            question = "Meu CPF é 529.982.247-25 e a senha é password=Xk29dkq0PdlA83."
            answer = await gateway.chat([{"role": "user", "content": question}])
            assert "529.982.247-25" in answer.text
    async with pool.connection() as connection:
        cursor = await connection.execute("select * from rotina.model_call_content")
        row = await cursor.fetchone()
    assert row is not None
    assert row["redacted"] is True
    assert "529" not in row["request"] + row["answer"]
    assert "Xk29dkq0PdlA83" not in row["request"]
    assert row["answer"] == "O CPF <CPF> confere."
    assert json.loads(row["request"])["messages"][0]["content"].startswith("Meu CPF é <CPF>")


async def test_a_row_that_cannot_be_stored_takes_no_other_with_it(pool: Pool) -> None:
    ledger = PostgresLedger(pool)
    good, bad = (
        ModelCall(
            id=uuid4(), tenant="acme", run_id=None, node=node, route="smart", deployment="one",
            model="tiny", kind="chat", outcome="ok", prompt_tokens=1, completion_tokens=1,
            cached_tokens=None, cost_usd=None, latency_ms=1, attempts=1,
            started_at=datetime.now(UTC),
        )
        for node in ("n", "n\x00")
    )  # fmt: skip
    found = await asyncio.gather(ledger.record(bad), ledger.record(good), return_exceptions=True)
    assert isinstance(found[0], DatabaseError)
    assert found[1] is None
    async with pool.connection() as connection:
        cursor = await connection.execute("select id from rotina.model_call")
        assert await cursor.fetchall() == [{"id": good.id}]


class Watched(PostgresLedger):
    """Notes which calls each statement settles, and which rows it writes."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.statements: list[tuple[set[str], set[str]]] = []

    async def _execute(self, values: Mapping[str, str | bool]) -> dict[str, Mapping[str, Any]]:
        settled = {each["call"] for each in json.loads(str(values["spent"]))}
        written = {each["id"] for each in json.loads(str(values["calls"]))}
        self.statements.append((settled, written))
        return await super()._execute(values)


async def test_what_a_call_has_spent_and_its_row_are_never_parted(pool: Pool) -> None:
    """Between two statements a process may die: then a budget would know more than the ledger."""
    ledger = Watched(pool)
    async with ScriptedModel("yes") as model:
        settings = settings_for(model.base_url).model_copy(
            update={"budgets": {"all": Budget(tokens=10**9)}}
        )
        ask: list[Message] = [{"role": "user", "content": "x"}]
        async with Gateway(settings, ledger, budgets=ledger) as gateway:

            async def one_after_another() -> None:
                for _ in range(20):
                    await gateway.chat(ask, max_tokens=5)

            await asyncio.gather(*(one_after_another() for _ in range(40)))
    assert sum(len(settled) for settled, _ in ledger.statements) == 800
    assert all(settled == written for settled, written in ledger.statements)
    assert len(ledger.statements) < 800
