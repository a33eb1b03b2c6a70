"""The call ledger in PostgreSQL."""

import asyncio
from decimal import Decimal
from uuid import uuid4

import pytest
from pydantic import SecretStr

from rotina.database import Pool
from rotina.errors import ModelRateLimitedError
from rotina.gateway import Gateway, Message, PostgresLedger, RetryPolicy
from rotina.settings import Deployment, Price, Route, Settings
from tests.scripted_model import ScriptedModel, chat, hang, status

FAST = RetryPolicy(attempts=3, base=0.001, cap=0.002)


def settings_for(base_url: str) -> Settings:
    deployment = Deployment(
        model="tiny", base_url=SecretStr(base_url), price=Price(input=0.15, output=0.6)
    )
    routes = {name: Route(deployments=["one"]) for name in ("smart", "embed")}
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
            model.script = status(429)
            with pytest.raises(ModelRateLimitedError):
                await bound.chat(ask)
            model.script = hang()
            cancelled = asyncio.create_task(bound.chat(ask))
            while len(model.requests) < 6:
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
        ("chat", "ModelRateLimitedError", 3),
        ("chat", "CancelledError", 1),
    ]
    first, second, third, _ = rows
    assert first["cost_usd"] == answer.cost_usd == Decimal("0.000154350")
    assert (first["tenant"], first["run_id"], first["node"]) == ("acme", run_id, "extract")
    assert (first["prompt_tokens"], first["cached_tokens"]) == (1001, None)
    assert (second["tenant"], second["run_id"], second["node"]) == ("default", None, None)
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
