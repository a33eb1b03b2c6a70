"""Reviews, threads and tenants on a real PostgreSQL, without Celery."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, TypedDict
from uuid import UUID, uuid4

import psycopg
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import BaseModel, Field

from rotina.database import Pool, tenant_scope
from rotina.errors import (
    IdempotencyConflictError,
    InvalidInputError,
    ReviewAnsweredError,
    ReviewNotFoundError,
    ThreadNotFoundError,
)
from rotina.runs import (
    Attempt,
    Conversation,
    Driver,
    MessageInput,
    Registry,
    ReviewStore,
    RunStore,
    ThreadStore,
    WorkerLease,
    Workflow,
    open_conversation,
    review,
)
from rotina.runs.thread import lock_thread


class Order(BaseModel):
    """Input and output of the approval workflows."""

    amount: int
    decisions: list[str] = []


class Approval(BaseModel):
    """What a person fills in."""

    approve: bool
    comment: str = Field(default="", max_length=20)


class State(TypedDict, total=False):
    amount: int
    decisions: list[str]


def two_questions(state: State) -> State:
    first = review("Pay?", Approval, data={"amount": state["amount"]}, assignee="finance")
    second = review("Sure?", Approval)
    return {"decisions": [str(first.approve), str(second.approve)]}


def graph_of(**nodes: Any) -> Callable[[], StateGraph[State]]:
    def build() -> StateGraph[State]:
        graph = StateGraph(State)
        names = list(nodes)
        for name, node in nodes.items():
            graph.add_node(name, node)
        for before, after in zip([START, *names], [*names, END], strict=True):
            graph.add_edge(before, after)
        return graph

    return build


def both_at_once() -> StateGraph[Any]:
    from operator import add
    from typing import Annotated

    class Merged(TypedDict, total=False):
        amount: int
        decisions: Annotated[list[str], add]

    def ask(who: str) -> Any:
        def node(state: Merged) -> Merged:
            return {"decisions": [f"{who} {review('Pay?', Approval, assignee=who).approve}"]}

        return node

    graph = StateGraph(Merged)
    for who in ("finance", "legal"):
        graph.add_node(who, ask(who))
        graph.add_edge(START, who)
        graph.add_edge(who, END)
    return graph


def raw(state: State) -> State:
    return {"decisions": [interrupt("anything?")["word"]]}


def keep(state: State) -> State:
    return {}


WORKFLOWS = {
    "twice": graph_of(first=keep, ask=two_questions, last=keep),
    "parallel": both_at_once,
    "raw": graph_of(ask=raw),
    "nested": graph_of(inner=graph_of(ask=two_questions)().compile()),
}
REGISTRY = Registry(
    Workflow(name=name, input=Order, output=Order, build=build) for name, build in WORKFLOWS.items()
)


@pytest.fixture
def store(pool: Pool) -> RunStore:
    return RunStore(pool, tenant="acme")


@pytest.fixture
def reviews(pool: Pool) -> ReviewStore:
    return ReviewStore(pool, tenant="acme")


@pytest.fixture
async def driver(pool: Pool) -> AsyncIterator[Driver]:
    async with WorkerLease(pool, 30).held() as lease:
        yield Driver(pool, REGISTRY, lease, lambda _: None)


async def accepted(store: RunStore, workflow: str) -> UUID:
    return (await store.accept(REGISTRY[workflow], {"amount": 5})).id


@pytest.mark.parametrize("workflow", ["twice", "nested"])
async def test_a_run_waits_for_each_answer_and_goes_on(
    store: RunStore, reviews: ReviewStore, driver: Driver, workflow: str
) -> None:
    run_id = await accepted(store, workflow)
    assert await driver.drive(run_id) == "waiting"
    waiting = await store.get(run_id)
    assert (waiting.state, waiting.attempts) == ("waiting", 0)
    [first] = await reviews.list_open()
    assert (first.question, first.assignee, first.data) == ("Pay?", "finance", {"amount": 5})
    assert first.form["required"] == ["approve"]
    assert await driver.drive(run_id) == "nothing"

    assert await reviews.answer(first.id, {"approve": True}, by="ana") == "io"
    assert await driver.drive(run_id) == "waiting"
    [second] = await reviews.list_open()
    assert second.question == "Sure?"
    await reviews.answer(second.id, {"approve": False, "comment": "não"}, by="bia")
    assert await driver.drive(run_id) == "succeeded"

    run = await store.get(run_id)
    assert run.result == {"amount": 5, "decisions": ["True", "False"]}
    kinds = [event.kind for event in await store.events(run_id)]
    assert [kind for kind in kinds if kind in {"review", "answered", "succeeded"}] == [
        *("review", "answered", "review", "answered"),
        "succeeded",
    ]
    assert await reviews.list_open() == []


async def test_two_questions_at_once_wait_for_both(
    store: RunStore, reviews: ReviewStore, driver: Driver
) -> None:
    run_id = await accepted(store, "parallel")
    assert await driver.drive(run_id) == "waiting"
    finance, legal = sorted(await reviews.list_open(), key=lambda each: each.assignee or "")
    assert [each.id for each in await reviews.list_open(assignee="legal")] == [legal.id]
    assert await reviews.answer(legal.id, {"approve": False}, by="luis") is None
    assert (await store.get(run_id)).state == "waiting"
    assert await reviews.answer(finance.id, {"approve": True}, by="ana") is not None
    assert await driver.drive(run_id) == "succeeded"
    result = (await store.get(run_id)).result
    assert result is not None
    assert sorted(result["decisions"]) == ["finance True", "legal False"]


async def test_langgraphs_own_interrupt_takes_any_object(
    store: RunStore, reviews: ReviewStore, driver: Driver
) -> None:
    run_id = await accepted(store, "raw")
    assert await driver.drive(run_id) == "waiting"
    [asked] = await reviews.list_open()
    assert asked.question == "anything?"
    await reviews.answer(asked.id, {"word": "sim"}, by="ana")
    assert await driver.drive(run_id) == "succeeded"
    assert ((await store.get(run_id)).result or {})["decisions"] == ["sim"]


async def test_of_two_answers_one_wins_and_the_other_hears_so(
    store: RunStore, reviews: ReviewStore, driver: Driver
) -> None:
    await driver.drive(await accepted(store, "raw"))
    [asked] = await reviews.list_open()
    answers = [reviews.answer(asked.id, {"word": who}, by=who) for who in ("ana", "bia", "carl")]
    outcomes = await asyncio.gather(*answers, return_exceptions=True)
    losers = [each for each in outcomes if isinstance(each, ReviewAnsweredError)]
    assert len(losers) == 2
    winner = await reviews.get(asked.id)
    assert winner.answer == {"word": winner.answered_by}
    assert all(repr(winner.answered_by) in str(loser) for loser in losers)


async def test_an_answer_must_fit_the_form(
    store: RunStore, reviews: ReviewStore, driver: Driver
) -> None:
    await driver.drive(await accepted(store, "twice"))
    [asked] = await reviews.list_open()
    with pytest.raises(InvalidInputError, match="approve: 'perhaps' is not of type 'boolean'"):
        await reviews.answer(asked.id, {"approve": "perhaps"}, by="ana")
    with pytest.raises(InvalidInputError, match="'approve' is a required property"):
        await reviews.answer(asked.id, {}, by="ana")
    assert (await reviews.get(asked.id)).state == "open"
    assert (await reviews.find(str(asked.id)[:20])).id == asked.id
    for missing in (reviews.get(uuid4()), reviews.find("ffff")):
        with pytest.raises(ReviewNotFoundError):
            await missing


async def test_a_worker_that_dies_after_the_answer_asks_nobody_again(
    store: RunStore, reviews: ReviewStore, pool: Pool
) -> None:
    """The answer is delivered to every attempt until the node has used it."""
    attempts = 0

    async def die_once(state: State) -> State:
        nonlocal attempts
        given = review("Pay?", Approval)
        attempts += 1
        if attempts == 1:
            await asyncio.sleep(60)
        return {"decisions": [str(given.approve)]}

    workflow = Workflow("dying", Order, Order, graph_of(ask=die_once))
    registry = Registry([workflow])
    async with WorkerLease(pool, 30).held() as lease:
        driver = Driver(pool, registry, lease, lambda _: None)
        run_id = (await store.accept(workflow, {"amount": 1})).id
        assert await driver.drive(run_id) == "waiting"
        [asked] = await reviews.list_open()
        await reviews.answer(asked.id, {"approve": True}, by="ana")
        driving = asyncio.create_task(driver.drive(run_id))
        while attempts == 0:
            await asyncio.sleep(0.01)
        driving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await driving
        assert await driver.drive(run_id) == "succeeded"
    assert attempts == 2
    assert await reviews.list_open() == []


# ── threads ───────────────────────────────────────────────────────────────────────────────────


class Reply(BaseModel):
    said: str


class Talk(TypedDict, total=False):
    thread: UUID
    text: str
    said: str


class Talking(BaseModel):
    """The runtime context of the talking workflow."""

    model_config = {"arbitrary_types_allowed": True}

    conversation: Callable[[UUID], Awaitable[Conversation]]


async def parrot(state: Talk, runtime: Runtime[Talking]) -> Talk:
    conversation = await runtime.context.conversation(UUID(str(state["thread"])))
    count = conversation.thread.state.get("count", 0) + 1
    heard = [message.text for message in conversation.history if message.role == "user"]
    said = f"{count}: {state['text']} after {heard}"
    await conversation.reply(said, {"count": count}, state={"count": count})
    return {"said": said}


def build_parrot() -> StateGraph[Talk, Talking]:
    graph = StateGraph(Talk, context_schema=Talking)
    graph.add_node("parrot", parrot)
    graph.add_edge(START, "parrot")
    graph.add_edge("parrot", END)
    return graph


PARROT = Workflow("parrot", MessageInput, Reply, build_parrot)


@pytest.fixture
def threads(pool: Pool) -> ThreadStore:
    return ThreadStore(pool, tenant="acme")


@pytest.fixture
async def talker(pool: Pool) -> AsyncIterator[Driver]:
    def context(attempt: Attempt) -> Talking:
        run = attempt.run

        async def conversation(thread_id: UUID) -> Conversation:
            return await open_conversation(
                pool,
                tenant=run.tenant,
                run_id=run.id,
                thread_id=thread_id,
                effects=attempt.effects,
            )

        return Talking(conversation=conversation)

    async with WorkerLease(pool, 30).held() as lease:
        yield Driver(pool, Registry([PARROT]), lease, context)


async def say(store: RunStore, thread: UUID, text: str, key: str | None = None) -> UUID:
    value = {"thread": str(thread), "text": text}
    return (await store.accept(PARROT, value, key=key)).id


async def test_messages_are_answered_in_turn_and_remembered(
    store: RunStore, threads: ThreadStore, talker: Driver, pool: Pool
) -> None:
    thread = await threads.open(PARROT, customer="ana")
    first = await say(store, thread.id, "olá")
    second = await say(store, thread.id, "tudo bem?")
    assert await talker.drive(second) == "later", "the first is not answered yet"
    run = await store.get(second)
    assert (run.state, run.attempts) == ("queued", 0)
    assert await talker.drive(first) == "succeeded"
    async with pool.connection() as connection:
        await connection.execute("update rotina.run set available_at = now()")
    assert await talker.drive(second) == "succeeded"

    said = await threads.messages(thread.id)
    assert [(message.role, message.text) for message in said] == [
        ("user", "olá"),
        ("user", "tudo bem?"),
        ("assistant", "1: olá after []"),
        ("assistant", "2: tudo bem? after ['olá']"),
    ]
    assert said[3].data == {"count": 2}
    assert (await threads.get(thread.id)).state == {"count": 2}
    assert await threads.messages(thread.id, after=said[2].id) == [said[3]]
    assert [each.id for each in await threads.list_threads()] == [thread.id]


async def test_a_repeated_key_says_a_thing_once(store: RunStore, threads: ThreadStore) -> None:
    thread = await threads.open(PARROT)
    first = await say(store, thread.id, "hello", key="m1")
    assert await say(store, thread.id, "hello", key="m1") == first
    with pytest.raises(IdempotencyConflictError):
        await say(store, thread.id, "other", key="m1")
    assert len(await threads.messages(thread.id)) == 1


async def test_a_message_in_no_thread_of_its_own_starts_no_run(
    store: RunStore, threads: ThreadStore, pool: Pool
) -> None:
    thread = await threads.open(PARROT)
    cases = (
        (store, PARROT, uuid4(), ThreadNotFoundError, "There is no thread"),
        (RunStore(pool, tenant="other"), PARROT, thread.id, ThreadNotFoundError, "There is no"),
        (store, replace(PARROT, name="crow"), thread.id, InvalidInputError, "with 'parrot', not"),
    )
    for asked, workflow, thread_id, error, says in cases:
        with pytest.raises(error, match=says):
            await asked.accept(workflow, {"thread": str(thread_id), "text": "olá"})
        assert await asked.list_runs() == []
    assert await threads.messages(thread.id) == []


async def test_a_message_is_numbered_after_the_one_before_it_has_committed(
    store: RunStore, threads: ThreadStore, pool: Pool
) -> None:
    """Else the second of two could be answered while the first is not seen yet."""
    thread = await threads.open(PARROT)
    waits = "select from pg_locks where not granted and locktype = 'transactionid'"
    async with pool.connection() as first, asyncio.TaskGroup() as group, first.transaction():
        await lock_thread(first, PARROT, tenant="acme", thread_id=thread.id)
        second = group.create_task(say(store, thread.id, "segunda"))
        async with asyncio.timeout(30):
            while (await first.execute(waits)).rowcount == 0:
                await asyncio.sleep(0.01)
        assert not second.done()
    assert [message.text for message in await threads.messages(thread.id)] == ["segunda"]


async def test_what_is_no_thread_is_named(threads: ThreadStore, pool: Pool) -> None:
    with pytest.raises(InvalidInputError, match="'raw' does not converse"):
        await threads.open(REGISTRY["raw"])
    with pytest.raises(ThreadNotFoundError):
        await threads.messages(uuid4())
    thread = await threads.open(PARROT)
    with pytest.raises(ThreadNotFoundError):
        await ThreadStore(pool, tenant="other").get(thread.id)


# ── tenants ───────────────────────────────────────────────────────────────────────────────────


async def test_row_level_security_holds_without_a_where(
    store: RunStore, threads: ThreadStore, driver: Driver, reviews: ReviewStore, pool: Pool
) -> None:
    """Even a statement that forgets the tenant sees no row of another one."""
    run_id = await accepted(store, "raw")
    await driver.drive(run_id)
    thread = await threads.open(PARROT)
    await say(store, thread.id, "secret")
    tables = ("run", "run_event", "review", "thread", "message")
    for tenant, sees in (("acme", True), ("other", False), ("", False)):
        async with tenant_scope(pool, tenant) as connection:
            for table in tables:
                cursor = await connection.execute(f"select count(*) as n from rotina.{table}")
                row = await cursor.fetchone()
                assert row is not None
                assert (row["n"] > 0) is sees, (tenant, table)
    [asked] = await reviews.list_open()
    with pytest.raises(ReviewNotFoundError):
        await ReviewStore(pool, tenant="other").answer(asked.id, {"word": "x"}, by="eve")


async def test_a_tenant_cannot_write_for_another(store: RunStore, pool: Pool) -> None:
    run_id = await accepted(store, "raw")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with tenant_scope(pool, "other") as connection:
            await connection.execute(
                "insert into rotina.thread (id, tenant, workflow) values (%s, 'acme', 'parrot')",
                (uuid4(),),
            )
    async with tenant_scope(pool, "other") as connection:
        cursor = await connection.execute("update rotina.run set state = 'queued' where true")
        assert cursor.rowcount == 0
    for forbidden in ("select * from rotina.worker", "delete from rotina.run"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with tenant_scope(pool, "acme") as connection:
                await connection.execute(forbidden)
    async with pool.connection() as connection:
        cursor = await connection.execute("select current_user = session_user as own")
        assert (await cursor.fetchone() or {})["own"], "the role ends with its transaction"
    assert (await store.get(run_id)).state == "queued"
