"""The knowledge base of one tenant."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.sql import SQL
from pydantic import TypeAdapter
from uuid_utils.compat import uuid7

from rotina.database import Pool, load_queries, tenant_scope
from rotina.errors import CollectionNotFoundError, KnowledgeError
from rotina.gateway import Gateway
from rotina.knowledge.document import Document
from rotina.knowledge.filters import compile_filter
from rotina.knowledge.model import (
    Added,
    Collection,
    CollectionStats,
    Language,
    Passage,
    StoredDocument,
    Vectors,
    Weights,
)
from rotina.knowledge.search import EXACT_CHUNKS, Question, search
from rotina.knowledge.store import (
    Prepared,
    check_model,
    is_known,
    keep,
    literal,
    pack,
    prepare,
    store,
)

_PASSAGES = TypeAdapter(list[Passage])
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class KnowledgeBase:
    """Collections of one tenant; every statement runs in that tenant's scope."""

    def __init__(self, pool: Pool, gateway: Gateway, tenant: str) -> None:
        """Does no I/O. `gateway` must be open where something is embedded."""
        self.tenant = tenant
        self._pool = pool
        self._gateway = gateway
        self._sql = load_queries("rotina.knowledge")

    async def create(
        self,
        collection: str,
        *,
        route: str = "embed",
        language: Language | None = None,
        if_missing: bool = False,
    ) -> Collection:
        """A new collection; with `if_missing`, the one of that name if there is one.

        `language` None leaves each document its own, and questions are read in all of them.
        Raises `KnowledgeError` for a name that is taken or malformed.
        """
        if not _NAME.fullmatch(collection):
            raise KnowledgeError(
                f"{collection!r} is no collection's name: use up to 100 letters, digits, dots, "
                "dashes and underscores, a letter or digit first"
            )
        values = {
            "id": uuid7(), "tenant": self.tenant, "name": collection,
            "route": route, "language": language,
        }  # fmt: skip
        async with self._scope() as connection:
            cursor = await connection.execute(self._sql["insert_collection"], values)
            row = await cursor.fetchone()
            if row is not None:
                await connection.execute(self._sql["create_chunks"], {"id": row["id"]})
                return Collection.model_validate(row)
        if not if_missing:
            raise KnowledgeError(f"There is a collection {collection!r} already: add to it")
        return await self.get(collection)

    async def get(self, collection: str) -> Collection:
        """The collection of that name. Raises `CollectionNotFoundError`."""
        async with self._scope() as connection:
            return await self._find(connection, collection)

    async def collections(self) -> list[Collection]:
        """All of them, by name."""
        async with self._scope() as connection:
            rows = await (await connection.execute(self._sql["list_collections"])).fetchall()
        return [Collection.model_validate(row) for row in rows]

    async def documents(self, collection: str) -> list[StoredDocument]:
        """What a collection holds, by URI. Raises `CollectionNotFoundError`."""
        async with self._scope() as connection:
            found = await self._find(connection, collection)
            cursor = await connection.execute(
                self._sql["list_documents"], {"collection_id": found.id}
            )
            return [StoredDocument.model_validate(row) for row in await cursor.fetchall()]

    async def text(self, document_id: UUID) -> str:
        """A document's text, in which spans count. Raises `KnowledgeError` when it is not there."""
        async with self._scope() as connection:
            cursor = await connection.execute(self._sql["document_text"], {"id": document_id})
            row = await cursor.fetchone()
        if row is None:
            raise KnowledgeError(
                f"There is no document {document_id}: it was deleted, or never was"
            )
        return str(row["text"])

    async def add(
        self,
        collection: str,
        document: Document,
        *,
        uri: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        language: Language | None = None,
    ) -> Added:
        """Chunk, embed and store a document in the place of what its `uri` named before.

        `uri` is the document's name unless given. The same content again embeds nothing, and only
        takes over the metadata. Raises `CollectionNotFoundError`, `KnowledgeError`,
        `EmptyDocumentError` or a `ModelError`; then what was stored before stays.
        """
        found = await self.get(collection)
        prepared = await asyncio.to_thread(
            prepare, document, found, uri=uri, metadata=metadata, language=language
        )
        async with self._scope() as connection:
            same = await keep(connection, found.id, prepared)
        if same is not None:
            return same
        answer = await self._gateway.embed(prepared.inputs, route=found.route)
        packed = await asyncio.to_thread(pack, answer.vectors)
        async with self._scope() as connection:
            added = await store(connection, self.tenant, found, prepared, packed, answer.model)
        await self.index(found)
        return added

    async def knows(self, collection: Collection, prepared: Prepared) -> bool:
        """Whether the same content is there already, under the same URI."""
        async with self._scope() as connection:
            return await is_known(connection, collection.id, prepared)

    async def index(self, collection: Collection) -> bool:
        """Build the collection's HNSW index once exact search is too slow; False if not needed."""
        async with self._scope() as connection:
            scope = await self._measure(connection, collection.id, {})
            if scope["chunks"] <= EXACT_CHUNKS or await self._is_indexed(connection, collection.id):
                return False
            await connection.execute(self._sql["index_chunks"], {"id": collection.id})
        return True

    async def search(
        self,
        collection: str,
        query: str,
        *,
        k: int = 8,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - what everybody calls it
        weights: Weights | None = None,
    ) -> list[Passage]:
        """The `k` best chunks for a question, best first; fewer only when there are fewer.

        `filter` is a mapping over the documents' metadata (see the reference). Raises
        `CollectionNotFoundError`, `FilterError`, `KnowledgeError` (empty question, bad `k`, or
        another model's vectors) or a `ModelError`.
        """
        if not query.strip():
            raise KnowledgeError("The question is empty: ask for something")
        if not 1 <= k <= 1000:  # noqa: PLR2004
            raise KnowledgeError(f"k is {k}: ask for 1 to 1000 passages")
        weights = weights or Weights()
        recorder = self._gateway.recorder
        if recorder is None:
            return await self._search(collection, query, k, filter, weights)
        asked = {
            "collection": collection, "query": query, "k": k, "filter": filter,
            "weights": weights,
        }  # fmt: skip
        place = await recorder.recall("search", asked)
        if place.answer is not None:
            return _PASSAGES.validate_json(place.answer)
        passages = await self._search(collection, query, k, filter, weights)
        place.add(_PASSAGES.dump_json(passages))
        return passages

    async def _search(
        self,
        collection: str,
        query: str,
        k: int,
        filter: Mapping[str, Any] | None,  # noqa: A002 - as in search
        weights: Weights,
    ) -> list[Passage]:
        condition, values = compile_filter(filter)
        async with self._scope() as connection:
            found = await self._find(connection, collection)
            scope = await self._measure(connection, found.id, filter or {})
        if not scope["chunks"]:
            return []
        vector = await self._vector(found, query) if weights.vectors else None
        question = Question(
            collection=found, text=query, vector=vector, k=k, weights=weights,
            condition=condition, values=values, filtered=bool(filter), scope=scope,
        )  # fmt: skip
        async with self._scope() as connection:
            indexed = await self._is_indexed(connection, found.id)
            rows = await search(connection, question, indexed=indexed)
        return [Passage(collection=found.name, **row) for row in rows]

    async def stats(self, collection: str) -> CollectionStats:
        """How much a collection holds. Raises `CollectionNotFoundError`."""
        async with self._scope() as connection:
            found = await self._find(connection, collection)
            scope = await self._measure(connection, found.id, {})
            indexed = await self._is_indexed(connection, found.id)
            cursor = await connection.execute(self._sql["count_characters"], {"id": found.id})
            characters = (await cursor.fetchall())[0]["characters"]
        return CollectionStats(collection=found, indexed=indexed, characters=characters, **scope)

    async def delete(self, collection: str, uri: str | None = None) -> None:
        """Delete a collection, or one document of it, with chunks and vectors.

        Raises `CollectionNotFoundError`, or `KnowledgeError` when there is no such document.
        """
        async with self._scope() as connection:
            found = await self._find(connection, collection)
            if uri is None:
                await connection.execute(self._sql["drop_chunks"], {"id": found.id})
                await connection.execute(self._sql["delete_collection"], {"id": found.id})
                return
            key = {"collection_id": found.id, "uri": uri}
            cursor = await connection.execute(self._sql["delete_document"], key)
            if await cursor.fetchone() is None:
                raise KnowledgeError(f"There is no document {uri!r} in {collection!r}")

    async def vectors(
        self,
        collection: str,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
    ) -> Vectors:
        """Every chunk with its vector. Raises `CollectionNotFoundError` or `FilterError`."""
        import numpy as np  # noqa: PLC0415 - a tenth of a second

        condition, values = compile_filter(filter)
        async with self._scope() as connection:
            found = await self._find(connection, collection)
            cursor = await connection.execute(
                SQL(self._sql["vectors"]).format(filter=condition),
                {"collection_id": found.id, **values},
            )
            rows = await cursor.fetchall()
        matrix = np.asarray([row["embedding"] for row in rows], dtype=np.float32)
        return Vectors(
            ids=[row["id"] for row in rows],
            texts=[row["text"] for row in rows],
            documents=[row["document"] for row in rows],
            metadata=[row["metadata"] for row in rows],
            matrix=matrix if rows else matrix.reshape(0, 0),
        )

    @asynccontextmanager
    async def _scope(self) -> AsyncIterator[AsyncConnection[DictRow]]:
        async with tenant_scope(self._pool, self.tenant) as connection:
            yield connection

    async def _find(self, connection: AsyncConnection[DictRow], name: str) -> Collection:
        cursor = await connection.execute(self._sql["get_collection"], {"name": name})
        row = await cursor.fetchone()
        if row is None:
            raise CollectionNotFoundError(
                f"There is no collection {name!r}: `rotina kb create {name}` makes one, and "
                "`rotina kb stats` lists those that exist"
            )
        return Collection.model_validate(row)

    async def _measure(
        self, connection: AsyncConnection[DictRow], collection_id: UUID, given: Mapping[str, Any]
    ) -> dict[str, Any]:
        condition, values = compile_filter(given)
        cursor = await connection.execute(
            SQL(self._sql["scope"]).format(filter=condition),
            {"collection_id": collection_id, **values},
        )
        row = await cursor.fetchone()
        assert row is not None, "an aggregate returns a row"
        return row

    async def _is_indexed(self, connection: AsyncConnection[DictRow], collection_id: UUID) -> bool:
        cursor = await connection.execute(self._sql["is_indexed"], {"id": collection_id})
        row = await cursor.fetchone()
        return row is not None and bool(row["indexed"])

    async def _vector(self, collection: Collection, query: str) -> str:
        # A run records the search, and with it all that came of the vector.
        answer = await self._gateway.embed([query], route=collection.route, record=False)
        check_model(collection, len(answer.vectors[0]), answer.model)
        return literal(pack(answer.vectors)[0])
