"""A collection is embedded anew by durable runs: resumed, at the same time, dropped meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from rotina.database import Pool, tenant_scope
from rotina.graphs.reindexing import Reindexed, build_reindexing
from rotina.knowledge import About
from rotina.knowledge.loading import load
from rotina.knowledge.preparing import prepare
from rotina.knowledge.reindexing import drop_space, embedded_by
from rotina.runs import Run, Workflow
from tests.integration.test_knowledge_ingestion import Stage, staged
from tests.scripted_model import Behaviour, Request, status
from workflows.knowledge_reindex import KNOWLEDGE_REINDEX

CHUNKS = 10
BATCH = 2
# Without its limit two runs are driven at the same time.
REINDEX: Workflow = replace(
    KNOWLEDGE_REINDEX, flow=None, build=lambda: build_reindexing(batch=BATCH)
)


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    async with staged(pool, [REINDEX]) as opened:
        collection = await opened.knowledge.get("help")
        batch = [
            prepare(load(f"Refund rule {n}.".encode(), name=f"{n}.txt"), collection, About())
            for n in range(CHUNKS)
        ]
        await opened.knowledge.put(collection, batch)
        opened.model.requests.clear()
        yield opened


async def run(stage: Stage, route: str = "better", **options: Any) -> Run:
    value = {"collection": "help", "route": route, **options}
    accepted = await stage.store.accept(REINDEX, value)
    await stage.driver.drive(accepted.id)
    return await stage.store.get(accepted.id)


def reindexed(ended: Run) -> Reindexed:
    assert ended.result is not None, ended.error
    return Reindexed.model_validate(ended.result["reindexed"])


def embedded(stage: Stage) -> list[str]:
    """Texts that the model was given, without the one that asks where a route leads."""
    texts = [text for each in stage.model.requests for text in each.body["input"]]
    return [text for text in texts if text != "?"]


async def spaces(stage: Stage) -> dict[str, tuple[str, int]]:
    """State and number of vectors by route."""
    found = await stage.knowledge.get("help")
    counts = {each.route: await embedded_by(stage.knowledge, "help", each.route)
              for each in found.spaces}  # fmt: skip
    return {each.route: (each.state, counts[each.route][0]) for each in found.spaces}


async def test_a_run_embeds_all_and_switches_over(stage: Stage) -> None:
    told = reindexed(await run(stage))
    assert (told.route, told.model, told.chunks) == ("better", "scripted", CHUNKS)
    assert not told.unchanged
    assert len(embedded(stage)) == CHUNKS
    assert await spaces(stage) == {"better": ("current", CHUNKS)}
    assert reindexed(await run(stage)).unchanged
    assert len(embedded(stage)) == CHUNKS, "nothing twice"
    async with stage.pool.connection() as connection:
        cursor = await connection.execute(
            "select coalesce(sum(length(answer)), 0) as bytes from rotina.recorded"
        )
        row = await cursor.fetchone()
    assert row is not None
    assert row["bytes"] < 2000, "vectors are stored, not recorded"


async def test_a_run_keeps_the_old_vectors_and_goes_back_to_them(stage: Stage) -> None:
    reindexed(await run(stage, keep=True))
    assert await spaces(stage) == {"better": ("current", CHUNKS), "embed": ("ready", CHUNKS)}
    asked = len(embedded(stage))
    told = reindexed(await run(stage, "embed", keep=True))
    assert (told.route, told.unchanged) == ("embed", False)
    assert await spaces(stage) == {"embed": ("current", CHUNKS), "better": ("ready", CHUNKS)}
    reindexed(await run(stage))
    assert await spaces(stage) == {"better": ("current", CHUNKS)}
    assert len(embedded(stage)) == asked, "they were there"


async def test_a_run_that_is_resumed_embeds_only_what_lacks(stage: Stage) -> None:
    count = 0

    def failing(request: Request) -> Behaviour | None:
        nonlocal count
        count += request.body["input"] != ["?"]
        return status(500) if count == 3 else None

    stage.model.script = failing
    ended = await run(stage)
    assert ended.state == "queued", "a server's failure passes: another attempt"
    assert await spaces(stage) == {"embed": ("current", CHUNKS), "better": ("building", 2 * BATCH)}
    assert len(await stage.knowledge.search("help", "refund", k=CHUNKS)) == CHUNKS
    stage.model.requests.clear()
    assert not reindexed(await stage.again(ended)).unchanged
    assert len(embedded(stage)) == CHUNKS - 2 * BATCH


async def test_two_runs_at_once_do_no_harm(stage: Stage) -> None:
    ended = await asyncio.gather(run(stage), run(stage, keep=True), run(stage))
    assert {reindexed(each).route for each in ended} == {"better"}
    found = await spaces(stage)
    assert found["better"] == ("current", CHUNKS)
    async with tenant_scope(stage.pool, "acme") as connection:
        cursor = await connection.execute("select count(*) as n from rotina.embedding")
        row = await cursor.fetchone()
    assert row is not None
    assert row["n"] == CHUNKS * len(found), "one vector a chunk and space"


async def test_what_is_added_meanwhile_is_caught_up_with(stage: Stage) -> None:
    late = load(b"Late rule.", name="late.txt")
    added = asyncio.Event()

    async def adding(request: Request) -> None:
        if "Refund rule 9." in request.body["input"] and not added.is_set():
            added.set()
            await stage.knowledge.add("help", late)

    stage.model.script = adding
    assert reindexed(await run(stage)).chunks == CHUNKS + 1
    assert added.is_set()
    assert await spaces(stage) == {"better": ("current", CHUNKS + 1)}


async def test_vectors_that_were_dropped_meanwhile_fail_the_run(stage: Stage) -> None:
    async def dropping(request: Request) -> None:
        if "Refund rule 4." in request.body["input"]:
            await drop_space(stage.knowledge, "help", "better")

    stage.model.script = dropping
    ended = await run(stage)
    assert ended.error is not None
    assert (ended.state, ended.error["type"]) == ("failed", "KnowledgeError")
    assert "were dropped meanwhile: start again" in ended.error["message"]
    assert await spaces(stage) == {"embed": ("current", CHUNKS)}
    stage.model.script = None
    assert reindexed(await run(stage)).chunks == CHUNKS


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"collection": "nope", "route": "better"}, "There is no collection 'nope'"),
        ({"collection": "help", "route": "nope"}, "No route 'nope'"),
    ],
)
async def test_what_cannot_be_leaves_nothing_behind(
    stage: Stage, value: dict[str, str], message: str
) -> None:
    accepted = await stage.store.accept(REINDEX, value)
    await stage.driver.drive(accepted.id)
    ended = await stage.store.get(accepted.id)
    assert ended.error is not None
    assert message in ended.error["message"]
    assert await spaces(stage) == {"embed": ("current", CHUNKS)}
