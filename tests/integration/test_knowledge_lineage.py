"""Which runs stand on which version of a document, and what becomes of what they said."""

from collections.abc import AsyncIterator
from typing import Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel

from rotina.database import Pool, tenant_scope
from rotina.gateway import Gateway
from rotina.graphs.context import Context
from rotina.knowledge import KnowledgeBase
from rotina.runs import Run, Workflow
from rotina.settings import Settings
from tests.integration.test_knowledge_ingestion import INGEST, Stage, ingested, staged


class Question(BaseModel):
    """What is asked."""

    question: str


class Reply(BaseModel):
    """A sentence, and what it stands on."""

    sentences: list[dict[str, Any]]


class _State(TypedDict, total=False):
    question: str
    sentences: list[dict[str, Any]]


async def _quote(state: _State, runtime: Runtime[Context]) -> _State:
    found = await runtime.context.knowledge.search("help", state["question"], k=1)
    citations = [passage.cite().model_dump(mode="json") for passage in found]
    return {"sentences": [{"text": "So it is.", "citations": citations}]}


def _build() -> StateGraph[_State, Context, Any, Any]:
    graph = StateGraph(_State, context_schema=Context)
    graph.add_node("quote", _quote)
    graph.add_edge(START, "quote")
    graph.add_edge("quote", END)
    return graph


QUOTE = Workflow(name="quote", input=Question, output=Reply, build=_build)


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    async with staged(pool, [INGEST, QUOTE]) as opened:
        yield opened


async def ask(stage: Stage, question: str) -> Run:
    accepted = await stage.store.accept(QUOTE, {"question": question})
    await stage.driver.drive(accepted.id)
    run = await stage.store.get(accepted.id)
    assert run.state == "succeeded", run.error
    return run


async def test_answers_are_found_by_the_version_they_cite(stage: Stage) -> None:
    first = await stage.ingest(b"Refunds take seven days.", uri="rules")
    old = await ask(stage, "How long does a refund take?")
    second = await stage.ingest(b"Refunds take nine days.", uri="rules")
    new = await ask(stage, "How long does a refund take?")
    found = await stage.knowledge.cited_by("help", "rules")
    told = {each.run_id: (each.version, each.present, each.quoted) for each in found}
    assert told == {
        first.id: (1, False, False),
        old.id: (1, False, True),
        second.id: (2, True, False),
        new.id: (2, True, True),
    }
    only = await stage.knowledge.cited_by("help", "rules", version=1)
    assert {each.run_id for each in only} == {first.id, old.id}
    assert await stage.knowledge.cited_by("help", "unknown") == []
    await stage.knowledge.delete("help", "rules")
    after = await stage.knowledge.cited_by("help", "rules")
    assert {each.run_id: each.present for each in after} == dict.fromkeys(told, False)


async def test_a_file_that_was_read_elsewhere_counts(stage: Stage, pool: Pool) -> None:
    run = await stage.ingest(b"Refunds take seven days.", uri="a")
    await stage.ingest(b"Refunds take seven days.", uri="b")
    assert run.id in {each.run_id for each in await stage.knowledge.cited_by("help", "b")}
    async with Gateway(Settings()) as gateway:
        rival = KnowledgeBase(pool, gateway, "rival")
        await rival.create("help")
        assert await rival.cited_by("help", "a") == []
        assert await rival.forget([run.id]) == 0
    assert (await stage.store.get(run.id)).result is not None


async def test_a_deleted_document_takes_its_answers_along(stage: Stage, pool: Pool) -> None:
    told = ingested(await stage.ingest(b"Refunds take seven days.", uri="rules"))
    await stage.ingest(b"The moon is far away.", uri="moon")
    about, other = await ask(stage, "refunds"), await ask(stage, "moon")
    async with pool.connection() as connection:
        await connection.execute(
            "insert into rotina.answer_cache values ('acme', 'k', 'a', now() + interval '1 day')"
        )
    await stage.knowledge.delete("help", "rules", answers=True)
    gone, kept = await stage.store.get(about.id), await stage.store.get(other.id)
    assert (gone.state, gone.result) == ("succeeded", None)
    assert kept.result is not None
    async with tenant_scope(pool, "acme") as connection:
        for table, column in (("chunk", "document_id"), ("embedding", "document_id")):
            cursor = await connection.execute(
                f"select 1 from rotina.{table} where {column} = %s", (told.document_id,)
            )
            assert await cursor.fetchall() == []
    async with pool.connection() as connection:
        cursor = await connection.execute("select 1 from rotina.answer_cache")
        assert await cursor.fetchall() == []
        cursor = await connection.execute(
            "select run_id from rotina.recorded where run_id = any(%s)", ([about.id, other.id],)
        )
        assert {row["run_id"] for row in await cursor.fetchall()} == {other.id}


async def test_what_only_looks_like_a_citation_harms_nothing(stage: Stage) -> None:
    """A result may hold anything under these names."""

    async def odd(state: _State) -> _State:
        del state
        return {"sentences": [{"citations": [
            {"document_id": "x", "version": 1}, {"document_id": 3}, "text", None,
            {"document_id": "01a20b99-f60c-7281-9b71-93fc4f1d1a13", "version": "two"},
        ]}]}  # fmt: skip

    graph = StateGraph(_State)
    graph.add_node("odd", odd)
    graph.add_edge(START, "odd")
    graph.add_edge("odd", END)
    workflow = Workflow(name="odd", input=Question, output=Reply, build=lambda: graph)
    async with staged(stage.pool, [workflow]) as opened:
        accepted = await opened.store.accept(workflow, {"question": "?"})
        await opened.driver.drive(accepted.id)
        assert (await opened.store.get(accepted.id)).state == "succeeded"
