"""Accuracy of classification on public intent sets, beside logistic regression on embeddings.

    python -m benchmarks.classification --data DIR [--sets banking77,hwu64,clinc150]
        [--shots 10,full] [--model-sample N] [--project DIR]

DIR holds a folder a set with `train.jsonl` and `test.jsonl`, one {"text", "label"} a line, and for
clinc150 also `val.jsonl` and `oos_val.jsonl`. Needs the embedding model of the project's route
`embed` (`rotina up`); with `--model-sample` also the chat model, which gets those of N test
messages that the cheap path is not sure of.

The peer has the same examples and embeddings: scikit-learn's LogisticRegression(C=10). Ours also
reads the labels' names, as a user's declaration has them. Few-shot examples are drawn at random,
three times (hwu64 has its own `train_10.jsonl`). Out-of-scope recall is measured on clinc150's
validation part: at the threshold that the examples themselves gave, and where .925 of the texts
in scope are still labelled right.
"""

import argparse
import asyncio
import json
import math
import os
import platform
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotina.gateway import Gateway
from rotina.graphs.classification import Classification, Label, classify
from rotina.graphs.classification.head import Head, Prediction
from rotina.settings import load_settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

SETS = ("banking77", "hwu64", "clinc150")
FLOORS = {
    ("banking77", "10"): 0.803,
    ("banking77", "full"): 0.919,
    ("hwu64", "10"): 0.799,
    ("hwu64", "full"): 0.901,
    ("clinc150", "full"): 0.953,
}
"""Measured earlier with sentence embeddings and logistic regression."""
PEER_REGULARISATION = 10.0
IN_SCOPE = 0.925
DRAWS = 3
TIMED = 100
BINS = 10

Row = tuple[str, str]


class Vectors:
    """Embeddings of texts, each asked for once."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._known: dict[str, Any] = {}

    async def of(self, texts: Sequence[str]) -> "Matrix":
        """Shape (texts, dimensions)."""
        import numpy as np

        missing = list(dict.fromkeys(text for text in texts if text not in self._known))
        embedded = await self._gateway.embed(missing, timeout=3600)
        for text, vector in zip(missing, embedded.vectors, strict=True):
            self._known[text] = np.array(vector, dtype=np.float32)
        return np.array([self._known[text] for text in texts], dtype=np.float32)


@dataclass
class Figures:
    """What was measured for one set and one number of examples, the draws averaged."""

    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    calibration_error: list[float] = field(default_factory=list)
    training_seconds: list[float] = field(default_factory=list)
    milliseconds: float = 0.0
    out_of_scope: dict[str, float] = field(default_factory=dict)
    model: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Our accuracy over the peer's."""
        return statistics.mean(self.ours) / statistics.mean(self.peer)

    def details(self) -> dict[str, Any]:
        """Everything, rounded."""
        return {
            "ours": round(statistics.mean(self.ours), 4),
            "peer": round(statistics.mean(self.peer), 4),
            "calibration_error": round(statistics.mean(self.calibration_error), 4),
            "training_seconds": round(statistics.mean(self.training_seconds), 2),
            "ms_a_message": round(self.milliseconds, 2),
            **({"out_of_scope": self.out_of_scope} if self.out_of_scope else {}),
            **({"model": self.model} if self.model else {}),
        }


def rows_of(path: Path) -> list[Row]:
    """(text, label) pairs of a file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(one["text"], one["label"]) for one in map(json.loads, lines)]


def draws(folder: Path, shots: str) -> list[list[Row]]:
    """The training sets to measure with."""
    if shots == "full":
        return [rows_of(folder / "train.jsonl")]
    fixed = folder / f"train_{shots}.jsonl"
    if fixed.exists():
        return [rows_of(fixed)]
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows_of(folder / "train.jsonl"):
        grouped[row[1]].append(row)
    drawn = []
    for seed in range(DRAWS):
        chooser = random.Random(seed)
        drawn.append(
            [row for name in sorted(grouped) for row in chooser.sample(grouped[name], int(shots))]
        )
    return drawn


def declare(name: str, rows: Sequence[Row], policy: Any = "cheap") -> Classification:
    """The labels as a user would declare them: names and examples, no descriptions."""
    labels = [Label(label) for label in dict.fromkeys(label for _, label in rows)]
    return Classification(name, labels, policy=policy).with_examples(rows)


async def measure(
    folder: Path, shots: str, gateway: Gateway, vectors: Vectors, sample: int
) -> Figures:
    """One set, one number of examples."""
    figures = Figures()
    test = rows_of(folder / "test.jsonl")
    declaration = None
    for rows in draws(folder, shots):
        declaration = declare(folder.name, rows)
        head, seconds = await train(declaration, vectors)
        predictions = await ask_head(head, test, vectors)
        figures.training_seconds.append(seconds)
        figures.ours.append(accuracy(predictions, test))
        figures.calibration_error.append(calibration_error(predictions, test))
        peer = await Peer.train(rows, vectors)
        figures.peer.append(await peer.accuracy(test, vectors))
        if (folder / "oos_val.jsonl").exists() and not figures.out_of_scope:
            figures.out_of_scope = await out_of_scope(folder, head, peer, vectors)
    assert declaration is not None
    figures.milliseconds = await milliseconds(declaration, test, gateway)
    if sample:
        figures.model = await with_model(declaration, test, gateway, sample)
    return figures


async def train(declaration: Classification, vectors: Vectors) -> tuple[Head, float]:
    """The head, and the seconds that training took without embedding."""
    matrix = await vectors.of([text for text, _ in declaration.rows])
    begun = time.perf_counter()
    head = await asyncio.to_thread(Head.train, declaration, matrix)
    return head, time.perf_counter() - begun


async def ask_head(head: Head, rows: Sequence[Row], vectors: Vectors) -> list[Prediction]:
    """What the cheap path says about each row."""
    texts = [text for text, _ in rows]
    return head.predict(texts, await vectors.of(texts))


def accuracy(predictions: Sequence[Prediction], rows: Sequence[Row]) -> float:
    """Share of rows whose best label is the right one."""
    pairs = zip(predictions, rows, strict=True)
    return statistics.mean(one.ranking[0][0] == label for one, (_, label) in pairs)


def calibration_error(predictions: Sequence[Prediction], rows: Sequence[Row]) -> float:
    """Expected calibration error in ten bins of confidence."""
    bins: dict[int, list[float]] = defaultdict(list)
    for one, (_, label) in zip(predictions, rows, strict=True):
        best, score = one.ranking[0]
        bins[min(BINS - 1, int(score * BINS))].append((best == label) - score)
    return sum(abs(sum(gaps)) for gaps in bins.values()) / len(rows)


@dataclass
class Peer:
    """Plain logistic regression on the embeddings."""

    classifier: Any
    embeddings: Any

    @classmethod
    async def train(cls, rows: Sequence[Row], vectors: Vectors) -> "Peer":
        """On the same examples."""
        from sklearn.linear_model import LogisticRegression

        matrix = await vectors.of([text for text, _ in rows])
        regression = LogisticRegression(C=PEER_REGULARISATION, max_iter=1000)
        return cls(regression.fit(matrix, [label for _, label in rows]), matrix)

    async def accuracy(self, rows: Sequence[Row], vectors: Vectors) -> float:
        """Share of rows labelled right."""
        matrix = await vectors.of([text for text, _ in rows])
        return float((self.classifier.predict(matrix) == [label for _, label in rows]).mean())

    async def supports(
        self, rows: Sequence[Row], vectors: Vectors
    ) -> tuple[list[float], list[bool]]:
        """Probability × nearest similarity of each row, and whether it is labelled right."""
        matrix = await vectors.of([text for text, _ in rows])
        probability = self.classifier.predict_proba(matrix).max(axis=1)
        support = probability * (matrix @ self.embeddings.T).max(axis=1)
        right = self.classifier.predict(matrix) == [label for _, label in rows]
        return support.tolist(), right.tolist()


async def out_of_scope(folder: Path, head: Head, peer: Peer, vectors: Vectors) -> dict[str, float]:
    """How many texts of no label are noticed, and what that costs the others."""
    inside = rows_of(folder / "val.jsonl")
    outside = rows_of(folder / "oos_val.jsonl")
    predicted = await ask_head(head, inside, vectors)
    ours = [one.support for one in predicted]
    strange = [one.support for one in await ask_head(head, outside, vectors)]
    right = [one.ranking[0][0] == label for one, (_, label) in zip(predicted, inside, strict=True)]
    peers, peer_right = await peer.supports(inside, vectors)
    peers_strange, _ = await peer.supports(outside, vectors)
    own = Classification.rejected
    kept = [s > own and r for s, r in zip(ours, right, strict=True)]
    return {
        "recall_at_own_threshold": round(statistics.mean(s <= own for s in strange), 3),
        "in_scope_at_own_threshold": round(statistics.mean(kept), 3),
        "recall_at_.925": round(recall_at(ours, right, strange), 3),
        "peer_recall_at_.925": round(recall_at(peers, peer_right, peers_strange), 3),
    }


def recall_at(inside: Sequence[float], right: Sequence[bool], outside: Sequence[float]) -> float:
    """Out-of-scope recall at the highest threshold that keeps `IN_SCOPE` right; 0 if none does."""
    kept = sorted((s for s, r in zip(inside, right, strict=True) if r), reverse=True)
    needed = math.ceil(IN_SCOPE * len(inside))
    if needed > len(kept):
        return 0.0
    return statistics.mean(support < kept[needed - 1] for support in outside)


async def milliseconds(declaration: Classification, rows: Sequence[Row], gateway: Gateway) -> float:
    """Median wall time of `classify` on the cheap path, the embedding over HTTP included."""
    await classify(rows[0][0], declaration, gateway)  # trains
    taken = []
    for text, _ in random.Random(0).sample(list(rows), TIMED):
        begun = time.perf_counter()
        await classify(text, declaration, gateway)
        taken.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken)


async def with_model(
    declaration: Classification, rows: Sequence[Row], gateway: Gateway, sample: int
) -> dict[str, float]:
    """The cascade on a sample: what the model changes where the cheap path is not sure."""
    chosen = random.Random(0).sample(list(rows), sample)
    cascade = replace(declaration, policy="cascade")
    cheap_right, right, asked_cheap, asked_right, seconds = [], [], [], [], []
    for text, label in chosen:
        cheap = await classify(text, declaration, gateway)
        begun = time.perf_counter()
        result = await classify(text, cascade, gateway)
        cheap_right.append(cheap.label == label)
        right.append(result.label == label)
        if result.path == "model":
            seconds.append(time.perf_counter() - begun)
            asked_cheap.append(cheap_right[-1])
            asked_right.append(right[-1])
    return {
        "sample": sample,
        "cheap": round(statistics.mean(cheap_right), 3),
        "cascade": round(statistics.mean(right), 3),
        "asked": len(seconds),
        "asked_cheap": round(statistics.mean(asked_cheap or [0]), 3),
        "asked_model": round(statistics.mean(asked_right or [0]), 3),
        "seconds_asked": round(statistics.mean(seconds or [0]), 2),
    }


async def run(arguments: argparse.Namespace) -> dict[tuple[str, str], Figures]:
    """Measure everything asked for, telling each result as it comes."""
    settings = load_settings(arguments.project)
    found = {}
    async with Gateway(settings) as gateway:
        for name in arguments.sets.split(","):
            vectors = Vectors(gateway)
            for shots in arguments.shots.split(","):
                folder = arguments.data / name
                figures = await measure(folder, shots, gateway, vectors, arguments.model_sample)
                found[name, shots] = figures
                tell(name, shots, figures)
    return found


def tell(name: str, shots: str, figures: Figures) -> None:
    """One line of the table."""
    found = figures.details()
    floor = FLOORS.get((name, shots))
    print(
        f"{name:<10} {shots:>5}  ours {found['ours']:.3f}  peer {found['peer']:.3f}  "
        f"floor {floor or '–'}  calibration error {found['calibration_error']:.3f}  "
        f"training {found['training_seconds']:.1f} s  {found['ms_a_message']:.1f} ms a message",
        *(f"{key} {value}" for key, value in {**figures.out_of_scope, **figures.model}.items()),
        sep="  ",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--shots", default="10,full")
    parser.add_argument("--model-sample", type=int, default=0)
    parser.add_argument("--project", type=Path, default=Path.cwd())
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    found = asyncio.run(run(arguments))
    line = {
        "name": "classification",
        "ratio": round(statistics.mean(figures.ratio for figures in found.values()), 4),
        "goal": 1.0,
        "peer": "sentence embeddings + logistic regression, accuracy",
        "details": {f"{name} {shots}": one.details() for (name, shots), one in found.items()},
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
