"""Writing: a document's chunks and vectors, all in one transaction."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from rotina.database import load_queries
from rotina.errors import CollectionNotFoundError, EmptyDocumentError, KnowledgeError
from rotina.knowledge.chunking import Chunk, chunk
from rotina.knowledge.document import Document
from rotina.knowledge.model import Added, Collection, Language
from rotina.knowledge.words import CONFIGURATIONS, fold, guess_language

CHUNKING = "1"
"""Changes when the same text would be cut, folded or embedded in another way."""


@dataclass(frozen=True)
class Prepared:
    """A document on its way into a collection."""

    document: Document
    uri: str
    metadata: Mapping[str, Any]
    language: Language
    content_hash: str
    chunks: list[Chunk]

    @property
    def inputs(self) -> list[str]:
        """What is embedded for each chunk: it, under the headings above it."""
        return [_with_context(each) for each in self.chunks]


def prepare(
    document: Document,
    collection: Collection,
    *,
    uri: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    language: Language | None = None,
) -> Prepared:
    """Chunk a document; takes a second for some megabytes, so keep it off an event loop.

    Raises `EmptyDocumentError` for a text without words and `KnowledgeError` for what PostgreSQL
    cannot store.
    """
    if not fold(document.text):
        raise EmptyDocumentError(f"{document.name!r} has no words: there is nothing to search for")
    language = collection.language or language or guess_language(document.text)
    prepared = Prepared(
        document=document,
        uri=uri or document.name,
        metadata=dict(metadata or {}),
        language=language,
        content_hash=_content_hash(document, language),
        chunks=chunk(document),
    )
    _check_storable(prepared)
    return prepared


def pack(vectors: Sequence[Sequence[float]]) -> list[str]:
    """Each vector scaled to length 1, as base64 of little-endian half floats."""
    import numpy as np  # noqa: PLC0415 - a tenth of a second

    matrix = np.asarray(vectors, dtype=np.float64).reshape(len(vectors), -1)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    scaled = (matrix / np.where(lengths == 0, 1, lengths)).astype("<f2")
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in scaled]


def literal(packed: str) -> str:
    """A packed vector in pgvector's text form."""
    import numpy as np  # noqa: PLC0415 - a tenth of a second

    values = np.frombuffer(base64.b64decode(packed), dtype="<f2")
    return "[" + ",".join(f"{value:.6g}" for value in values.tolist()) + "]"


def dimension_of(packed: str) -> int:
    """How many components a packed vector has."""
    return len(base64.b64decode(packed)) // 2


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
    prepared: Prepared,
    vectors: Sequence[str],
    model: str,
) -> Added:
    """Put the document in the place of its version before; `connection` is in tenant scope.

    `vectors` are packed, one a chunk. Raises `KnowledgeError` when the collection's vectors are
    another model's, and `CollectionNotFoundError` when it was deleted meanwhile.
    """
    dimensions = {dimension_of(vector) for vector in vectors}
    if len(dimensions) != 1:
        raise KnowledgeError(
            f"The route {collection.route!r} gave vectors of {sorted(dimensions)} dimensions for "
            "one document: let it name deployments of one model"
        )
    await _claim(connection, collection, dimensions.pop(), model)
    words = [fold(text) for text in prepared.inputs]
    row = await _put_document(connection, tenant, collection, prepared, sum(map(len, words)))
    await connection.execute(load_queries("rotina.knowledge")["delete_chunks"], row)
    async with connection.cursor() as cursor:
        await cursor.executemany(
            load_queries("rotina.knowledge")["insert_chunk"],
            [
                {
                    **row,
                    "id": uuid7(),
                    "index": index,
                    "start": each.start,
                    "end": each.end,
                    "page": each.page,
                    "context": each.context,
                    "text": each.text,
                    "length": len(terms),
                    "configuration": CONFIGURATIONS[prepared.language],
                    "words": " ".join(terms),
                    "embedding": literal(vector),
                }
                for index, (each, terms, vector) in enumerate(
                    zip(prepared.chunks, words, vectors, strict=True)
                )
            ],
        )
    return Added(
        document_id=row["document_id"],
        chunks=len(prepared.chunks),
        unchanged=False,
        version=row["version"],
    )


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
    """Take over the metadata of content that is stored already; None when it is not (any more)."""
    values = {
        "collection_id": collection_id,
        "uri": prepared.uri,
        "content_hash": prepared.content_hash,
        "metadata": Jsonb(prepared.metadata),
    }
    cursor = await connection.execute(load_queries("rotina.knowledge")["keep_document"], values)
    row = await cursor.fetchone()
    return None if row is None else Added(**row, unchanged=True)


def check_model(collection: Collection, dimension: int, model: str) -> None:
    """Raise `KnowledgeError` for vectors that cannot be compared with the collection's."""
    if collection.dimension in (None, dimension) and collection.model in (None, model):
        return
    raise KnowledgeError(
        f"The vectors of {collection.name!r} are {collection.model!r}'s, with "
        f"{collection.dimension} dimensions, and the route {collection.route!r} now gives "
        f"{model!r}'s, with {dimension}: they cannot be compared. Point the route back to the old "
        "model, or create another collection and add the documents to it"
    )


async def _claim(
    connection: AsyncConnection[DictRow], collection: Collection, dimension: int, model: str
) -> None:
    sql = load_queries("rotina.knowledge")
    cursor = await connection.execute(sql["lock_collection"], {"id": collection.id})
    row = await cursor.fetchone()
    if row is None:
        raise CollectionNotFoundError(f"The collection {collection.name!r} was deleted meanwhile")
    check_model(Collection.model_validate(row), dimension, model)
    if row["dimension"] is None:
        values = {"id": collection.id, "dimension": dimension, "model": model}
        await connection.execute(sql["set_embedding"], values)


async def _put_document(
    connection: AsyncConnection[DictRow],
    tenant: str,
    collection: Collection,
    prepared: Prepared,
    words: int,
) -> dict[str, Any]:
    document = prepared.document
    values = {
        "id": uuid7(),
        "tenant": tenant,
        "collection_id": collection.id,
        "uri": prepared.uri,
        "name": document.name,
        "title": document.metadata.get("title"),
        "media_type": document.media_type,
        "language": prepared.language,
        "sha256": document.sha256,
        "content_hash": prepared.content_hash,
        "text": document.text,
        "pages": Jsonb([page.model_dump() for page in document.pages]),
        "metadata": Jsonb(prepared.metadata),
        "chunks": len(prepared.chunks),
        "words": words,
    }
    sql = load_queries("rotina.knowledge")["put_document"]
    row = await (await connection.execute(sql, values)).fetchone()
    assert row is not None, "an upsert returns its row"
    return {
        "tenant": tenant,
        "collection_id": collection.id,
        "document_id": row["id"],
        "version": row["version"],
    }


def _with_context(each: Chunk) -> str:
    return f"{each.context}\n{each.text}" if each.context else each.text


def _content_hash(document: Document, language: Language) -> str:
    pages = [page.model_dump() for page in document.pages]
    title = document.metadata.get("title")
    facts = [CHUNKING, language, document.name, title, document.text, pages]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _check_storable(prepared: Prepared) -> None:
    """PostgreSQL has neither NUL nor lone surrogates, and JSON has no NaN."""
    try:
        told = json.dumps(dict(prepared.metadata), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise KnowledgeError(
            f"The metadata of {prepared.uri!r} is no JSON ({error}): use texts, numbers, lists"
        ) from None
    texts = [prepared.document.text, prepared.uri, *_texts(json.loads(told))]
    for text in texts:
        if "\x00" in text or not _encodes(text):
            raise KnowledgeError(
                f"{prepared.uri!r} or its metadata holds NUL characters or lone surrogates, which "
                "PostgreSQL cannot store: take them out"
            )


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from _texts(part)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
