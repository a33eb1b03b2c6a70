"""Ingestion as a durable run: driven by a real driver, embedded over HTTP, resumed, fenced."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest
from aiohttp import web

from rotina.database import Pool
from rotina.gateway import Gateway, PostgresLedger, RetryPolicy
from rotina.graphs.context import make_context
from rotina.graphs.ingestion import Ingested, Ingestion, build_ingestion
from rotina.knowledge import KnowledgeBase
from rotina.knowledge.loading import Limits
from rotina.knowledge.reindexing import reindex
from rotina.runs import Driver, Registry, Run, RunStore, Upload, WorkerLease, Workflow
from rotina.settings import Settings
from tests.scripted_model import Behaviour, Request, ScriptedModel, embeddings, status, vector
from workflows.knowledge_ingest import KNOWLEDGE_INGEST, IngestInput, IngestOutput

LONG = "\n\n".join(f"Parágrafo {n}: o prazo de devolução é de {n} dias úteis." for n in range(200))


@dataclass
class Stage:
    """What a test needs to ingest."""

    store: RunStore
    driver: Driver
    knowledge: KnowledgeBase
    model: ScriptedModel
    pool: Pool

    async def ingest(self, content: bytes, name: str = "a.txt", **value: Any) -> Run:
        given = {"collection": "help", **value}
        upload = Upload(name, content)
        given["document"] = upload.reference.model_dump()
        accepted = await self.store.accept(self.driver.registry["ingest"], given, upload=upload)
        await self.driver.drive(accepted.id)
        return await self.store.get(accepted.id)

    async def again(self, run: Run) -> Run:
        """Drive a run that was handed back, now."""
        async with self.pool.connection() as connection:
            await connection.execute("update rotina.run set available_at = now()")
        await self.driver.drive(run.id)
        return await self.store.get(run.id)


def ingested(run: Run) -> Ingested:
    assert run.result is not None, run.error
    return Ingested.model_validate(run.result["ingested"])


INGEST = replace(
    KNOWLEDGE_INGEST, name="ingest", build=lambda: build_ingestion(Ingestion(batch=10))
)


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    async with staged(pool, [INGEST]) as opened:
        yield opened


@contextlib.asynccontextmanager
async def staged(
    pool: Pool, workflows: Sequence[Workflow], hosts: Sequence[str] = ()
) -> AsyncIterator[Stage]:
    """A worker's driver for these workflows, and an empty collection `help`."""
    async with contextlib.AsyncExitStack() as stack:
        model = await stack.enter_async_context(ScriptedModel())
        deployment = {"model": "scripted", "base_url": model.base_url}
        routes = {"embed": {"deployments": ["one"]}, "better": {"deployments": ["one"]}}
        settings = Settings(deployments={"one": deployment}, routes=routes)
        gateway = await stack.enter_async_context(
            Gateway(settings, PostgresLedger(pool), retry=RetryPolicy(attempts=1))
        )
        lease = await stack.enter_async_context(WorkerLease(pool, 30).held())
        driver = Driver(
            pool,
            Registry(list(workflows)),
            lease,
            lambda attempt: make_context(pool, gateway, Limits(), attempt, source_hosts=hosts),
        )
        store = RunStore(pool, tenant="acme")
        knowledge = KnowledgeBase(pool, gateway, "acme")
        await knowledge.create("help", if_missing=True)
        yield Stage(store, driver, knowledge, model, pool)


async def test_a_file_becomes_chunks_with_spans(stage: Stage) -> None:
    run = await stage.ingest(LONG.encode(), uri="rules/a.txt", metadata={"year": 2025})
    told = ingested(run)
    assert (told.uri, told.version, told.unchanged) == ("rules/a.txt", 1, False)
    assert len(stage.model.requests) == -(-told.chunks // 10) > 1, "in batches"
    (stored,) = await stage.knowledge.documents("help")
    assert (stored.name, stored.language, stored.metadata) == ("a.txt", "pt", {"year": 2025})
    text = await stage.knowledge.text(told.document_id)
    found = await stage.knowledge.search("help", "prazo devolução", k=100)
    assert len(found) == told.chunks
    assert all(text[each.start : each.end] == each.text for each in found)
    calls = await stage.store.model_calls(run.id)
    assert {call.node for call in calls} == {"embed"}


async def test_the_same_file_again_embeds_nothing(stage: Stage) -> None:
    await stage.ingest(b"Refunds take seven days.")
    asked = len(stage.model.requests)
    told = ingested(await stage.ingest(b"Refunds take seven days.", metadata={"new": True}))
    assert told.unchanged
    assert len(stage.model.requests) == asked
    (stored,) = await stage.knowledge.documents("help")
    assert stored.metadata == {"new": True}


async def test_a_changed_file_replaces_what_was_there(stage: Stage) -> None:
    await stage.ingest(LONG.encode())
    told = ingested(await stage.ingest(b"Delivery is free."))
    assert (told.version, told.chunks) == (2, 1)
    assert (await stage.knowledge.stats("help")).chunks == 1


async def test_a_run_that_is_resumed_embeds_only_what_is_missing(stage: Stage) -> None:
    await stage.knowledge.create("other")
    batches = -(-ingested(await stage.ingest(LONG.encode(), collection="other")).chunks // 10)
    stage.model.requests.clear()

    async def fails_at_the_end(request: Request) -> Any:
        if not any("199" in text for text in request.body["input"]):
            return None
        await _kept(stage, batches - 1)
        return status(500)

    stage.model.script = fails_at_the_end
    run = await stage.ingest(LONG.encode())
    assert (run.state, run.attempts) == ("queued", 1)
    assert (await stage.knowledge.stats("help")).documents == 0, "all or nothing"
    first = [tuple(request.body["input"]) for request in stage.model.requests]
    stage.model.script = None
    stage.model.requests.clear()
    told = ingested(await stage.again(run))
    second = [tuple(request.body["input"]) for request in stage.model.requests]
    assert len(second) == 1, "the other batches were checkpointed"
    assert set(second) < set(first)
    # Every chunk has the vector of its own text, whichever attempt made it.
    stored = await stage.knowledge.vectors("help")
    assert len(stored.texts) == told.chunks
    for text, row in zip(stored.texts, stored.matrix, strict=True):
        assert sum(a * b for a, b in zip(row, vector(text), strict=True)) == pytest.approx(
            1, abs=1e-2
        )


async def _kept(stage: Stage, batches: int) -> None:
    """Wait until the vectors of that many batches are checkpointed; a failure cancels the rest."""
    written = """
        select count(*) as tasks
        from rotina.checkpoint_write join rotina.run on thread_id = run.id::text
        where run.state = 'running' and channel = 'batches'
    """
    async with asyncio.timeout(30), stage.pool.connection() as connection:
        while True:
            row = await (await connection.execute(written)).fetchone()
            if row is not None and row["tasks"] == batches:
                return
            await asyncio.sleep(0.02)


async def test_a_run_that_lost_its_lease_stores_nothing(stage: Stage) -> None:
    async def take_over(request: Request) -> None:
        async with stage.pool.connection() as connection:
            await connection.execute(
                "update rotina.run set lease_token = nextval('rotina.lease_token')"
            )

    stage.model.script = take_over
    run = await stage.ingest(b"Refunds take seven days.")
    assert run.state == "running", "it is another worker's now"
    assert (await stage.knowledge.stats("help")).documents == 0


async def test_two_runs_with_the_same_content_at_once(stage: Stage) -> None:
    """The second finds, when it wants to store, what the first has stored."""
    inner: list[Run] = []

    async def ingest_another(request: Request) -> None:
        stage.model.script = None
        inner.append(await stage.ingest(b"Refunds take seven days."))

    stage.model.script = ingest_another
    outer = ingested(await stage.ingest(b"Refunds take seven days."))
    assert not ingested(inner[0]).unchanged
    assert (outer.unchanged, outer.version) == (True, 1)


@pytest.mark.parametrize(
    ("content", "value", "error", "message"),
    [
        (b"Refunds.", {"collection": "absent"}, "CollectionNotFoundError", "kb create absent"),
        (b"", {}, "EmptyDocumentError", "0 bytes"),
        ("…!? —".encode(), {}, "EmptyDocumentError", "no words"),
    ],
)
async def test_what_cannot_be_ingested(
    stage: Stage, content: bytes, value: dict[str, Any], error: str, message: str
) -> None:
    run = await stage.ingest(content, **value)
    assert run.error is not None
    assert (run.state, run.error["type"]) == ("failed", error)
    assert message in run.error["message"]


async def test_models_that_differ_within_one_document(stage: Stage) -> None:
    turns = itertools.count(1)

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        data = [
            {"object": "embedding", "index": i, "embedding": vector(text)}
            for i, text in enumerate(request.body["input"])
        ]
        body = {"object": "list", "data": data, "model": f"model-{next(turns)}", "usage": {}}
        return web.json_response(body)

    stage.model.script = Behaviour(behave)
    run = await stage.ingest(LONG.encode())
    assert run.error is not None
    assert (run.state, run.error["type"]) == ("failed", "KnowledgeError")
    assert "gave vectors of several models ('model-1' with" in run.error["message"]


def test_the_workflow_takes_a_file() -> None:
    assert KNOWLEDGE_INGEST.file_field == "document"
    assert (KNOWLEDGE_INGEST.input, KNOWLEDGE_INGEST.output) == (IngestInput, IngestOutput)


async def test_labels_and_times_come_with_a_run(stage: Stage) -> None:
    moment = "2026-01-01T00:00:00+00:00"
    ingested(await stage.ingest(b"Refunds take seven days.", access=["hr"], valid_from=moment))
    (stored,) = await stage.knowledge.documents("help")
    assert (stored.access, stored.valid_from) == (["hr"], datetime.fromisoformat(moment))
    assert await stage.knowledge.search("help", "refunds", access=[]) == []


async def test_only_changed_chunks_are_embedded_by_a_run(stage: Stage) -> None:
    await stage.ingest(LONG.encode())
    asked = len(stage.model.requests)
    told = ingested(await stage.ingest(LONG.replace("Parágrafo 100:", "Capítulos 100:").encode()))
    new = [text for request in stage.model.requests[asked:] for text in request.body["input"]]
    assert 1 <= len(new) <= 3, "the one that changed, and what overlaps it"
    assert (told.version, told.unchanged) == (2, False)
    assert all("Capítulos 100:" in text for text in new)
    assert len((await stage.knowledge.vectors("help")).ids) == told.chunks


async def test_a_run_notices_that_the_collection_was_embedded_anew(stage: Stage) -> None:
    """The switch comes between a document's embedding and its storing."""
    await stage.ingest(b"Delivery is free.", name="first.txt")
    switched = False

    async def script(http: web.Request, request: Request) -> web.StreamResponse:
        nonlocal switched
        if not switched:
            switched = True
            await reindex(stage.knowledge, "help", "better")
        return await embeddings().run(http, request)

    stage.model.script = lambda _: Behaviour(script)
    told = ingested(await stage.ingest(b"Refunds take seven days."))
    assert switched
    assert told.chunks == 1
    assert (await stage.knowledge.get("help")).route == "better"
    assert len((await stage.knowledge.vectors("help")).ids) == 2
