"""The exact cache: the same question of the same tenant, answered from PostgreSQL.

Only where a route asks for it (`cache_seconds`), and only at temperature 0, where the answer is
meant to be the same.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from rotina.gateway.answer import ChatAnswer

if TYPE_CHECKING:
    from rotina.database.pool import Pool

log = logging.getLogger(__name__)

POOL_TIMEOUT = 2.0
"""Seconds to wait for a connection: a cache that is slower than the model is none."""


class AnswerCache(Protocol):
    """Where answers are kept."""

    async def find(self, tenant: str, key: bytes) -> ChatAnswer | None:
        """The answer that is kept, unless it has expired. Raises nothing."""

    async def keep(self, tenant: str, key: bytes, answer: ChatAnswer, seconds: float) -> None:
        """Keep an answer. Raises nothing: who has the answer needs no cache."""

    async def find_similar(
        self, tenant: str, context: bytes, vector: list[float], similarity: float
    ) -> ChatAnswer | None:
        """The answer to the nearest question, if its cosine is large enough. Raises nothing."""

    async def keep_similar(
        self,
        tenant: str,
        context: bytes,
        question: bytes,
        vector: list[float],
        answer: ChatAnswer,
        seconds: float,
    ) -> None:
        """Keep an answer. Raises nothing."""


def key_of(route: str, models: Mapping[str, str], request: Mapping[str, Any]) -> bytes:
    """Route, the models behind it (by deployment), and all of the request: 32 bytes."""
    asked = {"route": route, "models": dict(models), "request": dict(request)}
    text = json.dumps(asked, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="replace")).digest()


def free(found: ChatAnswer, latency_ms: int) -> ChatAnswer:
    """An answer that is given again."""
    nothing = {"cached": True, "attempts": 0, "cost_usd": Decimal(0), "latency_ms": latency_ms}
    return found.model_copy(update=nothing)


@dataclass(frozen=True)
class Shelf:
    """One question's place in a cache."""

    cache: AnswerCache
    tenant: str
    key: bytes
    seconds: float

    async def find(self) -> ChatAnswer | None:
        """The answer that is kept, as one that costs nothing."""
        began = time.perf_counter()
        found = await self.cache.find(self.tenant, self.key)
        if found is None:
            return None
        return free(found, round((time.perf_counter() - began) * 1000))

    async def keep(self, answer: ChatAnswer) -> None:
        """Give it to whoever asks the same."""
        await self.cache.keep(self.tenant, self.key, answer, self.seconds)


class PostgresCache:
    """The table `rotina.answer_cache`."""

    def __init__(self, pool: "Pool") -> None:
        """`pool` is an open `psycopg_pool.AsyncConnectionPool`; the caller closes it."""
        self._pool = pool

    async def find(self, tenant: str, key: bytes) -> ChatAnswer | None:
        """The answer that is kept, unless it has expired."""
        return _read(await self._execute("find_cached", {"tenant": tenant, "key": key}))

    async def keep(self, tenant: str, key: bytes, answer: ChatAnswer, seconds: float) -> None:
        """Keep an answer; one that is there already is replaced."""
        values = {"tenant": tenant, "key": key, "seconds": seconds}
        text = answer.model_dump_json().encode()
        await self._execute("keep_cached", {**values, "answer": text})

    async def find_similar(
        self, tenant: str, context: bytes, vector: list[float], similarity: float
    ) -> ChatAnswer | None:
        """The answer to the nearest question of this tenant and context."""
        values = {"tenant": tenant, "context": context, "embedding": json.dumps(vector)}
        return _read(await self._execute("find_similar", {**values, "similarity": similarity}))

    async def keep_similar(
        self,
        tenant: str,
        context: bytes,
        question: bytes,
        vector: list[float],
        answer: ChatAnswer,
        seconds: float,
    ) -> None:
        """Keep an answer; the same question's is replaced."""
        values = {
            "tenant": tenant, "context": context, "question": question, "seconds": seconds,
            "embedding": json.dumps(vector), "answer": answer.model_dump_json().encode(),
        }  # fmt: skip
        await self._execute("keep_similar", values)

    async def purge(self) -> int:
        """Delete what has expired; returns how many."""
        row = await self._execute("purge_cached", {})
        return 0 if row is None else int(row["deleted"])

    async def _execute(self, name: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
        import psycopg  # noqa: PLC0415 - heavy, and a gateway without a database needs none

        from rotina.database.queries import load_queries  # noqa: PLC0415 - as above

        query = load_queries("rotina.gateway")[name]
        try:
            async with self._pool.connection(timeout=POOL_TIMEOUT) as connection:
                cursor = await connection.execute(query, values)
                return await cursor.fetchone() if cursor.description else None
        except psycopg.Error as error:
            log.warning("the cache of answers is left out (%s)", type(error).__name__)
            return None


def _read(row: Mapping[str, Any] | None) -> ChatAnswer | None:
    try:
        return None if row is None else ChatAnswer.model_validate_json(row["answer"])
    except ValidationError:  # kept by another release
        return None
