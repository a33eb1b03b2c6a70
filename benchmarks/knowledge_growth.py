"""What a collection costs as it grows: ten thousand, a hundred thousand, a million chunks.

    python -m benchmarks.knowledge_growth [--rows 10000 100000 1000000] [--queries 100] [--seed 1]

The data are those of `benchmarks.knowledge`, an embedded PostgreSQL for each size. For each: rows a
second stored and seconds until all indexes are there; median latency of a search by vectors (with
its recall@10), by words, fused, and behind a filter that one of a hundred passes; bytes on disk.
The last line is one JSON object; `ratio` is what a fused search of the largest collection takes,
over the same with a tenth of the rows, which is the peer.
"""

import argparse
import asyncio
import json
import platform
from typing import Any

from benchmarks.knowledge import VECTORS, ingest, make, measured, ours, recall
from benchmarks.loopback import database
from rotina.database import open_pool
from rotina.gateway import Gateway
from rotina.knowledge import KnowledgeBase, Weights
from rotina.settings import Settings

GOAL = 2.0
"""Ten times the rows may cost a search twice as much."""
_SIZE = """
    select sum(pg_total_relation_size(c.oid))::bigint as bytes from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'rotina' and c.relkind = 'r'
        and c.relname ~ '^(chunk|embedding|document|posting)'
"""


async def grown(url: str, rows: int, options: argparse.Namespace) -> dict[str, Any]:
    """Everything about one size, in a database of its own."""
    data = make(rows, options.queries, options.seed)
    queries = range(options.queries)
    async with open_pool(url) as pool, Gateway(Settings()) as gateway:
        knowledge = KnowledgeBase(pool, gateway, "bench")
        stored, built = await ingest(knowledge, data)
        async with pool.connection() as connection:
            size = await (await connection.execute(_SIZE)).fetchone()
        ways = {
            "vectors": ours(knowledge, data),
            "words": ours(knowledge, data, Weights(vectors=0)),
            "fused": ours(knowledge, data, Weights()),
            "filtered": ours(knowledge, data, VECTORS, {"percent": 0}),
        }
        told = await measured(ways, queries)
    right = {query: data.nearest(query) for query in queries}
    assert size is not None
    return {
        "per_s": rows / stored,
        "indexes_s": built - stored,
        "bytes": int(size["bytes"]),
        "recall": recall(told["vectors"]["found"], right),
        **{f"{name}_ms": figures["p50_ms"] for name, figures in told.items()},
    }


async def run(options: argparse.Namespace) -> dict[int, dict[str, Any]]:
    """Each size, the smallest first."""
    details: dict[int, dict[str, Any]] = {}
    for rows in sorted(options.rows):
        with database() as (url, _folder):
            each = details[rows] = await grown(url, rows, options)
        print(
            f"{rows:9,} rows: {each['per_s']:,.0f} a second, {each['indexes_s']:.0f} s of indexes, "
            f"{each['bytes'] / 1e6:,.0f} MB; ms: vectors {each['vectors_ms']:.2f} (recall "
            f"{each['recall']:.3f}), words {each['words_ms']:.2f}, fused {each['fused_ms']:.2f}, "
            f"filtered {each['filtered_ms']:.2f}",
            flush=True,
        )
    return details


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}")
    details = asyncio.run(run(options))
    largest = max(details)
    smaller = max((rows for rows in details if rows * 10 <= largest), default=largest)
    ratio = details[largest]["fused_ms"] / details[smaller]["fused_ms"]
    print(json.dumps({
        "name": "knowledge_growth", "ratio": round(ratio, 3), "goal": GOAL,
        "peer": f"the same fused search of {smaller} rows, median latency", "details": details,
    }, default=lambda value: round(float(value), 3)))  # fmt: skip


if __name__ == "__main__":
    main()
