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
    space = await begin(knowledge, collection, route)
    if space.state == "current":
        raise KnowledgeError(
            f"{collection!r} is embedded by route {route!r} already: name another route"
        )
    while True:
        if progress is not None:
            progress(*await embedded_by(knowledge, collection, route))
        if await embed_batch(knowledge, collection, space.id):
            continue
        if await switch(knowledge, collection, space.id, keep=keep):
            return await knowledge.get(collection)


async def begin(knowledge: KnowledgeBase, collection: str, route: str) -> Space:
    """The space that `route` is to fill: one that was begun, or is there already, or a new one.

    It is `current` when there is nothing to do. Raises `CollectionNotFoundError`, `KnowledgeError`
    when another route is being built, or a `ModelError`.
    """
    found = await knowledge.get(collection)
    # The route is tried before a space is there that it should fill: at its server, for a cache
    # would tell of the model that was there.
    answer = await knowledge.gateway.embed(["?"], route=route, record=False, cache=False)
    leads = answer.model, len(answer.vectors[0])
    sql = load_queries("rotina.knowledge")
    space_id = uuid7()
    row = {
        "id": space_id, "tenant": knowledge.tenant, "collection_id": found.id,
        "route": route, "state": "building",
    }  # fmt: skip
    async with knowledge.scope() as connection:
        await connection.execute(sql["lock_collection"], {"id": found.id})
        found = await knowledge.find(connection, collection)
        taken = _taken(found, route, leads)
        if taken is not None:
            return taken
        for space in found.spaces:
            if space.route == route:
                # Another model behind the same name: the cache would give the old one's vectors.
                await connection.execute(sql["forget_model"], {"model": space.model})
        await connection.execute(sql["insert_space"], row)
        await connection.execute(sql["settle_space"], {"id": space_id})
        return _space(await knowledge.find(connection, collection), space_id)


async def embed_batch(
    knowledge: KnowledgeBase, collection: str, space_id: UUID, most: int | None = None
) -> bool:
    """Embed up to `most` chunks (`BATCH`) that have no vector in the space; False if none lacks.

    What one embeds while another does the same is kept once. Raises `CollectionNotFoundError`,
    `KnowledgeError` (the space was dropped, or its route leads to another model by now) or a
    `ModelError`.
    """
    found = await knowledge.get(collection)
    space = _space(found, space_id)
    async with knowledge.scope() as connection:
        places = {**_places(found, space), "limit": most or BATCH}
        rows = await _rows(connection, "chunks_without_vector", places)
    if not rows:
        return False
    texts = [with_context(row["context"], row["text"]) for row in rows]
    # What is stored at once need not be recorded as well.
    answer = await knowledge.gateway.embed(texts, route=space.route, record=False)
    matrix = await asyncio.to_thread(scale, answer.vectors)
    check_model(found.name, space, matrix.shape[1], answer.model)
    async with knowledge.scope() as connection:
        # Nobody deletes a chunk, or moves the collection, between here and the commit.
        locked = await _rows(connection, "lock_collection", {"id": found.id})
        if not locked or locked[0]["generation"] != found.generation:
            return True
        if space.dimension is None:
            claim = {"id": space.id, "dimension": matrix.shape[1], "model": answer.model}
            await _rows(connection, "set_embedding", claim)
            await _rows(connection, "bump_generation", {"id": found.id})
        await _rows(
            connection,
            "insert_late_vectors",
            {
                "chunk_home": found.home,
                "home": space.home,
                "space_id": space.id,
                "tenant": knowledge.tenant,
                "values": reals(matrix),
                "dimension": matrix.shape[1],
                "chunks": [row["id"] for row in rows],
            },
        )
    return True


async def switch(
    knowledge: KnowledgeBase, collection: str, space_id: UUID, *, keep: bool = False
) -> bool:
    """Let the space answer, and drop the one that did, or `keep` it; False if a chunk lacks.

    Raises `CollectionNotFoundError`, or `KnowledgeError` when the space was dropped.
    """
    found = await knowledge.get(collection)
    await _index(knowledge, found, _space(found, space_id))
    async with knowledge.scope() as connection:
        await _rows(connection, "lock_collection", {"id": found.id})
        now = await knowledge.find(connection, collection)
        space, old = _space(now, space_id), now.current
        lacking = await _rows(connection, "count_without_vector", _places(now, space))
        if lacking[0]["lacking"]:
            return False
        if old.id == space.id:
            return True
        # What the route led to before cannot stay beside what it leads to now.
        dropped = [each for each in now.spaces if each.route == space.route and each != space]
        if not keep and old not in dropped:
            dropped.append(old)
        for each in dropped:
            await _drop(connection, each)
        if old not in dropped:
            await _rows(connection, "set_space_state", {"id": old.id, "state": "ready"})
        await _rows(connection, "set_space_state", {"id": space.id, "state": "current"})
        await _rows(connection, "bump_generation", {"id": found.id})
        return True


async def embedded_by(knowledge: KnowledgeBase, collection: str, route: str) -> tuple[int, int]:
    """Chunks that have a vector by `route`, be it finished or not, and chunks there are.

    Raises `CollectionNotFoundError`.
    """
    async with knowledge.scope() as connection:
        found = await knowledge.find(connection, collection)
        own = [space for space in found.spaces if space.route == route]
        if not own:
            return 0, found.chunks
        # The one that is being built, if there is: its route may have led to another model before.
        space = next((each for each in own if each.state == "building"), own[0])
        lacking = await _rows(connection, "count_without_vector", _places(found, space))
    return found.chunks - lacking[0]["lacking"], found.chunks


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


def _taken(collection: Collection, route: str, leads: tuple[str, int]) -> Space | None:
    """The space in which the route's vectors are, or will be; None if there is to be a new one."""
    building = next((each for each in collection.spaces if each.state == "building"), None)
    if building is None:
        same = (each for each in collection.spaces if each.route == route and _fits(each, leads))
        return next(same, None)
    drop = f"drop it with `rotina kb reindex {collection.name} --drop {building.route}`"
    if building.route != route:
        raise KnowledgeError(
            f"{collection.name!r} is being embedded by route {building.route!r}: finish that, or "
            f"{drop}"
        )
    if not _fits(building, leads):
        raise KnowledgeError(
            f"{collection.name!r} was half embedded by {building.model!r} when route {route!r} led "
            f"there, and now it leads to {leads[0]!r}: point it back, or {drop}"
        )
    return building


def _fits(space: Space, leads: tuple[str, int]) -> bool:
    return space.model is None or leads == (space.model, space.dimension)


def _space(collection: Collection, space_id: UUID) -> Space:
    for space in collection.spaces:
        if space.id == space_id:
            return space
    raise KnowledgeError(
        f"The vectors that {collection.name!r} was to get were dropped meanwhile: start again"
    )


async def _index(knowledge: KnowledgeBase, collection: Collection, space: Space) -> None:
    if collection.chunks > EXACT_CHUNKS and not space.indexed and space.dimension is not None:
        async with knowledge.scope() as connection:
            await _rows(connection, "index_space", {"id": space.id})


async def _drop(connection: AsyncConnection[DictRow], space: Space) -> None:
    await _rows(connection, "empty_space", {"id": space.id})
    await _rows(connection, "delete_space", {"id": space.id})


def _places(collection: Collection, space: Space) -> dict[str, UUID]:
    return {
        "chunk_home": collection.home,
        "vector_home": space.home,
        "collection_id": collection.id,
        "space_id": space.id,
    }


async def _rows(
    connection: AsyncConnection[DictRow], name: str, values: dict[str, Any]
) -> Sequence[DictRow]:
    cursor = await connection.execute(load_queries("rotina.knowledge")[name], values)
    return await cursor.fetchall() if cursor.description else []
