"""Nodes of ingestion: load, chunk, embed (once a batch), store, index."""

import asyncio
from typing import Any, Literal
from uuid import UUID

from langgraph.runtime import Runtime
from langgraph.types import Command, Send
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from pydantic import TypeAdapter

from rotina.errors import KnowledgeChangedError
from rotina.graphs.context import Context
from rotina.graphs.ingestion.ingestion import Ingested, Ingestion
from rotina.graphs.ingestion.state import Batch, BatchState, IngestionState
from rotina.knowledge.base import KnowledgeBase
from rotina.knowledge.document import Document
from rotina.knowledge.model import Added, Collection
from rotina.knowledge.preparing import About, Prepared, prepare
from rotina.knowledge.store import Embedded, as_tenant, keep, store
from rotina.knowledge.vectors import pack, unpack
from rotina.runs import FileReference

_ABOUT = TypeAdapter(About)


class Nodes:
    """The nodes of one ingestion graph."""

    def __init__(self, ingestion: Ingestion) -> None:
        self._ingestion = ingestion

    async def load(self, state: IngestionState, runtime: Runtime[Context]) -> IngestionState:
        """The file's text. Raises `CollectionNotFoundError` before anything is read."""
        await runtime.context.knowledge.get(state["collection"])
        reference = FileReference.model_validate(state["document"])
        document = await runtime.context.load(reference)
        return {"loaded": document.model_dump(mode="json")}

    async def chunk(
        self, state: IngestionState, runtime: Runtime[Context]
    ) -> Command[Literal["embed", "store"]]:
        """One `embed` task a batch of chunks that are not stored yet; often there is none."""
        knowledge = runtime.context.knowledge
        collection = await knowledge.get(state["collection"])
        prepared = await _prepared(state, knowledge, collection)
        if await knowledge.knows(collection, prepared):
            return Command(goto="store")
        missing = await knowledge.missing(collection, prepared)
        texts, size = prepared.inputs, self._ingestion.batch
        tasks = []
        for space in collection.spaces:
            if space.state == "building":
                continue
            done = {n for b in _batches(state, space.id) for n in b["places"]}
            left = [place for place in missing if place not in done]
            for places in _batched(left, size):
                part = [texts[place] for place in places]
                task = BatchState(space=str(space.id), places=places, texts=part, route=space.route)
                tasks.append(Send("embed", task))
        return Command(goto=tasks or "store")

    async def embed(self, state: BatchState, runtime: Runtime[Context]) -> IngestionState:
        """Vectors of one batch; a run that is resumed has those of the finished ones."""
        answer = await runtime.context.at("embed").embed(
            state["texts"], route=state["route"], record=False
        )
        packed = await asyncio.to_thread(pack, answer.vectors)
        batch = Batch(
            space=state["space"], places=state["places"], vectors=packed, model=answer.model
        )
        return {"batches": [batch]}

    async def store(
        self, state: IngestionState, runtime: Runtime[Context]
    ) -> Command[Literal["chunk", "index"]]:
        """Document, chunks and vectors in one fenced transaction, in the place of those before.

        Should the collection have changed so that more has to be embedded, that comes first.
        """
        context = runtime.context
        collection = await context.knowledge.get(state["collection"])
        prepared = await _prepared(state, context.knowledge, collection)

        async def change(connection: AsyncConnection[DictRow]) -> dict[str, Any]:
            async with as_tenant(connection, context.tenant):
                # Another run may have stored the same content while this one embedded it.
                added = await keep(connection, collection.id, prepared)
                if added is None:
                    embedded = _embedded(state, prepared)
                    (added,), _ = await store(
                        connection, context.tenant, collection, [prepared], embedded
                    )
            return added.model_dump(mode="json")

        try:
            receipt = await context.effects.transact("store_document", change)
        except KnowledgeChangedError:
            return Command(goto="chunk")
        told = _told(state, prepared, Added.model_validate(receipt))
        return Command(goto="index", update={"ingested": told})

    async def index(self, state: IngestionState, runtime: Runtime[Context]) -> IngestionState:
        """Build the vector index when the collection has outgrown exact search."""
        knowledge = runtime.context.knowledge
        await knowledge.index(await knowledge.get(state["collection"]))
        return {}


async def _prepared(
    state: IngestionState, knowledge: KnowledgeBase, collection: Collection
) -> Prepared:
    document = Document.model_validate(state["loaded"])
    about, room = _ABOUT.validate_python(state), knowledge.room(collection)
    return await asyncio.to_thread(prepare, document, collection, about, room=room)


def _batched(places: list[int], size: int) -> list[list[int]]:
    return [places[first : first + size] for first in range(0, len(places), size)]


def _batches(state: IngestionState, space_id: UUID) -> list[Batch]:
    return [batch for batch in state.get("batches", []) if batch["space"] == str(space_id)]


def _embedded(state: IngestionState, prepared: Prepared) -> list[Embedded]:
    """What was embedded; several models in one space are refused when it is stored."""
    return [
        Embedded(
            space_id=UUID(batch["space"]),
            model=batch["model"],
            vectors={
                (prepared.uri, place): vector
                for place, vector in zip(batch["places"], unpack(batch["vectors"]), strict=True)
            },
        )
        for batch in state.get("batches", [])
    ]


def _told(state: IngestionState, prepared: Prepared, added: Added) -> dict[str, Any]:
    return Ingested(
        collection=state["collection"], uri=prepared.uri, **added.model_dump()
    ).model_dump(mode="json")
