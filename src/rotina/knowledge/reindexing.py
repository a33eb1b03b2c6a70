"""Embedding a collection again, by another model, while it is searched and written to."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from uuid_utils.compat import uuid7

from rotina.database import load_queries
from rotina.errors import KnowledgeError
from rotina.knowledge.base import KnowledgeBase
from rotina.knowledge.chunking import with_context
from rotina.knowledge.model import Collection, Space
from rotina.knowledge.search import EXACT_CHUNKS
from rotina.knowledge.store import check_model
from rotina.knowledge.vectors import reals, scale

BATCH = 256
"""Chunks that are embedded, and kept, at once."""

Progress = Callable[[int, int], None]
"""Chunks that have a vector, and chunks there are."""


async def reindex(
    knowledge: KnowledgeBase,
    collection: str,
    route: str,
    *,
    keep: bool = False,
    progress: Progress | None = None,
) -> Collection:
    """Embed every chunk by `route`, then let these vectors answer instead of the present ones.

    Until then the present ones answer; documents that are added meanwhile are caught up with. With
    `keep` the old vectors stay beside the new ones, and documents get both from then on. What was
    embedded is kept when it is interrupted: called again, it goes on.

    Raises `CollectionNotFoundError`, `KnowledgeError` (another route is being built, or this one
    answers already) or a `ModelError`.
    """
    found = await knowledge.get(collection)
    space = await _begin(knowledge, found, route)
    while True:
        while await _fill(knowledge, found, space, progress):
            found = await knowledge.get(collection)
            space = next(each for each in found.spaces if each.id == space.id)
        await _index(knowledge, found, space)
        if await _switch(knowledge, found, space, keep=keep):
            return await knowledge.get(collection)


async def drop_space(knowledge: KnowledgeBase, collection: str, route: str) -> None:
    """Delete the vectors of a route, finished or not, that do not answer.

    Raises `CollectionNotFoundError`, or `KnowledgeError` when there are none, or they answer.
    """
    sql = load_queries("rotina.knowledge")
    async with knowledge.scope() as connection:
        found = await knowledge.find(connection, collection)
        await connection.execute(sql["lock_collection"], {"id": found.id})
        for space in found.spaces:
            if space.route == route and space.state != "current":
                await _drop(connection, space)
                await connection.execute(sql["bump_generation"], {"id": found.id})
                return
    raise KnowledgeError(
        f"{collection!r} has no vectors by route {route!r} that do not answer: there is nothing "
        "to drop"
    )


async def _begin(knowledge: KnowledgeBase, collection: Collection, route: str) -> Space:
    for space in collection.spaces:
        if space.route == route and space.state == "current":
            if not await _is_stale(knowledge, space):
                raise KnowledgeError(
                    f"{collection.name!r} is embedded by route {route!r} already: name another "
                    "route"
                )
            # Behind the same name and address; the cache would give the old model's vectors.
            async with knowledge.scope() as connection:
                await _rows(connection, "forget_model", {"model": space.model})
        if space.state == "building":
            if space.route == route:
                return space
            raise KnowledgeError(
                f"{collection.name!r} is being embedded by route {space.route!r}: finish that, or "
                f"drop it with `rotina kb reindex {collection.name} --drop {space.route}`"
            )
    sql = load_queries("rotina.knowledge")
    row = {
        "id": uuid7(), "tenant": knowledge.tenant, "collection_id": collection.id,
        "route": route, "state": "building",
    }  # fmt: skip
    async with knowledge.scope() as connection:
        await connection.execute(sql["lock_collection"], {"id": collection.id})
        await connection.execute(sql["insert_space"], row)
        await connection.execute(sql["settle_space"], {"id": row["id"]})
        found = await knowledge.find(connection, collection.name)
    for space in found.spaces:
        if space.state == "building" and space.route == route:
            return space
    raise KnowledgeError(f"{collection.name!r} is being embedded by another route: wait for it")


async def _is_stale(knowledge: KnowledgeBase, space: Space) -> bool:
    """Whether the route leads to another model now than when the space was filled."""
    if space.model is None:
        return False
    # The server itself is asked: a cache would tell of the model that was there.
    answer = await knowledge.gateway.embed(["?"], route=space.route, record=False, cache=False)
    return (answer.model, len(answer.vectors[0])) != (space.model, space.dimension)


async def _fill(
    knowledge: KnowledgeBase, collection: Collection, space: Space, progress: Progress | None
) -> bool:
    """Embed one batch of chunks that have no vector yet; False when there is none."""
    places = _places(collection, space)
    async with knowledge.scope() as connection:
        rows = await _rows(connection, "chunks_without_vector", {**places, "limit": BATCH})
        lacking = (await _rows(connection, "count_without_vector", places))[0]["lacking"]
    if progress is not None:
        progress(collection.chunks - lacking, collection.chunks)
    if not rows:
        return False
    texts = [with_context(row["context"], row["text"]) for row in rows]
    answer = await knowledge.gateway.embed(texts, route=space.route)
    matrix = await asyncio.to_thread(scale, answer.vectors)
    check_model(collection.name, space, matrix.shape[1], answer.model)
    async with knowledge.scope() as connection:
        # Nobody deletes a chunk, or moves the collection, between here and the commit.
        locked = await _rows(connection, "lock_collection", {"id": collection.id})
        if not locked or locked[0]["generation"] != collection.generation:
            return bool(locked)
        if space.dimension is None:
            claim = {"id": space.id, "dimension": matrix.shape[1], "model": answer.model}
            await _rows(connection, "set_embedding", claim)
            await _rows(connection, "bump_generation", {"id": collection.id})
        await _rows(
            connection,
            "insert_late_vectors",
            {
                "chunk_home": collection.home,
                "home": space.home,
                "space_id": space.id,
                "tenant": knowledge.tenant,
                "values": reals(matrix),
                "dimension": matrix.shape[1],
                "chunks": [row["id"] for row in rows],
            },
        )
    return True


async def _index(knowledge: KnowledgeBase, collection: Collection, space: Space) -> None:
    if collection.chunks > EXACT_CHUNKS and not space.indexed and space.dimension is not None:
        async with knowledge.scope() as connection:
            await _rows(connection, "index_space", {"id": space.id})


async def _switch(
    knowledge: KnowledgeBase, collection: Collection, space: Space, *, keep: bool
) -> bool:
    """Let the new vectors answer, unless documents came in the meantime."""
    async with knowledge.scope() as connection:
        await _rows(connection, "lock_collection", {"id": collection.id})
        now = await knowledge.find(connection, collection.name)
        lacking = await _rows(connection, "count_without_vector", _places(now, space))
        if lacking[0]["lacking"]:
            return False
        old = now.current
        if keep and old.route != space.route:
            await _rows(connection, "set_space_state", {"id": old.id, "state": "ready"})
        else:
            await _drop(connection, old)
        await _rows(connection, "set_space_state", {"id": space.id, "state": "current"})
        await _rows(connection, "bump_generation", {"id": collection.id})
        return True


async def _drop(connection: AsyncConnection[DictRow], space: Space) -> None:
    await _rows(connection, "empty_space", {"id": space.id})
    await _rows(connection, "delete_space", {"id": space.id})


def _places(collection: Collection, space: Space) -> dict[str, UUID]:
    home = next((each.home for each in collection.spaces if each.id == space.id), space.home)
    return {
        "chunk_home": collection.home,
        "vector_home": home,
        "collection_id": collection.id,
        "space_id": space.id,
    }


async def _rows(
    connection: AsyncConnection[DictRow], name: str, values: dict[str, Any]
) -> Sequence[DictRow]:
    cursor = await connection.execute(load_queries("rotina.knowledge")[name], values)
    return await cursor.fetchall() if cursor.description else []
