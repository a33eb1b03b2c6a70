"""Nodes of ingestion: load, chunk, embed (once a batch), store, index."""

import asyncio
from typing import Any, Literal

from langgraph.runtime import Runtime
from langgraph.types import Command, Send
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from rotina.errors import KnowledgeError
from rotina.graphs.context import Context
from rotina.graphs.ingestion.ingestion import Ingested, Ingestion
from rotina.graphs.ingestion.state import Batch, BatchState, IngestionState
from rotina.knowledge.document import Document
from rotina.knowledge.model import Added, Collection
from rotina.knowledge.store import Prepared, as_tenant, keep, pack, prepare, store
from rotina.runs import FileReference


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
        """One `embed` task a batch of chunks; none when the content is there already."""
        knowledge = runtime.context.knowledge
        collection = await knowledge.get(state["collection"])
        prepared = await _prepared(state, collection)
        if await knowledge.knows(collection, prepared):
            return Command(goto="store")
        texts, size = prepared.inputs, self._ingestion.batch
        tasks = [
            BatchState(first=first, texts=texts[first : first + size], route=collection.route)
            for first in range(0, len(texts), size)
        ]
        return Command(goto=[Send("embed", task) for task in tasks])

    async def embed(self, state: BatchState, runtime: Runtime[Context]) -> IngestionState:
        """Vectors of one batch; a run that is resumed has those of the finished ones."""
        answer = await runtime.context.at("embed").embed(
            state["texts"], route=state["route"], record=False
        )
        packed = await asyncio.to_thread(pack, answer.vectors)
        batch: Batch = {"first": state["first"], "vectors": packed, "model": answer.model}
        return {"batches": [batch]}

    async def store(self, state: IngestionState, runtime: Runtime[Context]) -> IngestionState:
        """Document, chunks and vectors in one fenced transaction, in the place of those before."""
        context = runtime.context
        collection = await context.knowledge.get(state["collection"])
        prepared = await _prepared(state, collection)
        batches = sorted(state.get("batches", []), key=lambda batch: batch["first"])

        async def change(connection: AsyncConnection[DictRow]) -> dict[str, Any]:
            async with as_tenant(connection, context.tenant):
                # Another run may have stored the same content while this one embedded it.
                added = await keep(connection, collection.id, prepared)
                if added is None:
                    vectors, model = _joined(batches, prepared)
                    added = await store(
                        connection, context.tenant, collection, prepared, vectors, model
                    )
            return added.model_dump(mode="json")

        receipt = await context.effects.transact("store_document", change)
        return {"ingested": _told(state, prepared, Added.model_validate(receipt))}

    async def index(self, state: IngestionState, runtime: Runtime[Context]) -> IngestionState:
        """Build the vector index when the collection has outgrown exact search."""
        knowledge = runtime.context.knowledge
        await knowledge.index(await knowledge.get(state["collection"]))
        return {}


async def _prepared(state: IngestionState, collection: Collection) -> Prepared:
    document = Document.model_validate(state["loaded"])
    language = state.get("language")
    return await asyncio.to_thread(
        prepare,
        document,
        collection,
        uri=state.get("uri"),
        metadata=state.get("metadata"),
        language="pt" if language == "pt" else "en" if language == "en" else None,
    )


def _joined(batches: list[Batch], prepared: Prepared) -> tuple[list[str], str]:
    """All vectors, and the model that made them."""
    models = {batch["model"] for batch in batches}
    if not models:
        raise KnowledgeError(f"{prepared.uri!r} was replaced or deleted meanwhile: add it again")
    if len(models) > 1:
        raise KnowledgeError(
            f"Several models embedded {prepared.uri!r} ({', '.join(sorted(models))}), and their "
            "vectors cannot be compared: let the route name deployments of one model"
        )
    return [vector for batch in batches for vector in batch["vectors"]], models.pop()


def _told(state: IngestionState, prepared: Prepared, added: Added) -> dict[str, Any]:
    return Ingested(
        collection=state["collection"], uri=prepared.uri, **added.model_dump()
    ).model_dump(mode="json")
