"""What collections follow, and what is known of each document of a source."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import ValidationError
from uuid_utils.compat import uuid7

from rotina.database import load_queries
from rotina.errors import SourceError
from rotina.knowledge.base import KnowledgeBase
from rotina.knowledge.preparing import is_storable
from rotina.knowledge.sources.model import SETTINGS, FollowedSource, Gone, Listed

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Sources:
    """The sources of one tenant's collections."""

    def __init__(self, knowledge: KnowledgeBase) -> None:
        """Does no I/O."""
        self._knowledge = knowledge

    async def follow(
        self,
        collection: str,
        settings: Mapping[str, Any],
        *,
        name: str | None = None,
        gone: Gone = "delete",
    ) -> FollowedSource:
        """Have a collection follow a source; nothing is fetched yet.

        `settings` are those of its `kind`, which is its name unless given. Raises `SourceError` for
        settings that are malformed and names that are taken, and `CollectionNotFoundError`.
        """
        try:
            valid = SETTINGS.validate_python(dict(settings))
        except ValidationError as error:
            what = error.errors(include_url=False)[0]
            where = ".".join(map(str, what["loc"])) or "kind"
            raise SourceError(
                f"The source's settings are refused: {where}: {what['msg']}"
            ) from None
        name = name or valid.kind
        told = valid.model_dump(mode="json")
        if not _NAME.fullmatch(name) or not is_storable(told):
            raise SourceError(
                f"{name!r} is no source's name, or its settings hold NUL: use up to 100 letters, "
                "digits, dots, dashes and underscores"
            )
        found = await self._knowledge.get(collection)
        rows = await self._run(
            "insert_source",
            id=uuid7(), tenant=self._knowledge.tenant, collection_id=found.id, name=name,
            kind=valid.kind, settings=Jsonb(told), gone=gone,
        )  # fmt: skip
        if not rows:
            raise SourceError(f"{collection!r} follows a source {name!r} already: name this one")
        return await self.get(collection, name)

    async def all(self, collection: str) -> list[FollowedSource]:
        """What a collection follows, by name. Raises `CollectionNotFoundError`."""
        found = await self._knowledge.get(collection)
        rows = await self._run("list_sources", collection_id=found.id, name=None)
        return [FollowedSource.model_validate(row) for row in rows]

    async def get(self, collection: str, name: str) -> FollowedSource:
        """One of them. Raises `SourceError`, or `CollectionNotFoundError`."""
        found = await self._knowledge.get(collection)
        rows = await self._run("list_sources", collection_id=found.id, name=name)
        if not rows:
            raise SourceError(
                f"{collection!r} follows no source {name!r}: `rotina kb sources {collection}` "
                "lists those it follows"
            )
        return FollowedSource.model_validate(rows[0])

    async def unfollow(self, collection: str, name: str) -> None:
        """Forget a source; its documents stay. Raises as `get`."""
        await self.get(collection, name)
        found = await self._knowledge.get(collection)
        await self._run("delete_source", collection_id=found.id, name=name)

    async def failed(self, source: FollowedSource, limit: int = 20) -> list[dict[str, Any]]:
        """Documents that could not be stored: `uri`, and `error` with `type` and `message`."""
        return await self._run("failed_items", source_id=source.id, limit=limit)

    async def retry_failed(self, source_id: UUID) -> None:
        """Have the next sync try again what failed."""
        await self._run("retry_failed", source_id=source_id)

    async def clock(self) -> datetime:
        """Now, by the clock that all workers share."""
        (row,) = await self._run("clock")
        found: datetime = row["now"]
        return found

    async def see(self, source_id: UUID, page: Sequence[Listed]) -> None:
        """Note what a source lists."""
        # A source that lists a document twice means the last.
        last = {each.uri: each for each in page}
        await self._run(
            "see_items",
            source_id=source_id,
            tenant=self._knowledge.tenant,
            uris=list(last),
            fingerprints=[each.fingerprint for each in last.values()],
            metadata=[Jsonb(each.metadata) for each in last.values()],
        )

    async def due(self, source_id: UUID, began: datetime, limit: int) -> list[dict[str, Any]]:
        """Of what was seen since, the new and the changed: `uri`, `fingerprint`, `metadata`."""
        return await self._run("due_items", source_id=source_id, began=began, limit=limit)

    async def tried(
        self,
        source_id: UUID,
        run_id: UUID,
        item: Mapping[str, Any],
        outcome: str,
        error: Mapping[str, str] | None = None,
    ) -> None:
        """Note what came of one."""
        told = None if error is None else Jsonb(dict(error))
        await self._run(
            "tried_item",
            source_id=source_id, run_id=run_id, uri=item["uri"],
            fingerprint=item["fingerprint"], outcome=outcome, error=told,
        )  # fmt: skip

    async def let_go(
        self, collection: str, source: FollowedSource, began: datetime, limit: int
    ) -> tuple[int, int]:
        """Forget documents that no listing has told of since; how many, and how many were deleted.

        A document goes when the source does not keep what is gone, a source brought it, and no
        other source of the collection lists it. What another lists is due there, for the stored
        content may be this one's. All of it or nothing happens. Raises `CollectionNotFoundError`.
        """
        sql = load_queries("rotina.knowledge.sources")
        lock = load_queries("rotina.knowledge")["lock_collection"]
        async with self._knowledge.scope() as connection:
            found = await self._knowledge.find(connection, collection)
            # Of two sources that let go of the same document, the second sees that the first has.
            await connection.execute(lock, {"id": found.id})
            key: dict[str, Any] = {"collection_id": found.id, "source_id": source.id}
            since = {**key, "began": began, "limit": limit}
            rows = await (await connection.execute(sql["gone_items"], since)).fetchall()
            gone = [row["uri"] for row in rows]
            asked = {**key, "uris": gone}
            rows = await (await connection.execute(sql["items_elsewhere"], asked)).fetchall()
            listed = {
                "sources": [row["source_id"] for row in rows],
                "uris": [r["uri"] for r in rows],
            }
            await connection.execute(sql["take_over"], {**key, **listed})
            await connection.execute(sql["forget_items"], asked)
            if source.gone == "keep":
                return len(gone), 0
            nowhere = {**key, "uris": sorted(set(gone) - set(listed["uris"]))}
            return len(gone), (await connection.execute(sql["discard_gone"], nowhere)).rowcount

    async def finish(self, source_id: UUID, run_id: UUID, began: datetime) -> dict[str, int]:
        """Note that a run has ended; how many documents had which outcome."""
        await self._run("mark_synced", source_id=source_id)
        rows = await self._run("count_items", source_id=source_id, run_id=run_id, began=began)
        return {row["outcome"]: row["items"] for row in rows}

    async def _run(self, query: str, **values: Any) -> list[dict[str, Any]]:
        async with self._knowledge.scope() as connection:
            sql = load_queries("rotina.knowledge.sources")[query]
            cursor = await connection.execute(sql, values)
            return await cursor.fetchall() if cursor.description else []
