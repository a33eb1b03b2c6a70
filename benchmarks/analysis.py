"""Topics, labels, anomalies and near copies in labelled questions, against TF-IDF.

    python -m benchmarks.analysis --data DIR

Needs a route `embed` (`rotina up`, or a deployment of an embedding model). DIR holds
`banking77/` and `hwu64/` (train.jsonl and test.jsonl with `text` and `label`) and `clinc150/`
(val.jsonl, and oos_val.jsonl with questions that fit none of its labels).

Peers, in the same run: for topics, plain k-means on TF-IDF; for labels, the most frequent label
and the same five neighbours on TF-IDF; for anomalies, scikit-learn's local outlier factor and
isolation forest on the same embeddings; for near copies, the same threshold on TF-IDF.
"""

import argparse
import asyncio
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
    roc_auc_score,
)
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor

from rotina.gateway import Gateway
from rotina.knowledge.analysis import (
    Rows,
    anomalies,
    classify,
    cluster,
    diversity,
    file_rows,
)
from rotina.settings import load_settings

SEED = 0
COPIES = 150
NEAR = 0.9


def topics(rows: Rows) -> dict[str, float]:
    """Agreement with the labels, their number given."""
    gold = gold_labels(rows)
    k = len(set(gold))
    started = time.perf_counter()
    ours = cluster(rows.matrix, rows.texts, k=k, seed=SEED).labels
    seconds = time.perf_counter() - started
    table = TfidfVectorizer(sublinear_tf=True).fit_transform(rows.texts)
    peer = KMeans(k, n_init=4, random_state=SEED).fit_predict(table)
    return {
        "nmi": normalized_mutual_info_score(gold, ours),
        "nmi_tfidf": normalized_mutual_info_score(gold, peer),
        "rand": adjusted_rand_score(gold, ours),
        "rand_tfidf": adjusted_rand_score(gold, peer),
        "k": k,
        "seconds": seconds,
    }


def labels(train: Rows, test: Rows) -> dict[str, float]:
    """Accuracy of the five nearest neighbours."""
    known, gold = gold_labels(train), gold_labels(test)
    started = time.perf_counter()
    found = classify(test.matrix, train.matrix, known)
    seconds = time.perf_counter() - started
    table = TfidfVectorizer(sublinear_tf=True).fit(train.texts)
    peer = KNeighborsClassifier(5, weights="distance", metric="cosine")
    peer.fit(table.transform(train.texts), known)
    common = Counter(known).most_common(1)[0][0]
    return {
        "accuracy": _share([each.label for each in found], gold),
        "accuracy_tfidf": _share(peer.predict(table.transform(test.texts)), gold),
        "accuracy_majority": _share([common] * len(gold), gold),
        "seconds": seconds,
    }


def odd_ones(usual: Rows, odd: Rows) -> dict[str, float]:
    """How well the scores separate questions that fit no label, mixed into those that do."""
    matrix = np.concatenate([usual.matrix, odd.matrix])
    is_odd = np.arange(len(matrix)) >= len(usual)
    started = time.perf_counter()
    found = anomalies(matrix)
    seconds = time.perf_counter() - started
    outlier = LocalOutlierFactor(n_neighbors=20, metric="cosine").fit(matrix)
    forest = IsolationForest(random_state=SEED).fit(matrix)
    caught = sum(is_odd[each.row] for each in found.found)
    return {
        "auc": roc_auc_score(is_odd, found.scores),
        "auc_lof": roc_auc_score(is_odd, -outlier.negative_outlier_factor_),
        "auc_forest": roc_auc_score(is_odd, -forest.score_samples(matrix)),
        "odd": len(odd),
        "usual": len(usual),
        "stand_out": len(found.found),
        "stand_out_odd": int(caught),
        "seconds": seconds,
    }


def edited(text: str, number: int) -> str:
    """A near copy: other case and punctuation, a doubled letter, or a polite word in front."""
    match number % 3:
        case 0:
            return text.upper().rstrip(".?!")
        case 1:
            middle = len(text) // 2
            return text[:middle] + text[middle : middle + 1] + text[middle:]
        case _:
            return f"Please, {text[:1].lower()}{text[1:]}"


def near_copies(rows: Rows, copies: Rows) -> dict[str, float]:
    """Share of the planted copies found, and how many other pairs are as similar."""
    matrix = np.concatenate([rows.matrix, copies.matrix])
    started = time.perf_counter()
    ours = diversity(matrix, near=NEAR, most=100_000)
    seconds = time.perf_counter() - started
    table = TfidfVectorizer(sublinear_tf=True).fit_transform([*rows.texts, *copies.texts])
    peer = diversity(table.toarray(), near=NEAR, most=100_000)
    planted = {(row, len(rows) + row) for row in range(len(copies))}
    found = {(pair.first, pair.second) for pair in ours.pairs}
    peers = {(pair.first, pair.second) for pair in peer.pairs}
    return {
        "recall": len(planted & found) / len(planted),
        "recall_tfidf": len(planted & peers) / len(planted),
        "other_pairs": len(found - planted),
        "other_pairs_tfidf": len(peers - planted),
        "vendi": ours.vendi,
        "seconds": seconds,
    }


def gold_labels(rows: Rows) -> list[str]:
    """The rows' labels, all of which are given."""
    found = [label for label in rows.labels if label is not None]
    assert len(found) == len(rows)
    return found


def _share(found: Sequence[Any], gold: Sequence[str]) -> float:
    return sum(bool(a == b) for a, b in zip(found, gold, strict=True)) / len(gold)


async def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Everything, printed as it goes."""
    details: dict[str, dict[str, float]] = {}

    def tell(name: str, figures: dict[str, float]) -> None:
        details[name] = {key: round(float(value), 3) for key, value in figures.items()}
        print(f"{name:20} {details[name]}", flush=True)

    async with Gateway(load_settings()) as gateway:
        for name in ("banking77", "hwu64"):
            train = await file_rows(folder / name / "train.jsonl", gateway)
            test = await file_rows(folder / name / "test.jsonl", gateway)
            tell(f"{name} topics", topics(test))
            tell(f"{name} labels", labels(train, test))
        usual = await file_rows(folder / "clinc150" / "val.jsonl", gateway)
        odd = await file_rows(folder / "clinc150" / "oos_val.jsonl", gateway)
        tell("clinc150 anomalies", odd_ones(usual, odd))
        vectors = await gateway.embed(
            [edited(text, number) for number, text in enumerate(usual.texts[:COPIES])]
        )
        copies = Rows(
            usual.ids[:COPIES],
            [edited(text, number) for number, text in enumerate(usual.texts[:COPIES])],
            usual.labels[:COPIES],
            np.asarray(vectors.vectors, dtype=np.float32),
        )
        tell("clinc150 copies", near_copies(usual, copies))
    return details


def main() -> None:
    """Measure, print, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    details = asyncio.run(measure(parser.parse_args().data))
    first = details["banking77 topics"]
    print(f"hardware: {os.cpu_count()} cores, {platform.machine()}, {platform.system()}")
    line = {
        "name": "analysis",
        "ratio": round(first["nmi"] / first["nmi_tfidf"], 3),
        "goal": 1.0,
        "peer": "k-means on TF-IDF, normalised mutual information on banking77",
        "details": details,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
