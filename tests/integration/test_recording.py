"""What a run was told is not asked again: models and steps, when an attempt ends early."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict
from uuid import UUID

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel

from rotina.database import Pool
from rotina.errors import LeaseLostError, ModelServerError
from rotina.gateway import Gateway, PostgresLedger, RetryPolicy
from rotina.runs import (
    Attempt,
    Driver,
    Journal,
    Recording,
    Registry,
    RunStore,
    WorkerLease,
    Workflow,
    purge,
    step,
    sweep,
)
from rotina.settings import Settings
from tests.scripted_model import ScriptedModel


class Order(BaseModel):
    """Input."""

    word: str


class Said(BaseModel):
    """Output."""

    heard: list[str]


class State(TypedDict, total=False):
    """State of the test's graph."""

    word: str
    heard: list[str]


class Price(BaseModel):
    """What the step answers: rebuilt from the record by the step's annotation."""

    word: str
    cents: int


LOOKED_UP: list[str] = []


@step
async def look_up(word: str, *, factor: int = 1) -> Price:
    LOOKED_UP.append(word)
    return Price(word=word, cents=len(word) * factor)


@dataclass(frozen=True)
class Desk:
    """What the nodes get."""

    recording: Recording
    gateway: Gateway
    stumble: Callable[[], None]


async def ask(state: State, runtime: Runtime[Desk]) -> State:
    """Two different questions at once, one asked twice, a stream, vectors and a step."""
    gateway, word = runtime.context.gateway, state["word"]
    answers = await asyncio.gather(
        *(gateway.chat([{"role": "user", "content": f"{word} {i}"}]) for i in (1, 2))
    )
    again = await gateway.chat([{"role": "user", "content": f"{word} 1"}], temperature=0.7)
    third = await gateway.chat([{"role": "user", "content": f"{word} 1"}], temperature=0.7)
    streamed = ""
    async with contextlib.aclosing(
        gateway.stream([{"role": "user", "content": f"{word} streamed"}])
    ) as chunks:
        async for chunk in chunks:
            streamed += chunk.text
    vectors = (await gateway.embed([word])).vectors
    ranked = await gateway.rerank(word, ["stone", word], route="rank")
    price = await look_up(word, factor=2)
    runtime.context.stumble()
    texts = [each.text for each in (*answers, again, third)]
    best = f"best is {ranked.results[0].index}"
    return {"heard": [*texts, streamed, str(vectors[0][:2]), best, f"{price.word}={price.cents}"]}


def build() -> StateGraph[State, Desk, Any, Any]:
    graph: StateGraph[State, Desk, Any, Any] = StateGraph(State, context_schema=Desk)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph


CURIOUS = Workflow("curious", Order, Said, build)


@dataclass
class Stage:
    """A worker, a model, and what makes the node stumble."""

    store: RunStore
    pool: Pool
    model: ScriptedModel
    gateway: Gateway
    stumbles: list[Exception] = field(default_factory=list)

    def driver(self, lease: WorkerLease) -> Driver:
        def context(attempt: Attempt) -> Desk:
            own = self.gateway.bound(run_id=attempt.run.id, tenant="acme")
            gateway = own.recorded(attempt.recording)
            return Desk(attempt.recording, gateway, self.stumble)

        return Driver(self.pool, Registry([CURIOUS]), lease, context)

    def stumble(self) -> None:
        if self.stumbles:
            raise self.stumbles.pop()

    async def accept(self, word: str = "bread") -> UUID:
        return (await self.store.accept(CURIOUS, {"word": word})).id

    async def make_due(self) -> None:
        async with self.pool.connection() as connection:
            await connection.execute("update rotina.run set available_at = now()")


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    LOOKED_UP.clear()
    count = 0

    def script(request: Any) -> str:
        nonlocal count
        count += 1
        return f"{request.last_message} → answer {count}"

    async with ScriptedModel() as model:
        model.script = lambda request: script(request) if "chat" in request.path else None
        settings = Settings(
            deployments={"one": {"model": "scripted", "base_url": model.base_url}},
            routes={
                "smart": {"deployments": ["one"]},
                "embed": {"deployments": ["one"]},
                "rank": {"deployments": ["one"]},
            },
        )
        retry = RetryPolicy(attempts=1)
        async with Gateway(settings, PostgresLedger(pool), retry=retry) as gateway:
            yield Stage(RunStore(pool, tenant="acme"), pool, model, gateway)


async def test_a_second_attempt_asks_nothing_again(stage: Stage) -> None:
    stage.stumbles = [ModelServerError("down")]
    run_id = await stage.accept()
    async with WorkerLease(stage.pool, 30).held() as lease:
        assert await stage.driver(lease).drive(run_id) == "retrying"
        asked = len(stage.model.requests)
        await stage.make_due()
        assert await stage.driver(lease).drive(run_id) == "succeeded"
    assert (asked, len(stage.model.requests)) == (7, 7)
    assert LOOKED_UP == ["bread"]
    run = await stage.store.get(run_id)
    assert run.result is not None
    heard = run.result["heard"]
    assert len(set(heard[:4])) == 4, "equal questions keep their own answers"
    assert heard[4].startswith("bread streamed → answer")
    assert heard[-2:] == ["best is 1", "bread=10"]
    assert len(await stage.store.model_calls(run_id)) == 7, "a remembered answer is no call"


async def test_a_worker_that_dies_leaves_its_answers(stage: Stage) -> None:
    run_id = await stage.accept()
    async with WorkerLease(stage.pool, 30).held() as first:
        stage.stumbles = [LeaseLostError("as if the process were gone")]
        assert await stage.driver(first).drive(run_id) == "lost"
    await sweep(stage.pool)
    async with WorkerLease(stage.pool, 30).held() as second:
        assert await stage.driver(second).drive(run_id) == "succeeded"
    assert len(stage.model.requests) == 7
    assert LOOKED_UP == ["bread"]


async def test_another_run_is_told_anew(stage: Stage) -> None:
    async with WorkerLease(stage.pool, 30).held() as lease:
        for _ in range(2):
            assert await stage.driver(lease).drive(await stage.accept()) == "succeeded"
    assert len(stage.model.requests) == 14
    assert LOOKED_UP == ["bread", "bread"]


async def test_an_answer_for_a_lost_run_is_not_kept(stage: Stage) -> None:
    run_id = await stage.accept()
    async with WorkerLease(stage.pool, 60).held() as lease, lease.claimed(run_id) as claim:
        assert claim is not None
    await sweep(stage.pool)
    journal = Journal(claim.fence)
    journal.record(
        {"task": "t", "kind": "chat", "digest": "", "nth": 0, "node": "t"}
        | {"request": "", "answer": ""}
    )
    with pytest.raises(LeaseLostError):
        await journal.commit()
    async with stage.pool.connection() as connection:
        cursor = await connection.execute("select from rotina.recorded")
        assert await cursor.fetchall() == []


async def test_outside_a_run_a_step_is_its_function() -> None:
    LOOKED_UP.clear()
    assert await look_up("rice") == Price(word="rice", cents=4)
    assert await look_up("rice") == Price(word="rice", cents=4)
    assert LOOKED_UP == ["rice", "rice"]


async def test_old_answers_of_ended_runs_are_deleted(stage: Stage) -> None:
    async with WorkerLease(stage.pool, 30).held() as lease:
        ended, other = await stage.accept(), await stage.accept()
        assert await stage.driver(lease).drive(ended) == "succeeded"
        stage.stumbles = [ModelServerError("down")]
        assert await stage.driver(lease).drive(other) == "retrying"
    assert await purge(stage.pool, record_days=1) == 0
    async with stage.pool.connection() as connection:
        await connection.execute("update rotina.recorded set at = at - interval '2 days'")
    assert await purge(stage.pool, record_days=1) == 8, "seven calls and a step"
    async with stage.pool.connection() as connection:
        cursor = await connection.execute("select distinct run_id from rotina.recorded")
        assert [row["run_id"] for row in await cursor.fetchall()] == [other], "it is under way"
