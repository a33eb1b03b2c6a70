"""Runs driven again from their record: nothing is asked, and what differs is found."""

import functools
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Any, TypedDict
from uuid import UUID

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

from rotina.database import Pool
from rotina.errors import RunNotFoundError
from rotina.gateway import Gateway, PostgresLedger, RetryPolicy
from rotina.graphs.context import Context, make_context
from rotina.knowledge.loading import Limits
from rotina.runs import (
    Control,
    Driver,
    Record,
    Registry,
    Replay,
    ReviewStore,
    RunStore,
    Upload,
    WorkerLease,
    Workflow,
    load_record,
    now,
    replay,
    review,
    sleep,
    step,
    wait_event,
)
from rotina.runs.workflow import FileReference
from rotina.settings import Settings
from tests.scripted_model import ScriptedModel


class Order(BaseModel):
    """Input."""

    document: FileReference
    word: str


class Done(BaseModel):
    """Output."""

    heard: list[str]


class Approval(BaseModel):
    """What a person answers."""

    approve: bool


class Part(BaseModel):
    """Input and output of a child."""

    number: int


def _add(one: list[str], other: list[str]) -> list[str]:
    return one + other


class State(TypedDict, total=False):
    """State of the test's graphs."""

    word: str
    document: dict[str, str]
    heard: Annotated[list[str], _add]


ROUND = [0]


@step
async def throw(sides: int) -> int:
    ROUND[0] += 1
    return ROUND[0] % sides


async def look(state: State, runtime: Runtime[Context]) -> State:
    context = runtime.context
    content = await context.read_file(FileReference.model_validate(state["document"]))
    moment = await now()
    rows = await context.query("select now() as at, 1.5::numeric as price", {})
    assert {type(value).__name__ for value in rows[0].values()} == {"datetime", "Decimal"}
    return {"heard": [content.decode(), moment.isoformat(), str(rows[0]), str(await throw(6))]}


async def ask(state: State, runtime: Runtime[Context]) -> State:
    gateway = runtime.context.at("ask")
    answer = await gateway.chat([{"role": "user", "content": f"What is {state['word']}?"}])
    return {"heard": [answer.text]}


def fan(state: State) -> list[Send]:
    return [Send("ask", {"word": f"{state['word']} {number}"}) for number in (1, 2)]


async def wait(state: State, runtime: Runtime[Context]) -> State:
    sleep(timedelta(0))
    told = wait_event("paid", state["word"])
    return {"heard": [f"paid {told['cents']}"]}


async def act(state: State, runtime: Runtime[Context]) -> State:
    context = runtime.context

    async def insert(connection: AsyncConnection[DictRow]) -> dict[str, Any]:
        await connection.execute("select 1")
        return {"row": 7}

    receipt = await context.effects.transact("insert", insert)
    parts = await context.children.map("parts", "part", [{"number": n} for n in (3, 4)])
    away = await context.children.start("away", "part", {"number": 5})
    assert isinstance(away, UUID)
    numbers = [part.result["number"] for part in parts if part.result]
    decided = review("Good?", Approval, data={"heard": len(state["heard"])})
    return {"heard": [str(receipt), str(numbers), f"approved {decided.approve}"]}


class PartState(TypedDict, total=False):
    """State of a child."""

    number: int


async def double(state: PartState, runtime: Runtime[Context]) -> PartState:
    return {"number": 2 * state["number"]}


def build_part() -> StateGraph[PartState, Context]:
    graph = StateGraph(PartState, context_schema=Context)
    graph.add_node("double", double)
    graph.add_edge(START, "double")
    graph.add_edge("double", END)
    return graph


def build(look: Any = look, ask: Any = ask, act: Any = act) -> StateGraph[State, Context]:
    inner = StateGraph(State, context_schema=Context)
    inner.add_node("act", act)
    inner.add_edge(START, "act")
    inner.add_edge("act", END)
    graph = StateGraph(State, context_schema=Context)
    graph.add_node("look", look)
    graph.add_node("ask", ask)
    graph.add_node("wait", wait)
    graph.add_node("inner", _only_new(inner.compile()))
    graph.add_edge(START, "look")
    graph.add_conditional_edges("look", fan, ["ask"])
    graph.add_edge("ask", "wait")
    graph.add_edge("wait", "inner")
    graph.add_edge("inner", END)
    return graph


def _only_new(inner: Any) -> Any:
    """A subgraph called in a node: its waits and answers belong to the node's own."""

    async def call(state: State, runtime: Runtime[Context]) -> State:
        end = await inner.ainvoke(state)
        return {"heard": end["heard"][len(state["heard"]) :]}

    return call


RICH = Workflow("rich", Order, Done, build)
PART = Workflow("part", Part, Part, build_part)


@dataclass
class Stage:
    """A worker with a model, and the ledger of one tenant."""

    pool: Pool
    store: RunStore
    driver: Driver
    model: ScriptedModel
    settings: Settings

    async def accept(self, workflow: Workflow = RICH) -> UUID:
        upload = Upload("a.txt", "conteúdo €".encode())
        value = {"document": upload.reference.model_dump(), "word": "bread"}
        return (await self.store.accept(workflow, value, upload=upload)).id

    async def finish(self, run_id: UUID) -> None:
        """Drive it through all that it waits for."""
        control, reviews = Control(self.pool, tenant="acme"), ReviewStore(self.pool, tenant="acme")
        await control.signal("paid", "bread", {"cents": 700})
        for _ in range(30):
            async with self.pool.connection() as connection:
                await connection.execute(
                    "update rotina.wait set state = 'ended', ended_at = now() "
                    "where state = 'open' and kind = 'timer'"
                )
                await connection.execute(
                    "update rotina.run set state = 'queued', available_at = now() "
                    "where state = 'waiting' and not exists (select from rotina.review r "
                    "where r.run_id = run.id and r.state = 'open')"
                )
            for asked in await reviews.list_open():
                await reviews.answer(asked.id, {"approve": True}, by="ana")
            await self.driver.drive("io")
            if (await self.store.get(run_id)).ended:
                return

    async def children(self) -> int:
        return len(await self.store.list_runs(workflow="part"))

    async def record(self, run_id: UUID) -> Record:
        found = await load_record(self.pool, tenant="acme", run_id=run_id)
        return Record.model_validate_json(found.model_dump_json())

    async def replay(self, record: Record, workflow: Workflow = RICH) -> Replay:
        """With nothing open, in a process that may not connect."""
        closed: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(open=False)
        limits = Limits.from_settings(self.settings)
        context = functools.partial(make_context, closed, Gateway(self.settings), limits)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket.socket, "connect", _refused)
            return await replay(workflow, record, context)


def _refused(*arguments: Any) -> None:
    raise AssertionError(f"a replay connects: {arguments}")


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    count = 0

    def script(request: Any) -> str:
        nonlocal count
        count += 1
        return f"{request.last_message} Answer {count}."

    async with ScriptedModel() as model, WorkerLease(pool, 30).held() as lease:
        model.script = script
        settings = Settings(
            deployments={"one": {"model": "scripted", "base_url": model.base_url}},
            routes={"smart": {"deployments": ["one"]}},
        )
        retry = RetryPolicy(attempts=1)
        async with Gateway(settings, PostgresLedger(pool), retry=retry) as gateway:
            context = functools.partial(make_context, pool, gateway, Limits.from_settings(settings))
            driver = Driver(pool, Registry([RICH, PART, *CHANGED]), lease, context)
            yield Stage(pool, RunStore(pool, tenant="acme"), driver, model, settings)


async def test_a_run_is_driven_again_with_nothing_to_ask(stage: Stage) -> None:
    run_id = await stage.accept()
    await stage.finish(run_id)
    run = await stage.store.get(run_id)
    assert run.state == "succeeded", run.error
    record = await stage.record(run_id)
    assert [group.name for group in record.groups] == ["parts"]
    assert [len(record.decided), len(record.waited), len(record.files)] == [1, 2, 1]
    thrown = ROUND[0]
    found = await stage.replay(record)
    assert found.divergence is None, found.divergence
    # Two models, a clock, a query and a throw; insert, parts and away.
    assert (found.answers, found.effects) == (5, 3)
    assert ROUND[0] == thrown, "a step does not run again"
    assert await stage.children() == 3, "no child is started"


async def other_question(state: State, runtime: Runtime[Context]) -> State:
    gateway = runtime.context.at("ask")
    answer = await gateway.chat([{"role": "user", "content": f"Tell me of {state['word']}."}])
    return {"heard": [answer.text]}


async def hides_it(state: State, runtime: Runtime[Context]) -> State:
    try:
        return await other_question(state, runtime)
    except Exception:  # noqa: BLE001 - as careless code does
        return {"heard": ["nothing"]}


async def asks_nothing(state: State, runtime: Runtime[Context]) -> State:
    return {"heard": [f"What is {state['word']}? Answer 1."]}


async def asks_twice(state: State, runtime: Runtime[Context]) -> State:
    await ask(state, runtime)
    return await ask(state, runtime)


async def acts_otherwise(state: State, runtime: Runtime[Context]) -> State:
    await runtime.context.effects.call("pay", _never)
    return {}


async def _never(key: UUID) -> dict[str, Any]:
    raise AssertionError("a replay acts")


async def other_review(state: State, runtime: Runtime[Context]) -> State:
    await runtime.context.children.map("parts", "part", [{"number": 3}])
    review("Good?", Approval, data={"heard": "other"})
    return {}


async def says_else(state: State, runtime: Runtime[Context]) -> State:
    return {"heard": [*(await act(state, runtime))["heard"], "and more"]}


CHANGED = [
    replace(RICH, name=f"rich {name}", build=functools.partial(build, **nodes))
    for name, nodes in {
        "asks otherwise": {"ask": other_question},
        "hides it": {"ask": hides_it},
        "asks nothing": {"ask": asks_nothing},
        "asks twice": {"ask": asks_twice},
        "acts otherwise": {"act": acts_otherwise},
        "asks a person otherwise": {"act": other_review},
        "says else": {"act": says_else},
    }.items()
]

EXPECTED = {
    "asks otherwise": [
        "node ask: asks a chat with another request",
        '-   "content": "What is bread',
        '+   "content": "Tell me of bread',
    ],
    "hides it": ["node ask: asks a chat with another request"],
    "asks nothing": ["node ask: its run asked a chat that the replay did not"],
    "asks twice": ["node ask: asks a chat"],
    "acts otherwise": ["the effect 'pay' was not done by the run"],
    "asks a person otherwise": [
        "asks a person 'Good?', which its run did not",
        '+  "heard": "other"',
    ],
    "says else": ["another result", '+  "and more"'],
}


@pytest.fixture
async def record(stage: Stage) -> Record:
    run_id = await stage.accept()
    await stage.finish(run_id)
    return await stage.record(run_id)


async def test_a_changed_graph_shows_its_first_divergence(stage: Stage, record: Record) -> None:
    for workflow in CHANGED:
        found = await stage.replay(record, workflow)
        for part in EXPECTED[workflow.name.removeprefix("rich ")]:
            assert part in str(found.divergence), workflow.name


async def test_a_run_that_failed_fails_again(stage: Stage) -> None:
    stage.model.script = lambda _: ""
    run_id = await stage.accept()
    assert await stage.driver.drive(run_id) == "failed"
    record = await stage.record(run_id)
    assert (await stage.replay(record)).divergence is None
    changed = await stage.replay(record, CHANGED[2])
    assert changed.divergence is None, "it goes on behind the end of the record, which is its end"


async def test_mended_code_does_something_else_than_its_failed_run(stage: Stage) -> None:
    async def broken(state: PartState, runtime: Runtime[Context]) -> PartState:
        raise ValueError("a bug")

    def build_broken() -> StateGraph[PartState, Context]:
        graph = StateGraph(PartState, context_schema=Context)
        graph.add_node("double", broken)
        graph.add_edge(START, "double")
        return graph

    workflow = replace(PART, build=build_broken)
    stage.driver.registry = Registry([workflow])
    run_id = (await stage.store.accept(workflow, {"number": 1})).id
    assert await stage.driver.drive(run_id) == "failed"
    record = await stage.record(run_id)
    assert (await stage.replay(record, workflow)).divergence is None
    mended = (await stage.replay(record, PART)).divergence
    assert "its run failed, the replay succeeded: a bug" in str(mended)


async def test_a_run_that_waits_is_replayed_as_far_as_it_is(stage: Stage) -> None:
    run_id = await stage.accept()
    assert await stage.driver.drive(run_id) == "waiting"
    record = await stage.record(run_id)
    found = await stage.replay(record)
    assert (found.divergence, found.answers) == (None, 5)


async def test_what_is_not_kept_any_more_is_not_replayed(stage: Stage) -> None:
    run_id = await stage.accept()
    await stage.finish(run_id)
    async with stage.pool.connection() as connection:
        await connection.execute("delete from rotina.recorded")
    with pytest.raises(RunNotFoundError, match="record_days"):
        await stage.record(run_id)
    with pytest.raises(RunNotFoundError):
        await load_record(stage.pool, tenant="other", run_id=run_id)
