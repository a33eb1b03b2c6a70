"""langchain-postgres' PGVectorStore, in a process and with packages of its own.

    python vectorstore_client.py DATABASE_URL FOLDER

FOLDER holds `data.npz` and `data.json`, as `benchmarks.knowledge` writes them. Its rows are added
by `add_embeddings`; for searches the table is filled up with the rows of the bare one.
"""

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_postgres import Column, PGEngine, PGVectorStore

SIZE, K, EF = 384, 10, 100


async def main() -> None:
    """Print one JSON object."""
    url, folder = sys.argv[1], Path(sys.argv[2])
    arrays, told = np.load(folder / "data.npz"), json.loads((folder / "data.json").read_text())
    engine = PGEngine.from_connection_string(
        url=url.replace("postgresql://", "postgresql+psycopg://")
    )
    columns = [Column(name, "INTEGER") for name in told["metadata"][0]]
    await engine.ainit_vectorstore_table("peer", SIZE, metadata_columns=columns)
    store = await PGVectorStore.create(
        engine, DeterministicFakeEmbedding(size=SIZE), "peer",
        metadata_columns=[column.name for column in columns],
    )  # fmt: skip
    began = time.perf_counter()
    await store.aadd_embeddings(told["texts"], arrays["vectors"].tolist(), told["metadata"])
    figures: dict[str, Any] = {"per_s": len(told["texts"]) / (time.perf_counter() - began)}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into peer (langchain_id, content, embedding, langchain_metadata) "
            "select gen_random_uuid(), text, embedding::vector, '{}' from raw where id >= %s",
            (len(told["texts"]),),
        )
        connection.execute("set maintenance_work_mem = '1GB'")
        connection.execute("create index on peer using hnsw (embedding vector_cosine_ops)")
        connection.execute(f"alter role current_user set hnsw.ef_search = {EF}")
    await engine.close()
    engine = PGEngine.from_connection_string(
        url=url.replace("postgresql://", "postgresql+psycopg://")
    )
    store = await PGVectorStore.create(
        engine, DeterministicFakeEmbedding(size=SIZE), "peer",
        metadata_columns=[column.name for column in columns],
    )  # fmt: skip
    waits, cpu = [], 0.0
    for round_, query in enumerate([*arrays["queries"][:20], *arrays["queries"]]):
        vector = query.tolist()
        began, spent = time.perf_counter(), time.process_time()
        await store.asimilarity_search_by_vector(vector, k=K)
        if round_ >= 20:
            waits.append((time.perf_counter() - began) * 1000)
            cpu += time.process_time() - spent
    figures |= {"p50_ms": statistics.median(waits), "cpu_ms": cpu * 1000 / len(waits)}
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main())
