"""Calls know their prompts: in runs, in streams, out of the cache, and in `rotina costs`."""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import pytest
from click.testing import CliRunner
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel

from rotina.cli import cli
from rotina.database import Pool
from rotina.errors import ModelServerError
from rotina.gateway import Gateway, Prompts, Rendered
from rotina.runs import Attempt, Driver, Registry, RunStore, WorkerLease, Workflow
from rotina.settings import Settings
from tests.scripted_model import ScriptedModel

FRONT = '+++\nvariables = ["customer"]\n+++\n'


class Customer(BaseModel):
    """Input."""

    customer: str


class Greeting(BaseModel):
    """Output."""

    greeting: str


class State(TypedDict, total=False):
    """State of the test's graph."""

    customer: str
    greeting: str


@dataclass(frozen=True)
class Desk:
    """What the node gets, and what makes it stumble."""

    gateway: Gateway
    prompts: Prompts
    stumbles: list[Exception]


async def greet(state: State, runtime: Runtime[Desk]) -> State:
    desk = runtime.context
    rendered = desk.prompts.render("greeting", {"customer": state["customer"]}, language="pt-BR")
    answer = await desk.gateway.chat(rendered)
    plain = await desk.gateway.chat(list(rendered), max_tokens=5)
    streamed = await text_of(desk.gateway, rendered)
    if desk.stumbles:
        raise desk.stumbles.pop()
    return {"greeting": answer.text + plain.text + streamed}


def build() -> StateGraph[State, Desk, Any, Any]:
    graph: StateGraph[State, Desk, Any, Any] = StateGraph(State, context_schema=Desk)
    graph.add_node("greet", greet)
    graph.add_edge(START, "greet")
    graph.add_edge("greet", END)
    return graph


GREETS = Workflow("greets", Customer, Greeting, build)


async def text_of(gateway: Gateway, rendered: Rendered) -> str:
    async with contextlib.aclosing(gateway.stream(rendered)) as chunks:
        return "".join([chunk.text async for chunk in chunks])


def settings_for(model: ScriptedModel, **route: Any) -> Settings:
    price = {"input": 1, "output": 1}
    return Settings(
        deployments={"one": {"model": "tiny", "base_url": model.base_url, "price": price}},
        routes={"smart": {"deployments": ["one"], **route}},
    )


@pytest.fixture
def prompts(tmp_path: Path) -> Prompts:
    folder = tmp_path / "prompts" / "greeting"
    folder.mkdir(parents=True)
    (folder / "v1.md").write_text(f"{FRONT}Greet {{{{ customer }}}}.", encoding="utf-8")
    (folder / "v1.pt.md").write_text(f"{FRONT}Saúde {{{{ customer }}}}.", encoding="utf-8")
    (folder / "v2.md").write_text(f"{FRONT}Welcome {{{{ customer }}}}.", encoding="utf-8")
    found = Prompts(folder.parent)
    found.use("greeting", "v1")
    return found


@pytest.fixture
def project(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rotina.toml").write_text("")
    monkeypatch.setenv("DATABASE_URL", database_url)


async def costs(by: str) -> list[dict[str, Any]]:
    asked = ["costs", "--by", by, "--json"]
    found = await asyncio.to_thread(CliRunner().invoke, cli, asked)
    assert found.exit_code == 0, found.output
    return [json.loads(line) for line in found.output.splitlines()]


@pytest.mark.usefixtures("project")
async def test_costs_by_prompt(pool: Pool, prompts: Prompts) -> None:
    first = prompts.render("greeting", {"customer": "Ana"})
    prompts.use("greeting", "v2")
    second = prompts.render("greeting", {"customer": "Ana"})
    assert await costs("prompt") == []
    async with ScriptedModel("Hello.") as model:
        settings = settings_for(model, cache_seconds=60)
        async with Gateway.with_database(settings, pool) as gateway:
            await gateway.chat(first)
            assert (await gateway.chat(first)).cached
            assert (await gateway.chat(list(first))).cached, "the same question, rendered or not"
            await gateway.chat(second)
            await text_of(gateway, second)
    assert len(model.requests) == 3
    calls = {(row["prompt"], row["outcome"]): row["calls"] for row in await costs("prompt,outcome")}
    assert calls == {
        (str(first.prompt), "ok"): 1,
        (str(first.prompt), "cached"): 1,
        (None, "cached"): 1,
        (str(second.prompt), "ok"): 2,
    }
    spent = {row["prompt"]: row["cost_usd"] for row in await costs("prompt")}
    assert float(spent[str(second.prompt)]) > float(spent[str(first.prompt)]) > 0


@pytest.mark.usefixtures("project")
async def test_a_run_is_told_once_and_its_calls_know_the_prompt(
    pool: Pool, prompts: Prompts
) -> None:
    stumbles: list[Exception] = [ModelServerError("down")]
    store = RunStore(pool, tenant="acme")
    run_id = (await store.accept(GREETS, {"customer": "João"})).id
    async with (
        ScriptedModel("Olá.") as model,
        WorkerLease(pool, 30).held() as lease,
        Gateway.with_database(settings_for(model), pool) as gateway,
    ):

        def context(attempt: Attempt) -> Desk:
            own = gateway.bound(run_id=attempt.run.id, tenant="acme")
            return Desk(own.recorded(attempt.recording), prompts, stumbles)

        driver = Driver(pool, Registry([GREETS]), lease, context)
        assert await driver.drive(run_id) == "retrying"
        async with pool.connection() as connection:
            await connection.execute("update rotina.run set available_at = now()")
        assert await driver.drive(run_id) == "succeeded"
    assert len(model.requests) == 3, "the second attempt remembers, rendered or not"
    assert model.requests[0].body["messages"] == [{"role": "user", "content": "Saúde João."}]
    reference = str(prompts.template("greeting", "v1", "pt").reference)
    rows = {row["prompt"]: row["calls"] for row in await costs("prompt")}
    assert rows == {reference: 2, None: 1}
