"""The exact cache of vectors: the same text of the same tenant, embedded once.

Only where a route asks for it (`cache_seconds`). A vector is kept as 32-bit floats, which is what
models compute in: what comes out is what the server gave, so no search finds anything else because
of the cache. (Half floats would do for collections, which keep no more, but not for classification
and analysis, which compute with the vectors as they are.)
"""

import hashlib
import json
import logging
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from rotina.gateway.answer import Embeddings, Usage
from rotina.gateway.cache import POOL_TIMEOUT
from rotina.settings import Deployment

if TYPE_CHECKING:
    from rotina.database.pool import Pool

log = logging.getLogger(__name__)

BATCH = 1000
"""Vectors that are kept or deleted at once."""


@dataclass(frozen=True)
class KeptVector:
    """One vector as a cache has it."""

    text: bytes
    """SHA-256 of the text."""
    named: str
    """What the server calls its model."""
    vector: bytes
    """32-bit floats, little-endian."""


class VectorCache(Protocol):
    """Where vectors are kept."""

    async def find(self, tenant: str, model: bytes, texts: Sequence[bytes]) -> list[KeptVector]:
        """Those of these texts that have not expired, the last kept first. Raises nothing."""

    async def keep(
        self, tenant: str, model: bytes, vectors: Sequence[KeptVector], seconds: float
    ) -> None:
        """Keep vectors of one model. Raises nothing: who has the vectors needs no cache."""


@dataclass(frozen=True)
class Known:
    """What a cache has of some texts, all by one model."""

    named: str = ""
    vectors: Mapping[str, list[float]] = field(default_factory=dict)
    """By text."""

    seconds: float = 0.0
    """That finding them took."""

    def is_of(self, fresh: Embeddings) -> bool:
        """Whether fresh vectors can stand beside these: of the same model and dimension."""
        some = next(iter(self.vectors.values()), None)
        return some is None or (self.named == fresh.model and len(some) == len(fresh.vectors[0]))

    def joined(self, texts: Sequence[str], wanted: Sequence[str], fresh: Embeddings) -> Embeddings:
        """The answer to the texts, of which the `wanted` ones were asked for."""
        vectors = {**self.vectors, **dict(zip(wanted, fresh.vectors, strict=True))}
        cached = sum(text in self.vectors for text in texts)
        return fresh.model_copy(update={"vectors": [vectors[t] for t in texts], "cached": cached})

    def answer(self, texts: Sequence[str], route: str, deployment: str) -> Embeddings:
        """The answer to texts that are all known, as one that costs nothing."""
        return Embeddings(
            vectors=[self.vectors[text] for text in texts],
            cached=len(texts),
            model=self.named,
            usage=Usage(prompt_tokens=0, completion_tokens=0),
            route=route,
            deployment=deployment,
            latency_ms=round(self.seconds * 1000),
            attempts=0,
            cost_usd=Decimal(0),
        )


@dataclass(frozen=True)
class VectorShelf:
    """The place of one tenant's vectors by one model."""

    cache: VectorCache
    tenant: str
    model: bytes
    seconds: float

    async def find(self, texts: Sequence[str]) -> Known:
        """What is known of the texts."""
        began = time.perf_counter()
        hashes = {_hash(text): text for text in texts}
        rows = await self.cache.find(self.tenant, self.model, list(hashes))
        if not rows:
            return Known()
        # A server that was given another model behind the same name has left vectors of both.
        named, size = rows[0].named, len(rows[0].vector)
        same = [row for row in rows if row.named == named and len(row.vector) == size]
        vectors = {hashes[row.text]: _read(row.vector) for row in same}
        return Known(named, vectors, time.perf_counter() - began)

    async def keep(self, texts: Sequence[str], answer: Embeddings) -> None:
        """Give the answer's vectors to whoever asks for the same texts."""
        try:
            vectors = [
                KeptVector(_hash(text), answer.model, struct.pack(f"<{len(vector)}f", *vector))
                for text, vector in zip(texts, answer.vectors, strict=True)
            ]
        except OverflowError:  # not what a model computes, but a server may say it
            return
        await self.cache.keep(self.tenant, self.model, vectors, self.seconds)


def model_key(deployment: Deployment, guards: Sequence[Mapping[str, Any]]) -> bytes:
    """All that a vector depends on besides its text: 32 bytes.

    The address is among it, because local servers answer to any model's name.
    """
    url = deployment.base_url and deployment.base_url.get_secret_value()
    facts = [deployment.provider, deployment.model, url, deployment.options, guards]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).digest()


class PostgresVectorCache:
    """The table `rotina.embedding_cache`; a tenant's statements see that tenant's rows only."""

    def __init__(self, pool: "Pool") -> None:
        """`pool` is an open `psycopg_pool.AsyncConnectionPool`; the caller closes it."""
        self._pool = pool

    async def find(self, tenant: str, model: bytes, texts: Sequence[bytes]) -> list[KeptVector]:
        """Those of these texts that have not expired, the last kept first."""
        values = {"model": model, "texts": list(texts)}
        rows = await self._execute("find_vectors", tenant, values)
        return [KeptVector(**row) for row in rows]

    async def keep(
        self, tenant: str, model: bytes, vectors: Sequence[KeptVector], seconds: float
    ) -> None:
        """Keep vectors; those that are there already are replaced."""
        for start in range(0, len(vectors), BATCH):
            some = vectors[start : start + BATCH]
            values = {
                "model": model, "named": some[0].named, "seconds": seconds,
                "texts": [each.text for each in some],
                "vectors": [each.vector for each in some],
            }  # fmt: skip
            await self._execute("keep_vectors", tenant, values)

    async def purge(self) -> int:
        """Delete what has expired, of all tenants; returns how many vectors."""
        from rotina.database.queries import load_queries  # noqa: PLC0415 - as below

        query = load_queries("rotina.gateway")["purge_vectors"]
        deleted, batch = 0, BATCH
        while batch == BATCH:
            async with self._pool.connection() as connection:
                batch = (await connection.execute(query, {"limit": BATCH})).rowcount
            deleted += batch
        return deleted

    async def _execute(
        self, name: str, tenant: str, values: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        import psycopg  # noqa: PLC0415 - heavy, and a gateway without a database needs none
        from psycopg.sql import SQL  # noqa: PLC0415 - as above

        from rotina.database.queries import load_queries  # noqa: PLC0415 - as above
        from rotina.database.tenant import query_as_tenant  # noqa: PLC0415 - as above

        statement, values = SQL(load_queries("rotina.gateway")[name]), {"tenant": tenant, **values}
        try:
            return await query_as_tenant(
                self._pool, tenant, statement, values, timeout=POOL_TIMEOUT
            )
        except psycopg.Error as error:
            log.warning("the cache of vectors is left out (%s)", type(error).__name__)
            return []


def _hash(text: str) -> bytes:
    """As `rotina.embedded_hash` has it of a chunk."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def _read(vector: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))
