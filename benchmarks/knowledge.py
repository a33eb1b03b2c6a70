"""What the knowledge base costs beside raw SQL and langchain-postgres' PGVectorStore.

    python -m benchmarks.knowledge [--rows 100000] [--queries 200] [--without-peer] [--seed 1]

Rows are 384-d vectors in clusters, each with a short text and metadata. Everything runs on one
embedded PostgreSQL, started here; embeddings are given, so no model is asked.

- ingest: documents a second (prepared, stored, ready for exact search), beside a binary COPY of the
  same rows into one bare table, and beside `add_embeddings` of the peer (a smaller number of rows).
- search: median latency, client CPU and recall@10 of a vector search through HNSW, beside the same
  statement by bare psycopg and beside the peer; fused search beside ours by vectors alone.
- filters that leave 50 %, 1 % and 0.01 % of the rows: rows returned, recall and latency, beside
  pgvector's iterative scan (relaxed order) and its default.

The last line is one JSON object; `ratio` is the median latency of ours over bare psycopg's.
"""

import argparse
import asyncio
import hashlib
import json
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg

from benchmarks import peers
from benchmarks.loopback import database
from rotina.database import open_pool
from rotina.gateway import Gateway
from rotina.knowledge import About, Document, KnowledgeBase, Weights
from rotina.knowledge.preparing import prepare
from rotina.knowledge.vectors import Halfvec, halfvec
from rotina.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIMENSION, CLUSTERS, K = 384, 500, 10
SHARES = {"half": 2, "percent": 100, "rare": 10_000}
"""Fields of the metadata, and how many values each has."""
VECTORS = Weights(text=0, vectors=1)
EF = 100
BATCH = 2_000
PEER_ROWS = 2_000
GOAL = 1.15


@dataclass(frozen=True)
class Data:
    """Rows and questions."""

    vectors: "NDArray[np.float32]"
    texts: list[str]
    queries: "NDArray[np.float32]"
    questions: list[str]

    def metadata(self, row: int) -> dict[str, int]:
        """Of a row."""
        return {name: row % values for name, values in SHARES.items()}

    def nearest(self, query: int, among: "NDArray[np.int64] | None" = None) -> set[int]:
        """The rows nearest to a query, exactly, of some or all."""
        rows = np.arange(len(self.vectors)) if among is None else among
        cosine = self.vectors[rows] @ self.queries[query]
        return {int(row) for row in rows[np.argsort(-cosine)[:K]]}


def make(rows: int, queries: int, seed: int) -> Data:
    """Clustered vectors of length 1, and texts whose words are as frequent as words are."""
    chance = np.random.default_rng(seed)
    centres = chance.normal(size=(CLUSTERS, DIMENSION))
    vocabulary = np.array([f"w{n}" for n in range(20_000)])
    # Zipf's law as Mandelbrot corrected it: without the words that are stop words.
    weights = 1 / (np.arange(len(vocabulary)) + 30)
    weights /= weights.sum()

    def near(count: int) -> "NDArray[np.float32]":
        spread = chance.normal(size=(count, DIMENSION))
        points = centres[chance.integers(CLUSTERS, size=count)] + spread
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        return np.asarray(points, dtype=np.float32)

    def said(count: int, words: int) -> list[str]:
        chosen = chance.choice(vocabulary, size=(count, words), p=weights)
        return [" ".join(row) for row in chosen]

    return Data(near(rows), said(rows, 40), near(queries), said(queries, 6))


async def ingest(knowledge: KnowledgeBase, data: Data) -> tuple[float, float]:
    """Store all rows as documents; seconds without and with what is built afterwards."""
    collection = await knowledge.create("bench", language="en")
    began = time.perf_counter()
    for first in range(0, len(data.texts), BATCH):
        batch = [
            prepare(_document(row, data.texts[row]), collection, _about(data, row), whole=True)
            for row in range(first, min(first + BATCH, len(data.texts)))
        ]
        vectors = data.vectors[first : first + BATCH]
        await knowledge.put(collection, batch, vectors, model="bench")
    stored = time.perf_counter() - began
    await knowledge.index(collection)
    return stored, time.perf_counter() - began


def _document(row: int, text: str) -> Document:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Document(name=str(row), media_type="text/plain", sha256=sha256, text=text)


def _about(data: Data, row: int) -> About:
    return About(uri=str(row), metadata=data.metadata(row), language="en")


def copy(url: str, data: Data) -> tuple[float, float]:
    """A binary COPY into one bare table; seconds, and seconds with its HNSW index."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "create table raw (id integer, text text, metadata jsonb, embedding halfvec)"
        )
        began = time.perf_counter()
        statement = "copy raw (id, text, metadata, embedding) from stdin (format binary)"
        with connection.cursor() as cursor, cursor.copy(statement) as copying:
            for row, vector in enumerate(data.vectors):
                head = row.to_bytes(4, "big")
                text = data.texts[row].encode()
                told = b"\x01" + json.dumps(data.metadata(row)).encode()
                parts = (head, text, told, bytes(halfvec(vector)))
                if row == 0:
                    copying.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
                copying.write(
                    b"\0\x04" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
                )
            copying.write(b"\xff\xff")
        stored = time.perf_counter() - began
        connection.execute("set maintenance_work_mem = '512MB'")
        connection.execute(
            f"create index on raw using hnsw ((embedding::halfvec({DIMENSION})) halfvec_cosine_ops)"
        )
        built = time.perf_counter() - began
        connection.execute("create index on raw (((metadata ->> 'percent')::int))")
        connection.execute("analyze raw")
    return stored, built


Ask = Callable[[int], Awaitable[set[int]]]


async def measured(asks: dict[str, Ask], queries: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Each way asked each question, in turns; medians, and what was found."""
    waits: dict[str, list[float]] = {name: [] for name in asks}
    spent = dict.fromkeys(asks, 0.0)
    found: dict[str, dict[int, set[int]]] = {name: {} for name in asks}
    for ask in asks.values():
        for query in queries[:20]:
            await ask(query)
    for query in queries:
        for name, ask in asks.items():
            began, cpu = time.perf_counter(), time.process_time()
            found[name][query] = await ask(query)
            waits[name].append((time.perf_counter() - began) * 1000)
            spent[name] += (time.process_time() - cpu) * 1000
    return {
        name: {
            "p50_ms": statistics.median(waits[name]),
            "cpu_ms": spent[name] / len(queries),
            "found": found[name],
        }
        for name in asks
    }


def bare(connection: psycopg.AsyncConnection[Any], data: Data, condition: str = "true") -> Ask:
    """The statement anybody would write, prepared."""
    statement = (
        f"select id, text, metadata from raw where {condition} "
        f"order by embedding::halfvec({DIMENSION}) <=> %s::halfvec({DIMENSION}) limit {K}"
    )

    async def ask(query: int) -> set[int]:
        vector: Halfvec = halfvec(data.queries[query])
        cursor = await connection.execute(statement, (vector,), prepare=True)
        return {row[0] for row in await cursor.fetchall()}

    return ask


def ours(
    knowledge: KnowledgeBase,
    data: Data,
    weights: Weights = VECTORS,
    given: dict[str, int] | None = None,
) -> Ask:
    """`KnowledgeBase.search`."""

    async def ask(query: int) -> set[int]:
        found = await knowledge.search(
            "bench",
            data.questions[query],
            k=K,
            weights=weights,
            vector=data.queries[query],
            filter=given,
        )
        return {int(passage.uri) for passage in found}

    return ask


def recall(found: dict[int, set[int]], right: dict[int, set[int]]) -> float:
    """Share of the right rows that were found."""
    return sum(len(found[query] & right[query]) for query in right) / sum(map(len, right.values()))


async def searches(url: str, knowledge: KnowledgeBase, data: Data) -> dict[str, Any]:
    """Vector and fused search, without a filter."""
    queries = range(len(data.queries))
    right = {query: data.nearest(query) for query in queries}
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f"set hnsw.ef_search = {EF}")
        ways = {
            "bare psycopg": bare(connection, data),
            "rotina": ours(knowledge, data),
            "rotina fused": ours(knowledge, data, Weights()),
        }
        told = await measured(ways, queries)
    for name, figures in told.items():
        figures["recall"] = recall(figures.pop("found"), right)
        print(f"  {name:14} p50 {figures['p50_ms']:7.2f} ms  client CPU {figures['cpu_ms']:5.2f} ms"
              f"  recall@10 {figures['recall']:.3f}")  # fmt: skip
    return told


async def filtered(url: str, knowledge: KnowledgeBase, data: Data) -> dict[str, Any]:
    """Each filter, ours and pgvector's ways."""
    told: dict[str, Any] = {}
    for name, values in SHARES.items():
        among = np.arange(0, len(data.vectors), values)
        queries = range(min(50, len(data.queries)))
        right = {query: data.nearest(query, among) for query in queries}
        condition = f"metadata @> '{{\"{name}\": 0}}'"
        async with (
            await psycopg.AsyncConnection.connect(url, autocommit=True) as default,
            await psycopg.AsyncConnection.connect(url, autocommit=True) as relaxed,
        ):
            for connection in (default, relaxed):
                await connection.execute(f"set hnsw.ef_search = {EF}")
                await connection.execute("set enable_seqscan = off")
                await connection.execute("set enable_bitmapscan = off")
            await relaxed.execute("set hnsw.iterative_scan = relaxed_order")
            await relaxed.execute("set hnsw.max_scan_tuples = 200000")
            ways = {
                "default scan": bare(default, data, condition),
                "iterative scan": bare(relaxed, data, condition),
                "rotina": ours(knowledge, data, VECTORS, {name: 0}),
            }
            figures = await measured(ways, queries)
        print(f"  1 of {values}:")
        for way, each in figures.items():
            found = each.pop("found")
            each["rows"] = statistics.mean(len(found[query]) for query in queries)
            each["recall"] = recall(found, right)
            print(f"    {way:14} {each['rows']:5.1f} of {min(K, len(among))} rows  recall "
                  f"{each['recall']:.3f}  p50 {each['p50_ms']:7.2f} ms")  # fmt: skip
        told[f"1 of {values}"] = figures
    return told


def peer(url: str, data: Data, folder: Path) -> dict[str, Any] | None:
    """PGVectorStore, in a process of its own."""
    python = peers.python("vectorstore")
    if python is None:
        return None
    np.savez(folder / "data.npz", vectors=data.vectors[:PEER_ROWS], queries=data.queries)
    told = {
        "texts": data.texts[:PEER_ROWS],
        "metadata": [data.metadata(row) for row in range(PEER_ROWS)],
        "rows": len(data.vectors),
    }
    (folder / "data.json").write_text(json.dumps(told))
    program = Path(peers.__file__).parent / "vectorstore_client.py"
    done = subprocess.run([python, program, url, folder], capture_output=True, check=False)
    if done.returncode:
        print(f"the peer failed: {done.stderr.decode()[-600:]}")
        return None
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"  PGVectorStore: {figures['per_s']:.0f} rows a second, search p50 "
          f"{figures['p50_ms']:.2f} ms, client CPU {figures['cpu_ms']:.2f} ms")  # fmt: skip
    return figures


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    data = make(options.rows, options.queries, options.seed)
    details: dict[str, Any] = {"rows": options.rows}
    with database() as (url, folder):
        async with open_pool(url) as pool, Gateway(Settings()) as gateway:
            knowledge = KnowledgeBase(pool, gateway, "bench")
            stored, built = await ingest(knowledge, data)
            raw, raw_built = copy(url, data)
            details["ingest_per_s"] = {
                "rotina": options.rows / stored, "binary copy": options.rows / raw,
            }  # fmt: skip
            for name, bare_s, all_s in (("rotina", stored, built), ("COPY", raw, raw_built)):
                rate = options.rows / bare_s
                print(f"  ingest: {name:6} {rate:9,.0f} rows a second, {all_s:.0f} s with indexes")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            details["search"] = await searches(url, knowledge, data)
            details["filters"] = await filtered(url, knowledge, data)
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            details["memory_grown"] = after / before
        if not options.without_peer:
            details["peer"] = peer(url, data, folder)
    return details


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without-peer", action="store_true")
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, {options.rows} rows")
    details = asyncio.run(run(options))
    search = details["search"]
    ratio = search["rotina"]["p50_ms"] / search["bare psycopg"]["p50_ms"]
    print(json.dumps({
        "name": "knowledge", "ratio": round(ratio, 3), "goal": GOAL,
        "peer": "the same vector search by bare psycopg, median latency", "details": details,
    }, default=lambda value: round(float(value), 3)))  # fmt: skip


if __name__ == "__main__":
    main()
