"""Nodes of syncing. What was done of a batch is in the database, document by document, so a worker
that dies leaves nothing to repeat but what it had under way; storing the same content again embeds
nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from rotina.errors import DocumentError, KnowledgeError, SourceError
from rotina.graphs.context import Context
from rotina.graphs.syncing.state import Synced, SyncingState
from rotina.knowledge.loading import load_in_child
from rotina.knowledge.sources import FollowedSource, Listed, Source, Sources, open_source
from rotina.knowledge.sources.model import SETTINGS

PAGE = 1000
"""Documents that are noted in one statement."""
PARALLEL = 4
"""Documents that are fetched, read and embedded at the same time."""


class Nodes:
    """The nodes of one syncing graph."""

    def __init__(self, batch: int) -> None:
        self._batch = batch

    async def list(self, state: SyncingState, runtime: Runtime[Context]) -> SyncingState:
        """Note all that the source lists. Raises `SourceError` when it cannot say."""

        async def note(followed: FollowedSource, sources: Sources) -> str:
            began = await sources.clock()
            if state.get("retry_failed"):
                await sources.retry_failed(followed.id)
            page: list[Listed] = []
            async with _opened(followed, runtime.context) as source:
                async for each in source.listed():
                    page.append(each)
                    if len(page) == PAGE:
                        await sources.see(followed.id, page)
                        page = []
            await sources.see(followed.id, page)
            return began.isoformat()

        return {"batches": 0, "began": await _once("list", 0, state, runtime, note)}

    async def work(
        self, state: SyncingState, runtime: Runtime[Context]
    ) -> Command[Literal["work", "finish"]]:
        """Store one batch of what is new or has changed; what cannot be stored is noted so."""
        context, number = runtime.context, state["batches"]
        began = datetime.fromisoformat(state["began"])

        async def store(followed: FollowedSource, sources: Sources) -> int:
            slots = asyncio.Semaphore(PARALLEL)
            due = await sources.due(followed.id, began, self._batch)

            async def one(source: Source, item: Mapping[str, Any]) -> None:
                async with slots:
                    outcome, error = await _stored(context, state["collection"], source, item)
                    await sources.tried(followed.id, context.run_id, item, outcome, error)

            async with _opened(followed, context) as source:
                each = (one(source, item) for item in due)
                ended = await asyncio.gather(*each, return_exceptions=True)
            # One that fails for another reason than its document fails the attempt, not the others.
            for problem in ended:
                if problem is not None:
                    raise problem
            return len(due)

        done = await _once("work", number, state, runtime, store)
        if done < self._batch:
            return Command(goto="finish")
        return Command(goto="work", update={"batches": number + 1})

    async def finish(self, state: SyncingState, runtime: Runtime[Context]) -> SyncingState:
        """Delete what is gone, if the source says so, and tell what was done."""
        context, began = runtime.context, datetime.fromisoformat(state["began"])

        async def end(followed: FollowedSource, sources: Sources) -> dict[str, int]:
            deleted, gone = 0, PAGE
            while gone == PAGE:
                gone, went = await sources.let_go(state["collection"], followed, began, PAGE)
                deleted += went
            await context.knowledge.index(await context.knowledge.get(state["collection"]))
            counts = await sources.finish(followed.id, context.run_id, began)
            return {**counts, "deleted": deleted}

        counts = await _once("finish", 0, state, runtime, end)
        synced = Synced(collection=state["collection"], source=state["source"], **counts)
        return {"synced": synced.model_dump(mode="json")}


async def _once(
    kind: str,
    number: int,
    state: SyncingState,
    runtime: Runtime[Context],
    work: Callable[[FollowedSource, Sources], Awaitable[Any]],
) -> Any:
    """What the work gives; a replay does nothing."""
    asked = {"collection": state["collection"], "source": state["source"], "number": number}

    async def done() -> Any:
        sources = Sources(runtime.context.knowledge)
        return await work(await sources.get(state["collection"], state["source"]), sources)

    return await runtime.context.recording.once(f"sync_{kind}", asked, done)


@asynccontextmanager
async def _opened(followed: FollowedSource, context: Context) -> AsyncIterator[Source]:
    settings = SETTINGS.validate_python(followed.settings)
    source = open_source(settings, hosts=context.source_hosts, most_bytes=context.limits.max_bytes)
    try:
        yield source
    finally:
        await source.close()


async def _stored(
    context: Context, collection: str, source: Source, item: Mapping[str, Any]
) -> tuple[str, dict[str, str] | None]:
    """What became of one document, and why it failed. A `ModelError` fails the attempt."""
    try:
        fetched = await source.fetch(item["uri"])
        document = await load_in_child(
            fetched.content,
            name=fetched.name,
            media_type=fetched.media_type,
            limits=context.limits,
        )
        added = await context.knowledge.add(
            collection,
            document,
            uri=item["uri"],
            metadata=item["metadata"],
            from_source=True,
        )
    except (SourceError, DocumentError, KnowledgeError) as error:
        return "failed", {"type": type(error).__name__, "message": str(error)[:2000]}
    if added.unchanged:
        return "unchanged", None
    return ("added" if added.version == 1 else "changed"), None
