"""LangChain's key-value store of bytes, for example under `CacheBackedEmbeddings`.

Synchronous methods wait for the gateway's event loop: call them from any thread but that one's.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.stores import ByteStore

from rotina.database import load_queries, tenant_scope
from rotina.errors import KnowledgeError
from rotina.gateway.langchain import hand_over, run_on
from rotina.knowledge.base import KnowledgeBase

PAGE = 1000
"""Keys that are listed at once."""


class RotinaByteStore(ByteStore):
    """Bytes by key, in a collection of the tenant's that is made by writing to it."""

    def __init__(self, knowledge: KnowledgeBase, collection: str) -> None:
        """`knowledge` gives tenant, pool and event loop; nothing is embedded."""
        self._knowledge = knowledge
        self._collection = collection

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values in the keys' order, None where there is none."""
        return await hand_over(self._knowledge.gateway, self._get(keys))

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """As `amget`, waiting."""
        return run_on(self._knowledge.gateway, self._get(keys))

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Write all or none; of equal keys the last counts."""
        await hand_over(self._knowledge.gateway, self._set(key_value_pairs))

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """As `amset`, waiting."""
        run_on(self._knowledge.gateway, self._set(key_value_pairs))

    async def amdelete(self, keys: Sequence[str]) -> None:
        """Delete; keys that are not there are left alone."""
        await hand_over(self._knowledge.gateway, self._run("delete_bytes", keys=list(keys)))

    def mdelete(self, keys: Sequence[str]) -> None:
        """As `amdelete`, waiting."""
        run_on(self._knowledge.gateway, self._run("delete_bytes", keys=list(keys)))

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """The keys that begin so, in order."""
        after = ""
        while page := await hand_over(self._knowledge.gateway, self._page(prefix, after)):
            for key in page:
                yield key
            after = page[-1]

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """As `ayield_keys`, waiting."""
        after = ""
        while page := run_on(self._knowledge.gateway, self._page(prefix, after)):
            yield from page
            after = page[-1]

    async def _get(self, keys: Sequence[str]) -> list[bytes | None]:
        found = {row["key"]: row["value"] for row in await self._run("get_bytes", keys=list(keys))}
        return [found.get(key) for key in keys]

    async def _set(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        last = dict(pairs)
        for key, value in last.items():
            if not key or "\x00" in key or not isinstance(value, bytes):
                raise KnowledgeError(
                    f"{key!r} with a {type(value).__name__} cannot be stored: keys are texts that "
                    "are not empty and hold no NUL, values are bytes"
                )
        await self._run("put_bytes", keys=list(last), values=list(last.values()))

    async def _page(self, prefix: str | None, after: str) -> list[str]:
        rows = await self._run("list_bytes", prefix=prefix or "", after=after, limit=PAGE)
        return [row["key"] for row in rows]

    async def _run(self, name: str, **values: Any) -> list[dict[str, Any]]:
        tenant = self._knowledge.tenant
        given = {"tenant": tenant, "collection": self._collection, **values}
        async with tenant_scope(self._knowledge.pool, tenant) as connection:
            sql = load_queries("rotina.knowledge.memory")[name]
            cursor = await connection.execute(sql, given)
            return await cursor.fetchall() if cursor.description else []
