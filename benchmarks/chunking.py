"""Chunks: what a search over them finds of the characters that answer a question.

    python -m benchmarks.chunking --data DIR [--sweep]

Needs an embedding model (`rotina up` sets one). DIR holds `chroma_chunking/`: 472 questions on five
English corpora with the spans that answer them (Smith & Troynikov, "Evaluating Chunking Strategies
for Retrieval", Chroma, 2024). Its authors' measures, in characters as their program counts them:
of what the first five chunks hold, recall, precision and intersection over union (IoU). A large
chunk buys recall with precision; so there is also the share of the answer within the first 4,000
characters, which charges for what a reader is given.

Peer: RecursiveCharacterTextSplitter of langchain-text-splitters at the same size and overlap, with
the same search over its chunks. Searches: the embeddings alone, and both halves as the knowledge
base adds them up (BM25 as a share of the question, and the cosine). Sizes were chosen on two of
the corpora (*dev*); the other three are *test*. `--sweep` prints the sizes that were tried.
"""

import argparse
import asyncio
import hashlib
import json
import math
import os
import platform
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rotina.gateway import Gateway
from rotina.knowledge import Document, Weights, chunk
from rotina.knowledge.chunking import LIMIT, OVERLAP, with_context
from rotina.knowledge.words import fold
from rotina.settings import load_settings

DEV = ("finance", "chatlogs")
FIRST = 5
"""Chunks that count for recall, precision and IoU: the authors' default."""
BUDGET = 4000
"""Characters that a reader of search results is given."""
SWEEP = [
    (300, 0), (400, 0), (400, 100), (500, 0), (500, 75), (600, 0), (600, 50), (600, 100),
    (600, 150), (700, 0), (700, 100), (800, 0), (800, 150), (1000, 0), (1200, 200),
]  # fmt: skip
K1, B = 1.2, 0.75
Matrix = np.ndarray[tuple[int, int], np.dtype[np.float32]]
Span = tuple[int, int]


@dataclass(frozen=True)
class Asked:
    """A question, its corpus, and the spans that answer it."""

    text: str
    corpus: str
    gold: tuple[Span, ...]

    @property
    def part(self) -> str:
        """`dev` or `test`."""
        return "dev" if self.corpus in DEV else "test"


@dataclass(frozen=True)
class Piece:
    """A chunk of a corpus, and what is searched for it."""

    corpus: str
    start: int
    end: int
    searched: str


def read(folder: Path) -> tuple[dict[str, str], list[Asked]]:
    """The corpora by name, and the questions."""
    corpora = {p.stem: p.read_text("utf-8") for p in sorted((folder / "corpora").glob("*.md"))}
    asked = []
    for line in (folder / "questions.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        gold = tuple((each["start_index"], each["end_index"]) for each in row["references"])
        asked.append(Asked(row["question"], row["corpus_id"], gold))
    return corpora, asked


def ours(corpora: Mapping[str, str], limit: int, overlap: int) -> list[Piece]:
    """Rotina's chunks, under the headings above them."""
    found = []
    for name, text in corpora.items():
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        document = Document(name=name, media_type="text/markdown", sha256=sha256, text=text)
        for each in chunk(document, limit=limit, overlap=overlap):
            searched = with_context(each.context, each.text)
            found.append(Piece(name, each.start, each.end, searched))
    return found


def peers(corpora: Mapping[str, str], limit: int, overlap: int) -> list[Piece]:
    """The peer's chunks."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        chunk_size=limit, chunk_overlap=overlap, add_start_index=True
    )
    found = []
    for name, text in corpora.items():
        for each in splitter.create_documents([text]):
            start = each.metadata["start_index"]
            end = start + len(each.page_content)
            found.append(Piece(name, start, end, each.page_content))
    return found


class Words:
    """BM25 as the knowledge base scores it, without its stemming: a share of the question's idf."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(fold(text)) for text in texts]
        lengths = np.array([count.total() for count in counts])
        self._norm = K1 * (1 - B + B * lengths / lengths.mean())
        holds = Counter(word for count in counts for word in count)
        total = len(counts)
        self._idf = {w: math.log(1 + (total - n + 0.5) / (n + 0.5)) for w, n in holds.items()}
        self._most = math.log(1 + (total + 0.5) / 0.5)
        self._places: dict[str, list[tuple[int, int]]] = {}
        for place, count in enumerate(counts):
            for word, times in count.items():
                self._places.setdefault(word, []).append((place, times))

    def scores(self, question: str) -> Any:
        """One a text, in [0, 1)."""
        scores = np.zeros(len(self._norm))
        words = set(fold(question))
        for word in words:
            for place, times in self._places.get(word, ()):
                scores[place] += self._idf[word] * times / (times + self._norm[place])
        return scores / sum(self._idf.get(word, self._most) for word in words)


def overlap_of(spans: Sequence[Span], gold: Sequence[Span]) -> int:
    """Characters of `gold` that the spans hold."""
    return len(_characters(spans) & _characters(gold))


def _characters(spans: Sequence[Span]) -> set[int]:
    return {place for start, end in spans for place in range(start, end)}


def measure(ranked: Sequence[Piece], asked: Asked) -> dict[str, float]:
    """The authors' measures over the first chunks, and recall within the budget."""
    first = ranked[:FIRST]
    right = [(piece.start, piece.end) for piece in first if piece.corpus == asked.corpus]
    wanted = sum(end - start for start, end in asked.gold)
    found = overlap_of(right, asked.gold)
    shown = sum(piece.end - piece.start for piece in first)
    missed = len(_characters(asked.gold)) - found
    afforded = [(p.start, p.end) for p in _afforded(ranked) if p.corpus == asked.corpus]
    return {
        "recall": found / wanted,
        "precision": found / shown,
        "iou": found / (shown + missed),
        "recall@4000": overlap_of(afforded, asked.gold) / wanted,
    }


def _afforded(ranked: Sequence[Piece]) -> Iterator[Piece]:
    left = BUDGET
    for piece in ranked:
        left -= piece.end - piece.start
        if left < 0:
            return
        yield piece


Embed = Callable[[list[str]], Matrix]


def evaluate(
    pieces: Sequence[Piece], asked: Sequence[Asked], questions: Matrix, embed: Embed
) -> dict[str, dict[str, float]]:
    """Means by part and search."""
    cosines = questions @ embed([piece.searched for piece in pieces]).T
    words = Words([piece.searched for piece in pieces])
    weights = Weights()
    told: dict[str, list[dict[str, float]]] = {}
    for question, cosine in zip(asked, cosines, strict=True):
        fused = weights.text * words.scores(question.text) + weights.vectors * cosine
        for way, scores in (("vectors", cosine), ("fused", fused)):
            ranked = [pieces[i] for i in np.argsort(-scores, kind="stable")[:60]]
            told.setdefault(f"{question.part} {way}", []).append(measure(ranked, question))
    return {
        key: {name: round(statistics.mean(one[name] for one in rows), 4) for name in rows[0]}
        for key, rows in sorted(told.items())
    }


def run(folder: Path, embed: Embed, sizes: Sequence[Span]) -> dict[str, Any]:
    """Ratio and details; prints a line for each way as it goes."""
    corpora, asked = read(folder)
    questions = embed([each.text for each in asked])
    details: dict[str, Any] = {}
    for limit, overlap in sizes:
        for who, cut in (("ours", ours), ("peer", peers)):
            pieces = cut(corpora, limit, overlap)
            told = evaluate(pieces, asked, questions, embed)
            mean = round(statistics.mean(piece.end - piece.start for piece in pieces))
            details[f"{who} {limit}/{overlap}"] = {"chunks": len(pieces), "mean": mean, **told}
            for way, figures in told.items():
                shown = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
                print(f"{who} {limit:5}/{overlap:3} {len(pieces):5} x {mean:4} {way:13} {shown}")
    return details


async def with_gateway(folder: Path, sizes: Sequence[Span]) -> dict[str, Any]:
    """`run` with the route `embed`."""
    loop = asyncio.get_running_loop()
    async with Gateway(load_settings()) as gateway:

        def embed(texts: list[str]) -> Matrix:
            found = asyncio.run_coroutine_threadsafe(gateway.embed(texts), loop).result()
            matrix = np.array(found.vectors, dtype=np.float32)
            unit: Matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
            return unit

        return await asyncio.to_thread(run, folder, embed, sizes)


def main() -> None:
    """Measure and print; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sweep", action="store_true")
    options = parser.parse_args()
    sizes = sorted({(LIMIT, OVERLAP), *(SWEEP if options.sweep else ())})
    details = asyncio.run(with_gateway(options.data / "chroma_chunking", sizes))
    mine, theirs = (details[f"{who} {LIMIT}/{OVERLAP}"] for who in ("ours", "peer"))
    ratio = round(mine["test fused"]["iou"] / theirs["test fused"]["iou"], 3)
    hardware = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    report = {"name": "chunking", "ratio": ratio, "goal": 1.0}
    peer = "RecursiveCharacterTextSplitter"
    print(json.dumps({**report, "peer": peer, "details": {**details, "hardware": hardware}}))


if __name__ == "__main__":
    main()
