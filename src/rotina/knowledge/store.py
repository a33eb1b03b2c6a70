"""Writing: documents, their chunks and vectors, all in one transaction.

A chunk whose text and headings are the same as before stays as it is, with its vectors in every
space; only what is new is inserted, and only that has to be embedded.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from rotina.database import load_queries
from rotina.database.arrays import Integers, Texts, Uuids
from rotina.errors import CollectionNotFoundError, KnowledgeChangedError, KnowledgeError
from rotina.knowledge.chunking import with_context
from rotina.knowledge.document import Heading, Page
from rotina.knowledge.model import Added, Collection, Space
from rotina.knowledge.preparing import Prepared
from rotina.knowledge.vectors import reals
from rotina.knowledge.words import CONFIGURATIONS, fold

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Place = tuple[str, int]
"""A document's URI and a chunk's place in it."""


@dataclass(frozen=True)
class Embedded:
    """Vectors that one model made for chunks, scaled to length 1."""

    space_id: UUID
    model: str
    vectors: Mapping[Place, "NDArray[np.float32]"]


@dataclass
class _Writing:
    """One transaction's worth."""

    connection: AsyncConnection[DictRow]
    tenant: str
    collection: Collection
    home: UUID
    words: Mapping[str, list[list[str]]]
    """Of each chunk of each document, by URI."""
    fresh: list[tuple[UUID, UUID, Place]] = field(default_factory=list)
    """New chunks: id, document's id, place."""

    async def run(self, name: str, values: Mapping[str, Any]) -> list[DictRow]:
        sql = load_queries("rotina.knowledge")[name]
        cursor = await self.connection.execute(sql, values)
        return await cursor.fetchall() if cursor.description else []


@asynccontextmanager
async def as_tenant(connection: AsyncConnection[DictRow], tenant: str) -> AsyncIterator[None]:
    """Inside a transaction that goes on as its owner afterwards, such as an effect's."""
    enter = load_queries("rotina.database")["enter_tenant"]
    await connection.execute(enter, {"tenant": tenant})
    yield
    # Only on success: after an error the transaction takes the role away with everything else.
    await connection.execute("select set_config('role', 'none', true)")


async def store(
    connection: AsyncConnection[DictRow],
    tenant: str,
    collection: Collection,
    batch: Sequence[Prepared],
    embedded: Sequence[Embedded],
    known_words: AbstractSet[str] = frozenset(),
) -> tuple[list[Added], AbstractSet[str]]:
    """Put documents in the place of their versions before; `connection` is in tenant scope.

    The URIs of a batch differ. `known_words` are in the collection's vocabulary for certain;
    those of the batch come back with what became of it. Raises `KnowledgeChangedError` when a
    vector lacks that was not needed when the documents were embedded (embed what `missing` says,
    and store again),
    `KnowledgeError` when vectors are another model's than the collection's, and
    `CollectionNotFoundError` when it was deleted meanwhile.
    """
    sql = load_queries("rotina.knowledge")
    cursor = await connection.execute(sql["lock_collection"], {"id": collection.id})
    locked = await cursor.fetchone()
    if locked is None:
        raise CollectionNotFoundError(f"The collection {collection.name!r} was deleted meanwhile")
    words = {each.uri: [fold(text) for text in each.inputs] for each in batch}
    writing = _Writing(connection, tenant, collection, locked["home"], words)
    rows = await _put_documents(writing, batch)
    for prepared in batch:
        row = rows[prepared.uri]
        if row["is_new"]:
            writing.fresh += [
                (uuid7(), row["id"], (prepared.uri, place)) for place in range(len(prepared.chunks))
            ]
        else:
            await _keep_same_chunks(writing, row["id"], prepared)
    vocabulary = {word for each in words.values() for chunk in each for word in chunk}
    await _insert_chunks(writing, batch)
    await _insert_words(writing, vocabulary - known_words)
    for space in await writing.run("lock_spaces", {"id": collection.id}):
        await _insert_vectors(writing, Space.model_validate(space), embedded)
    added = [
        Added(
            document_id=rows[prepared.uri]["id"],
            chunks=len(prepared.chunks),
            unchanged=False,
            version=rows[prepared.uri]["version"],
        )
        for prepared in batch
    ]
    return added, vocabulary


async def missing(
    connection: AsyncConnection[DictRow], collection: Collection, prepared: Prepared
) -> list[int]:
    """Places of the chunks that are not stored yet: those that have to be embedded."""
    sql = load_queries("rotina.knowledge")
    key = {"collection_id": collection.id, "uri": prepared.uri}
    row = await (await connection.execute(sql["get_document"], key)).fetchone()
    if row is None:
        return list(range(len(prepared.chunks)))
    stored = await _stored_chunks(connection, collection.home, row["id"])
    return [place for place, text in enumerate(prepared.inputs) if not _take(stored, text)]


async def is_known(
    connection: AsyncConnection[DictRow], collection_id: UUID, prepared: Prepared
) -> bool:
    """Whether the same content is stored under the same URI."""
    sql = load_queries("rotina.knowledge")["get_document"]
    key = {"collection_id": collection_id, "uri": prepared.uri}
    row = await (await connection.execute(sql, key)).fetchone()
    return row is not None and row["content_hash"] == prepared.content_hash


async def keep(
    connection: AsyncConnection[DictRow], collection_id: UUID, prepared: Prepared
) -> Added | None:
    """Take over what is said of content that is stored already; None when it is not (any more)."""
    values = {
        "collection_id": collection_id,
        "uri": prepared.uri,
        "content_hash": prepared.content_hash,
        "metadata": Jsonb(dict(prepared.metadata)),
        "access": prepared.access,
        "valid_from": prepared.valid_from,
        "valid_to": prepared.valid_to,
        "from_source": prepared.from_source,
    }
    cursor = await connection.execute(load_queries("rotina.knowledge")["keep_document"], values)
    row = await cursor.fetchone()
    return None if row is None else Added(**row, unchanged=True)


def check_model(name: str, space: Space, dimension: int, model: str) -> None:
    """Raise `KnowledgeError` for vectors that cannot be compared with the space's."""
    if space.dimension in (None, dimension) and space.model in (None, model):
        return
    raise KnowledgeError(
        f"The vectors of {name!r} are {space.model!r}'s, with {space.dimension} dimensions, and "
        f"the route {space.route!r} now gives {model!r}'s, with {dimension}: they cannot be "
        f"compared. Point the route back to the old model, and embed the collection again by a "
        f"route of the new one: `rotina kb reindex {name} --route …`"
    )


async def _put_documents(writing: _Writing, batch: Sequence[Prepared]) -> dict[str, DictRow]:
    documents, ids = [prepared.document for prepared in batch], [uuid7() for _ in batch]
    rows = await writing.run(
        "put_documents",
        {
            "tenant": writing.tenant,
            "collection_id": writing.collection.id,
            "ids": Uuids(ids),
            "uris": Texts(prepared.uri for prepared in batch),
            "names": Texts(document.name for document in documents),
            "titles": Texts(document.metadata.get("title") for document in documents),
            "media_types": Texts(document.media_type for document in documents),
            "languages": Texts(prepared.language for prepared in batch),
            "hashes": Texts(document.sha256 for document in documents),
            "content_hashes": Texts(prepared.content_hash for prepared in batch),
            "texts": Texts(document.text for document in documents),
            "pages": Texts(_spans(document.pages) for document in documents),
            "headings": Texts(_spans(document.headings) for document in documents),
            "metadata": Texts(json.dumps(prepared.metadata) for prepared in batch),
            "access": Texts(json.dumps(prepared.access) for prepared in batch),
            "valid_from": [prepared.valid_from for prepared in batch],
            "valid_to": [prepared.valid_to for prepared in batch],
            "from_source": [prepared.from_source for prepared in batch],
            "chunks": Integers(len(prepared.chunks) for prepared in batch),
            "words": Integers(sum(map(len, writing.words[prepared.uri])) for prepared in batch),
        },
    )
    # The others have the ids that they were stored with.
    new = set(ids)
    return {row["uri"]: {**row, "is_new": row["id"] in new} for row in rows}


async def _keep_same_chunks(writing: _Writing, document_id: UUID, prepared: Prepared) -> None:
    """Chunks that are there already get their new places; those that are not needed go."""
    stored = await _stored_chunks(writing.connection, writing.home, document_id)
    kept: list[tuple[UUID, int]] = []
    for place, text in enumerate(prepared.inputs):
        if found := _take(stored, text):
            kept.append((found, place))
        else:
            writing.fresh.append((uuid7(), document_id, (prepared.uri, place)))
    ids = [chunk_id for chunk_id, _ in kept]
    values = {"home": writing.home, "document_id": document_id, "kept": ids}
    await writing.run("delete_chunks", values)
    chunks = [prepared.chunks[place] for _, place in kept]
    await writing.run(
        "move_chunks",
        {
            "home": writing.home,
            "ids": ids,
            "indexes": [place for _, place in kept],
            "starts": [each.start for each in chunks],
            "ends": [each.end for each in chunks],
            "pages": [each.page for each in chunks],
            "sections": [section(each.headings) for each in chunks],
        },
    )


async def _stored_chunks(
    connection: AsyncConnection[DictRow], home: UUID, document_id: UUID
) -> dict[str, list[UUID]]:
    """Ids by what was embedded, the last first."""
    sql = load_queries("rotina.knowledge")["list_chunks"]
    cursor = await connection.execute(sql, {"home": home, "document_id": document_id})
    stored: dict[str, list[UUID]] = {}
    for row in reversed(await cursor.fetchall()):
        stored.setdefault(with_context(row["context"], row["text"]), []).append(row["id"])
    return stored


def _take(stored: dict[str, list[UUID]], text: str) -> UUID | None:
    """The first stored chunk of this text that nobody took yet."""
    ids = stored.get(text)
    return ids.pop() if ids else None


async def _insert_chunks(writing: _Writing, batch: Sequence[Prepared]) -> None:
    if not writing.fresh:
        return
    of = {prepared.uri: prepared for prepared in batch}
    chunks = [of[uri].chunks[place] for _, _, (uri, place) in writing.fresh]
    words = [writing.words[uri][place] for _, _, (uri, place) in writing.fresh]
    await writing.run(
        "insert_chunks",
        {
            "home": writing.home,
            "tenant": writing.tenant,
            "collection_id": writing.collection.id,
            "ids": Uuids(chunk_id for chunk_id, _, _ in writing.fresh),
            "documents": Uuids(document_id for _, document_id, _ in writing.fresh),
            "indexes": Integers(place for _, _, (_, place) in writing.fresh),
            "starts": Integers(each.start for each in chunks),
            "ends": Integers(each.end for each in chunks),
            "pages": Integers(each.page for each in chunks),
            "sections": Texts(section(each.headings) for each in chunks),
            "contexts": Texts(each.context for each in chunks),
            "texts": Texts(each.text for each in chunks),
            "lengths": Integers(len(each) for each in words),
            "words": Texts(" ".join(each) for each in words),
            "configurations": Texts(
                CONFIGURATIONS[of[uri].language] for _, _, (uri, _) in writing.fresh
            ),
        },
    )


async def _insert_words(writing: _Writing, words: AbstractSet[str]) -> None:
    if words:
        # In order, so that two writers never wait for each other in a circle.
        values = {"collection_id": writing.collection.id, "words": Texts(sorted(words))}
        await writing.run("insert_words", values)


async def _insert_vectors(writing: _Writing, space: Space, embedded: Sequence[Embedded]) -> None:
    given = [each for each in embedded if each.space_id == space.id]
    vectors = {place: (v, each.model) for each in given for place, v in each.vectors.items()}
    lacking = [place for _, _, place in writing.fresh if place not in vectors]
    if lacking:
        raise KnowledgeChangedError(
            f"{lacking[0][0]!r} was changed, or {writing.collection.name!r} embedded anew, "
            "meanwhile: add it again"
        )
    if not writing.fresh:
        return
    wanted = [vectors[place] for _, _, place in writing.fresh]
    matrix = await _claim(writing, space, wanted)
    await writing.run(
        "insert_vectors",
        {
            "home": space.home,
            "space_id": space.id,
            "tenant": writing.tenant,
            "values": reals(matrix),
            "dimension": matrix.shape[1],
            "chunks": Uuids(chunk_id for chunk_id, _, _ in writing.fresh),
            "documents": Uuids(document_id for _, document_id, _ in writing.fresh),
        },
    )


async def _claim(
    writing: _Writing, space: Space, wanted: Sequence[tuple["NDArray[np.float32]", str]]
) -> "NDArray[np.float32]":
    """The vectors as one matrix, if they fit the space; the first ones decide what fits."""
    import numpy as np  # noqa: PLC0415 - a tenth of a second

    facts = {(vector.size, model) for vector, model in wanted}
    if len(facts) > 1:
        told = ", ".join(f"{model!r} with {size} dimensions" for size, model in sorted(facts))
        raise KnowledgeError(
            f"The route {space.route!r} gave vectors of several models ({told}), which cannot be "
            "compared: let it name deployments of one model"
        )
    dimension, model = facts.pop()
    check_model(writing.collection.name, space, dimension, model)
    if space.dimension is None:
        values = {"id": space.id, "dimension": dimension, "model": model}
        await writing.run("set_embedding", values)
        await writing.run("bump_generation", {"id": writing.collection.id})
    return np.stack([vector for vector, _ in wanted])


def section(headings: Sequence[str]) -> str:
    """Headings as one text, outermost first."""
    return " › ".join(headings)


def _spans(parts: Sequence[Page] | Sequence[Heading]) -> str:
    """Pages or headings as JSON."""
    return json.dumps([part.model_dump() for part in parts]) if parts else "[]"
