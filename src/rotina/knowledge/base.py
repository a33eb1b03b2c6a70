"""The knowledge base of one tenant."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.sql import SQL
from pydantic import TypeAdapter
from uuid_utils.compat import uuid7

from rotina.database import Pool, load_queries, query_as_tenant, tenant_scope
from rotina.errors import CollectionNotFoundError, KnowledgeChangedError, KnowledgeError
from rotina.gateway import Gateway
from rotina.gateway.room import Room
from rotina.knowledge.chunking import LIMIT, usual_overlap
from rotina.knowledge.document import Document
from rotina.knowledge.filters import compile_filter
from rotina.knowledge.model import (
    Added,
    CitingRun,
    Collection,
    CollectionStats,
    Language,
    Passage,
    Space,
    StoredDocument,
    Vectors,
    Weights,
)
from rotina.knowledge.preparing import About, Prepared, prepare
from rotina.knowledge.refining import Refinement, refine
from rotina.knowledge.search import EXACT_CHUNKS, Question, Scope, Shares, search
from rotina.knowledge.store import Embedded, check_model, is_known, keep, missing, store
from rotina.knowledge.vectors import Halfvec, halfvec, read_halfvecs, scale, scale_one

_PASSAGES = TypeAdapter(list[Passage])
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
POOLED_CHUNKS = 2_000
"""Chunks up to which a collection lives in the pool."""
UNPOSTED_CHUNKS = 1_000
"""Chunks, new or deleted, up to which words are not posted again."""
KNOWN_WORDS = 100_000
"""Words of a collection's vocabulary that are remembered while it is filled."""
READ_DOCUMENTS = 20
"""Documents, with their content, in memory at the same time."""
ATTEMPTS = 4
"""How often something is done again because the collection changed meanwhile."""
NOW: Any = object()
"""Stands for the moment of the search."""


class KnowledgeBase:
    """Collections of one tenant; every statement runs in that tenant's scope."""

    def __init__(
        self,
        pool: Pool,
        gateway: Gateway,
        tenant: str,
        *,
        access: Sequence[str] | None = None,
    ) -> None:
        """Does no I/O. `gateway` must be open where something is embedded.

        With `access`, no search sees a document whose labels share none with these.
        """
        self.tenant = tenant
        self.access = access
        self.pool = pool
        self.gateway = gateway
        self._sql = load_queries("rotina.knowledge")
        self._known: dict[str, Collection] = {}
        self._shares = Shares()
        self._words: dict[UUID, set[str]] = {}

    def limited_to(self, access: Sequence[str]) -> "KnowledgeBase":
        """The same for somebody who has these access labels and no others."""
        if self.access is not None:
            access = [label for label in access if label in self.access]
        return KnowledgeBase(self.pool, self.gateway, self.tenant, access=list(access))

    async def create(
        self,
        collection: str,
        *,
        route: str = "embed",
        language: Language | None = None,
        chunk_limit: int = LIMIT,
        chunk_overlap: int | None = None,
        if_missing: bool = False,
    ) -> Collection:
        """A new collection; with `if_missing`, the one of that name if there is one.

        `language` None leaves each document its own, and questions are read in all of them. Chunks
        have at most `chunk_limit` characters and share at most `chunk_overlap`: a twelfth of that,
        unless given. Raises `KnowledgeError` for a name that is taken or malformed, or such a size.
        """
        overlap = usual_overlap(chunk_limit) if chunk_overlap is None else chunk_overlap
        if not 0 <= overlap <= chunk_limit // 2:
            raise KnowledgeError(
                f"chunk_overlap is {overlap}: choose 0 to {chunk_limit // 2}, half of the chunks' "
                f"{chunk_limit} characters"
            )
        if not _NAME.fullmatch(collection):
            raise KnowledgeError(
                f"{collection!r} is no collection's name: use up to 100 letters, digits, dots, "
                "dashes and underscores, a letter or digit first"
            )
        row = {
            "id": uuid7(), "tenant": self.tenant, "name": collection, "language": language,
            "chunk_limit": chunk_limit, "chunk_overlap": overlap,
        }  # fmt: skip
        async with self.scope() as connection:
            cursor = await connection.execute(self._sql["insert_collection"], row)
            if await cursor.fetchone() is not None:
                space = {
                    "id": uuid7(), "tenant": self.tenant, "collection_id": row["id"],
                    "route": route, "state": "current",
                }  # fmt: skip
                await connection.execute(self._sql["insert_space"], space)
                return await self.find(connection, collection)
        if not if_missing:
            raise KnowledgeError(f"There is a collection {collection!r} already: add to it")
        return await self.get(collection)

    async def get(self, collection: str) -> Collection:
        """The collection of that name. Raises `CollectionNotFoundError`."""
        async with self.scope() as connection:
            return await self.find(connection, collection)

    async def collections(self) -> list[Collection]:
        """All of them, by name."""
        async with self.scope() as connection:
            cursor = await connection.execute(self._sql["list_collections"], {"name": None})
            return [Collection.model_validate(row) for row in await cursor.fetchall()]

    async def documents(self, collection: str) -> list[StoredDocument]:
        """What a collection holds, by URI. Raises `CollectionNotFoundError`."""
        async with self.scope() as connection:
            found = await self.find(connection, collection)
            key = {"collection_id": found.id}
            cursor = await connection.execute(self._sql["list_documents"], key)
            return [StoredDocument.model_validate(row) for row in await cursor.fetchall()]

    async def text(self, document_id: UUID) -> str:
        """A document's text, in which spans count. Raises `KnowledgeError` when it is not there."""
        async with self.scope() as connection:
            cursor = await connection.execute(self._sql["document_text"], {"id": document_id})
            row = await cursor.fetchone()
        if row is None:
            raise KnowledgeError(
                f"There is no document {document_id}: it was deleted, or never was"
            )
        return str(row["text"])

    async def add(  # noqa: PLR0913 - each is said of the document
        self,
        collection: str,
        document: Document,
        *,
        uri: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        language: Language | None = None,
        access: Sequence[str] = (),
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        from_source: bool = False,
    ) -> Added:
        """Chunk, embed and store a document in the place of what its `uri` named before.

        `uri` is the document's name unless given. Only chunks that are new are embedded; the same
        content again embeds nothing, and only takes over what is said of it: its metadata, the
        labels of which who searches needs one (`access`; none lets everybody), and from when to
        when it holds. What is added without `from_source` is a person's, and no sync deletes it;
        what a sync brings stays a person's unless its content is new.

        Raises `CollectionNotFoundError`, `KnowledgeError`, `EmptyDocumentError` or a `ModelError`;
        then what was stored before stays.
        """
        about = About(uri, metadata, language, access, valid_from, valid_to, from_source)
        found = await self.get(collection)
        prepared = await asyncio.to_thread(prepare, document, found, about, room=self.room(found))
        async with self.scope() as connection:
            same = await keep(connection, found.id, prepared)
        if same is not None:
            return same
        (added,) = await self.put(found, [prepared])
        await self.index(found)
        return added

    async def contents(self, collection: str) -> AsyncIterator[tuple[Document, About]]:
        """The content of each document and what is said of it, by URI.

        Raises `CollectionNotFoundError`.
        """
        found = await self.get(collection)
        after = ""
        while True:
            key = {"collection_id": found.id, "after": after, "limit": READ_DOCUMENTS}
            async with self.scope() as connection:
                cursor = await connection.execute(self._sql["read_documents"], key)
                rows = await cursor.fetchall()
            if not rows:
                return
            after = rows[-1]["uri"]
            for row in rows:
                said = ("uri", "metadata", "language", "access", "valid_from", "valid_to")
                about = About(**{name: row.pop(name) for name in said})
                title = row.pop("title")
                yield Document(metadata={"title": title} if title else {}, **row), about

    async def put(
        self,
        collection: Collection,
        batch: Sequence[Prepared],
        vectors: Any = None,
        *,
        model: str = "given",
    ) -> list[Added]:
        """Store prepared documents, all or none: what `add` does, for many at once.

        Their URIs have to differ. `vectors`, of shape (chunks, dimension), are one a chunk in the
        order of the documents and of their chunks, by `model`; without them the collection's routes
        embed what is new. Errors as of `add`. After a bulk load of several batches call `index`.
        """
        if not batch:
            return []
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._put(collection, batch, vectors, model)
            except KnowledgeChangedError:
                collection = await self.get(collection.name)
        return await self._put(collection, batch, vectors, model)

    def room(self, collection: Collection) -> Room:
        """What the models that embed the collection read of one text."""
        return self.gateway.room(*(space.route for space in collection.spaces))

    async def missing(self, collection: Collection, prepared: Prepared) -> list[int]:
        """Places of the document's chunks that have to be embedded before it can be stored."""
        async with self.scope() as connection:
            return await missing(connection, collection, prepared)

    async def knows(self, collection: Collection, prepared: Prepared) -> bool:
        """Whether the same content is there already, under the same URI."""
        async with self.scope() as connection:
            return await is_known(connection, collection.id, prepared)

    async def index(self, collection: Collection) -> bool:
        """Give the collection tables of its own, and HNSW indexes, once it is large enough.

        True when an index was built. What is there is left alone.
        """
        found = await self.get(collection.name)
        if found.chunks <= POOLED_CHUNKS:
            return False
        if not found.is_settled:
            async with self.scope() as connection:
                await connection.execute(self._sql["lock_collection"], {"id": found.id})
                await connection.execute(self._sql["settle_collection"], {"id": found.id})
        elif max(found.unposted, found.dead) > UNPOSTED_CHUNKS:
            async with self.scope() as connection:
                await connection.execute(self._sql["lock_collection"], {"id": found.id})
                most = {"id": found.id, "most": UNPOSTED_CHUNKS}
                await connection.execute(self._sql["post_words"], most)
        if found.chunks <= EXACT_CHUNKS:
            return False
        built = False
        for space in found.spaces:
            if space.indexed or space.state == "building" or space.dimension is None:
                continue
            async with self.scope() as connection:
                await connection.execute(self._sql["index_space"], {"id": space.id})
            built = True
        return built

    async def search(  # noqa: PLR0913 - each is a question's own
        self,
        collection: str,
        query: str,
        *,
        k: int = 8,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - what everybody calls it
        weights: Weights | None = None,
        access: Sequence[str] | None = None,
        as_of: datetime | None = NOW,
        vector: Sequence[float] | None = None,
        route: str | None = None,
        refinement: Refinement | None = None,
    ) -> list[Passage]:
        """The `k` best chunks for a question, best first; fewer only when there are fewer.

        `filter` is a mapping over the documents' metadata (see the reference). `access` are the
        labels of who asks: documents with labels need one of them; None sees all. Documents have to
        hold at `as_of`: now, unless given; None is whenever. `vector` is the question's, instead of
        embedding it; `route` chooses among several embeddings of the collection. `refinement`
        changes the order or the size of what is found: `Refinement`.

        Raises `CollectionNotFoundError`, `FilterError`, `KnowledgeError` (empty question, bad `k`,
        or another model's vectors) or a `ModelError`.
        """
        if not query.strip() and vector is None:
            raise KnowledgeError("The question is empty: ask for something")
        if not 1 <= k <= 1000:  # noqa: PLR2004
            raise KnowledgeError(f"k is {k}: ask for 1 to 1000 passages")
        weights = weights or Weights()
        moment = datetime.now(UTC) if as_of is NOW else as_of
        scope = Scope(compile_filter(filter), self._labels(access), moment)

        async def found() -> list[Passage]:
            return await self._search(
                collection, query, k, scope, weights, vector, route, refinement
            )

        recorder = self.gateway.recorder
        if recorder is None:
            return await found()
        asked = {
            "collection": collection, "query": query, "k": k, "filter": filter,
            "weights": weights,
        }  # fmt: skip
        more = {
            "access": scope.access, "as_of": None if as_of is NOW else as_of, "vector": vector,
            "route": route, "refinement": refinement,
        }  # fmt: skip
        asked |= {name: value for name, value in more.items() if value is not None}
        place = await recorder.recall("search", asked)
        if place.answer is not None:
            return _PASSAGES.validate_json(place.answer)
        passages = await found()
        place.add(_PASSAGES.dump_json(passages))
        return passages

    async def stats(self, collection: str) -> CollectionStats:
        """How much a collection holds. Raises `CollectionNotFoundError`."""
        async with self.scope() as connection:
            found = await self.find(connection, collection)
            cursor = await connection.execute(self._sql["count_characters"], {"id": found.id})
            characters = (await cursor.fetchall())[0]["characters"]
        return CollectionStats(
            collection=found,
            documents=found.documents,
            chunks=found.chunks,
            words=found.words,
            characters=characters,
            languages=found.languages,
            indexed=found.current.indexed,
        )

    async def cited_by(
        self, collection: str, uri: str, *, version: int | None = None
    ) -> list[CitingRun]:
        """The runs whose results cite a document, or that were started with the same file.

        All versions that ever were, unless told which; the latest run first. Raises
        `CollectionNotFoundError`.
        """
        async with self.scope() as connection:
            found = await self.find(connection, collection)
            key = {"collection_id": found.id, "uri": uri, "version": version}
            rows = await (await connection.execute(self._sql["cited_by"], key)).fetchall()
        return [CitingRun.model_validate(row) for row in rows]

    async def forget(self, runs: Sequence[UUID]) -> int:
        """Delete what ended runs said: results, replies, records, and all cached answers.

        Returns how many runs that were; the runs stay, without what they said.
        """
        statement = SQL(self._sql["forget_answers"])
        values = {"runs": list(runs)}
        (row,) = await query_as_tenant(self.pool, self.tenant, statement, values)
        return int(row["forgotten"])

    async def delete(
        self, collection: str, uri: str | None = None, *, answers: bool = False
    ) -> None:
        """Delete a collection, or one document of it, with chunks and vectors.

        With `answers` a document takes with it what was answered from it: see `cited_by` and
        `forget`. Raises `CollectionNotFoundError`, or `KnowledgeError` when there is no such
        document.
        """
        if answers and uri is not None:
            citing = await self.cited_by(collection, uri)
            await self.forget([each.run_id for each in citing if each.quoted])
        async with self.scope() as connection:
            found = await self.find(connection, collection)
            if uri is None:
                for name in ("empty_collection", "delete_documents", "delete_collection"):
                    await connection.execute(self._sql[name], {"id": found.id})
                return
            await connection.execute(self._sql["lock_collection"], {"id": found.id})
            key = {"collection_id": found.id, "uri": uri}
            cursor = await connection.execute(self._sql["delete_document"], key)
            if await cursor.fetchone() is None:
                raise KnowledgeError(f"There is no document {uri!r} in {collection!r}")

    async def discard(self, collection: str, uris: Sequence[str] | None = None) -> int:
        """Delete the documents of these URIs, or all; returns how many there were.

        Raises `CollectionNotFoundError`.
        """
        async with self.scope() as connection:
            found = await self.find(connection, collection)
            await connection.execute(self._sql["lock_collection"], {"id": found.id})
            key = {"collection_id": found.id, "uris": None if uris is None else list(uris)}
            return (await connection.execute(self._sql["discard_documents"], key)).rowcount

    async def texts(
        self, collection: str, uris: Sequence[str]
    ) -> dict[str, tuple[str, dict[str, Any]]]:
        """Text and metadata of the documents of these URIs that are there, by URI.

        Raises `CollectionNotFoundError`.
        """
        async with self.scope() as connection:
            found = await self.find(connection, collection)
            key = {"collection_id": found.id, "uris": list(uris)}
            rows = await (await connection.execute(self._sql["document_texts"], key)).fetchall()
        return {row["uri"]: (row["text"], row["metadata"]) for row in rows}

    async def vectors(
        self,
        collection: str,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        route: str | None = None,
    ) -> Vectors:
        """Every chunk with its vector. Raises `CollectionNotFoundError` or `FilterError`."""
        condition = compile_filter(filter)
        found = await self.get(collection)
        space = found.space(route)
        values = {
            "collection_id": found.id, "chunk_home": found.home, "vector_home": space.home,
            "space_id": space.id, "filter": condition,
        }  # fmt: skip
        statement = SQL(self._sql["vectors"])
        rows = await query_as_tenant(self.pool, self.tenant, statement, values, binary=True)
        return Vectors(
            ids=[row["id"] for row in rows],
            texts=[row["text"] for row in rows],
            documents=[row["document"] for row in rows],
            metadata=[row["metadata"] for row in rows],
            matrix=read_halfvecs([row["embedding"] for row in rows], space.dimension or 0),
        )

    @asynccontextmanager
    async def scope(self) -> AsyncIterator[AsyncConnection[DictRow]]:
        """A transaction that sees and writes this tenant's rows only."""
        async with tenant_scope(self.pool, self.tenant) as connection:
            yield connection

    async def find(self, connection: AsyncConnection[DictRow], name: str) -> Collection:
        """The collection of that name, in a transaction. Raises `CollectionNotFoundError`."""
        cursor = await connection.execute(self._sql["list_collections"], {"name": name})
        row = await cursor.fetchone()
        if row is None:
            self._known.pop(name, None)
            raise CollectionNotFoundError(
                f"There is no collection {name!r}: `rotina kb create {name}` makes one, and "
                "`rotina kb stats` lists those that exist"
            )
        self._known[name] = Collection.model_validate(row)
        return self._known[name]

    def _labels(self, access: Sequence[str] | None) -> Sequence[str] | None:
        if self.access is None or access is None:
            return access if self.access is None else self.access
        return [label for label in access if label in self.access]

    async def _put(
        self,
        collection: Collection,
        batch: Sequence[Prepared],
        vectors: Any,
        model: str,
    ) -> list[Added]:
        if vectors is None:
            embedded = await self._embed(collection, batch)
        else:
            places = [(each.uri, n) for each in batch for n in range(len(each.chunks))]
            matrix = await asyncio.to_thread(scale, vectors)
            pairs = dict(zip(places, matrix, strict=True))
            embedded = [Embedded(collection.current.id, model, pairs)]
        known = self._words.setdefault(collection.id, set())
        async with self.scope() as connection:
            added, vocabulary = await store(
                connection, self.tenant, collection, batch, embedded, known
            )
        if len(batch) > 1 and len(known) < KNOWN_WORDS:
            # Now that they are committed, the next batch need not bring them again.
            known |= vocabulary
        return added

    async def _embed(self, collection: Collection, batch: Sequence[Prepared]) -> list[Embedded]:
        """Vectors of what is not stored yet, by every model of the collection."""
        places, texts = [], []
        async with self.scope() as connection:
            for prepared in batch:
                inputs = prepared.inputs
                for place in await missing(connection, collection, prepared):
                    places.append((prepared.uri, place))
                    texts.append(inputs[place])
        embedded = []
        for space in collection.spaces:
            if space.state != "building" and texts:
                # What is stored at once need not be recorded as well.
                answer = await self.gateway.embed(texts, route=space.route, record=False)
                matrix = await asyncio.to_thread(scale, answer.vectors)
                vectors = dict(zip(places, matrix, strict=True))
                embedded.append(Embedded(space.id, answer.model, vectors))
        return embedded

    async def _search(
        self,
        name: str,
        query: str,
        k: int,
        scope: Scope,
        weights: Weights,
        vector: Sequence[float] | None,
        route: str | None,
        refinement: Refinement | None,
    ) -> list[Passage]:
        refinement = refinement or Refinement()
        collection = self._known.get(name) or await self.get(name)
        asked: dict[UUID, Halfvec] = {}
        for _ in range(ATTEMPTS):
            space = collection.space(route)
            if space.dimension is None:
                collection = await self.get(name)
                space = collection.space(route)
            if space.dimension is None:
                return []
            if weights.vectors and space.id not in asked:
                asked[space.id] = await self._vector(collection, space, query, vector)
            question = Question(
                collection=collection, space=space, text=query, vector=asked.get(space.id),
                k=refinement.candidates(k), weights=weights, scope=scope,
            )  # fmt: skip
            rows = await search(self.pool, self.tenant, question, self._shares)
            if rows is not None:
                passages = _PASSAGES.validate_python([{"collection": name, **row} for row in rows])
                return await refine(self, question, passages, refinement, k)
            collection = await self.get(name)
        raise KnowledgeChangedError(f"{name!r} is being changed all the time: search again")

    async def _vector(
        self,
        collection: Collection,
        space: Space,
        query: str,
        given: Sequence[float] | None,
    ) -> Halfvec:
        if given is not None:
            check_model(collection.name, space, len(given), space.model or "given")
            return halfvec(scale_one(given))
        # A run records the search, and with it all that came of the vector.
        answer = await self.gateway.embed([query], route=space.route, record=False)
        check_model(collection.name, space, len(answer.vectors[0]), answer.model)
        return halfvec(scale_one(answer.vectors[0]))
