"""Retrieval quality of the knowledge base: fused search against words alone and vectors alone.

    python -m benchmarks.retrieval --data DIR [--set faquad|chunking]

Needs DATABASE_URL and an embedding model (`rotina up` sets both). DIR holds any of:

- `faquad/dev.jsonl`: questions on Brazilian university rules, each with its passage. A passage is
  a document; the question's own is the only right one. Documents are split into halves by title:
  `dev`, on which the defaults were chosen, and `test`.
- `chroma_chunking/`: questions with the characters that answer them. Counts the share of those
  characters in the first 4,000 characters that a search returns.

Peers of the same run: an independent BM25 (Lucene's formula, lower-cased words, whole passages),
and the same embeddings of whole passages, compared without an index. `rank fusion` merges the
first two ways by rank instead of score.
"""

import argparse
import asyncio
import hashlib
import json
import math
import os
import platform
import re
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from rotina.database import open_pool
from rotina.gateway import Gateway
from rotina.knowledge import Document, KnowledgeBase, Passage, Weights
from rotina.settings import load_settings

WAYS = {"text": Weights(vectors=0), "vectors": Weights(text=0), "fused": Weights()}
DEEP = 60
"""Chunks asked for, of which the best of each document counts."""
BUDGET = 4000
"""Characters that a reader of search results is given."""


@dataclass(frozen=True)
class Asked:
    """A question and the document that answers it."""

    text: str
    gold: str
    half: str


def faquad(folder: Path) -> tuple[dict[str, str], list[Asked]]:
    """Passages by name, and the questions."""
    lines = (folder / "faquad" / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    names = {
        text: f"passage-{n}" for n, text in enumerate(dict.fromkeys(r["context"] for r in rows))
    }
    asked = [Asked(row["question"], names[row["context"]], _half(row["title"])) for row in rows]
    return {name: text for text, name in names.items()}, asked


def _half(title: str) -> str:
    return "dev" if int(hashlib.sha256(title.encode()).hexdigest(), 16) % 2 == 0 else "test"


def bm25(
    passages: Mapping[str, str], k1: float = 1.2, b: float = 0.75
) -> Callable[[str], list[str]]:
    """The peer: names of the ten best passages for a question."""
    counts = {name: Counter(re.findall(r"\w+", text.lower())) for name, text in passages.items()}
    lengths = {name: sum(count.values()) for name, count in counts.items()}
    mean = statistics.mean(lengths.values())
    holds = Counter(word for count in counts.values() for word in count)
    total = len(counts)

    def rank(question: str) -> list[str]:
        scores: dict[str, float] = defaultdict(float)
        for word in set(re.findall(r"\w+", question.lower())):
            idf = math.log(1 + (total - holds[word] + 0.5) / (holds[word] + 0.5))
            for name, count in counts.items():
                if count[word]:
                    norm = k1 * (1 - b + b * lengths[name] / mean)
                    scores[name] += idf * count[word] / (count[word] + norm)
        return sorted(scores, key=lambda name: -scores[name])[:10]

    return rank


async def embeddings_alone(
    gateway: Gateway, passages: Mapping[str, str], asked: Sequence[Asked]
) -> list[list[str]]:
    """The other peer: whole passages by cosine."""
    import numpy as np

    async def embed(texts: list[str]) -> Any:
        matrix = np.array((await gateway.embed(texts)).vectors)
        return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)

    names = list(passages)
    cosine = (await embed([a.text for a in asked])) @ (await embed(list(passages.values()))).T
    return [[names[i] for i in row[:10]] for row in np.argsort(-cosine, axis=1)]


def figures(ranked: Sequence[Sequence[str]], asked: Sequence[Asked], half: str) -> dict[str, float]:
    """nDCG@10 and recall@k of the one right document."""
    places = [
        names.index(a.gold) if a.gold in names else None
        for names, a in zip(ranked, asked, strict=True)
        if half in (a.half, "all")
    ]
    gains = [0.0 if place is None else 1 / math.log2(place + 2) for place in places]
    told = {"ndcg@10": statistics.mean(gains)}
    for k in (1, 5, 10):
        told[f"recall@{k}"] = statistics.mean(place is not None and place < k for place in places)
    return {name: round(value, 4) for name, value in told.items()}


@asynccontextmanager
async def collection_of(
    texts: Mapping[str, str],
) -> AsyncIterator[tuple[KnowledgeBase, Gateway, str]]:
    """A collection of these documents, deleted afterwards."""
    settings = load_settings()
    name = f"benchmark-{uuid4().hex[:12]}"
    async with (
        open_pool(settings.require_database_url()) as pool,
        Gateway(settings) as gateway,
    ):
        knowledge = KnowledgeBase(pool, gateway, settings.tenant)
        await knowledge.create(name)
        try:
            for uri, text in texts.items():
                sha256 = hashlib.sha256(text.encode()).hexdigest()
                document = Document(name=uri, media_type="text/plain", sha256=sha256, text=text)
                await knowledge.add(name, document)
            yield knowledge, gateway, name
        finally:
            await knowledge.delete(name)


def fused_by_rank(*lists: Sequence[Passage], k: int = 60) -> list[Passage]:
    """Reciprocal rank fusion with equal weights (Cormack, Clarke & Buettcher, 2009)."""
    scores: dict[Any, float] = defaultdict(float)
    found: dict[Any, Passage] = {}
    for passages in lists:
        for rank, passage in enumerate(passages, 1):
            scores[passage.chunk_id] += 1 / (k + rank)
            found[passage.chunk_id] = passage
    return sorted(found.values(), key=lambda passage: -scores[passage.chunk_id])


def first_of_each(passages: Sequence[Passage]) -> list[str]:
    """Documents by their best chunk."""
    return list(dict.fromkeys(passage.document for passage in passages))[:10]


async def run_faquad(folder: Path) -> dict[str, Any]:
    """Ratio and details."""
    passages, asked = faquad(folder)
    halves: dict[str, list[list[Passage]]] = {}
    milliseconds: dict[str, float] = {}
    async with collection_of(passages) as (knowledge, gateway, name):
        for way, weights in WAYS.items():
            taken, halves[way] = [], []
            for question in asked:
                started = time.perf_counter()
                found = await knowledge.search(name, question.text, k=DEEP, weights=weights)
                taken.append(time.perf_counter() - started)
                halves[way].append(found)
            milliseconds[way] = round(1000 * statistics.median(taken), 1)
        ranked = {way: [first_of_each(found) for found in lists] for way, lists in halves.items()}
        ranked["rank fusion"] = [
            first_of_each(fused_by_rank(*both))
            for both in zip(halves["text"], halves["vectors"], strict=True)
        ]
        ranked["peer embeddings"] = await embeddings_alone(gateway, passages, asked)
        chunks = (await knowledge.stats(name)).chunks
    peer = bm25(passages)
    ranked["peer bm25"] = [peer(question.text) for question in asked]
    details: dict[str, Any] = {
        half: {way: figures(names, asked, half) for way, names in ranked.items()}
        for half in ("dev", "test", "all")
    }
    for half, ways in details.items():
        for way, told in ways.items():
            print(f"{half:5} {way:16} " + "  ".join(f"{k} {v:.3f}" for k, v in told.items()))
    whole = details["all"]
    ratio = whole["fused"]["ndcg@10"] / whole["peer bm25"]["ndcg@10"]
    size = {"documents": len(passages), "questions": len(asked), "chunks": chunks}
    return {"ratio": round(ratio, 3), "peer": "BM25", **size, "ms": milliseconds, **details}


async def run_chunking(folder: Path) -> dict[str, Any]:
    """Share of the answering characters among the first 4,000 that a search returns."""
    corpora = {
        path.stem: path.read_text(encoding="utf-8")
        for path in sorted((folder / "chroma_chunking" / "corpora").glob("*.md"))
    }
    lines = (folder / "chroma_chunking" / "questions.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    told: dict[str, float] = {}
    async with collection_of(corpora) as (knowledge, _, name):
        chunks = (await knowledge.stats(name)).chunks
        for way, weights in WAYS.items():
            shares = []
            for row in rows:
                found = await knowledge.search(name, row["question"], k=30, weights=weights)
                shares.append(share_found(found, row["corpus_id"], row["references"]))
            told[way] = round(statistics.mean(shares), 4)
            print(f"{way:8} {told[way]:.3f}")
    ratio = round(told["fused"] / told["text"], 3)
    return {"ratio": ratio, "peer": "text alone", "chunks": chunks, **told}


def share_found(found: Sequence[Passage], corpus: str, gold: Sequence[Mapping[str, Any]]) -> float:
    """Of the characters that answer, those within the budget."""
    wanted = {i for span in gold for i in range(span["start_index"], span["end_index"])}
    seen: set[int] = set()
    left = BUDGET
    for passage in found:
        left -= passage.end - passage.start
        if left < 0:
            break
        if passage.document == corpus:
            seen |= wanted.intersection(range(passage.start, passage.end))
    return len(seen) / len(wanted)


def main() -> None:
    """Measure and print; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=("faquad", "chunking"), default="faquad")
    options = parser.parse_args()
    measure = {"faquad": run_faquad, "chunking": run_chunking}[options.set]
    told = asyncio.run(measure(options.data))
    hardware = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    report = {"name": f"retrieval-{options.set}", "ratio": told.pop("ratio"), "goal": 1.0}
    details = {**told, "hardware": hardware}
    print(json.dumps({**report, "peer": details.pop("peer"), "details": details}))


if __name__ == "__main__":
    main()
