"""How fast a sentence-transformers model is on one thread of the embedding server, beside itself.

    python -m benchmarks.embedding --data DIR [--texts 256] [--rounds 7]

The model is all-MiniLM-L6-v2, the texts are questions of DIR/banking77 (English) and DIR/faquad
(Portuguese), half each. Ours is `SentenceEncoder`, in this process; the peer is
sentence-transformers with torch, in one of its own; both on one thread, in turn, round by round.
Printed beside them: the same weights quantised to 8 bits by onnxruntime, wholly and without the
matrices after the activation, and OpenVINO.

The last line is one JSON object; `ratio` is the median over rounds of the peer's seconds over ours,
of the fastest of our ways whose every vector has a cosine of at least .995 with the peer's.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks import peers
from rotina.embedded.sentence_encoder import SentenceEncoder
from rotina.embedded.sentence_model import read_model

PEER = "sentence-transformers"
OURS = {"ours": "fp32", "ours, int8": "int8", "ours, int8 in part": "int8-part"}
COSINE = 0.995
GOAL = 2.5
Seconds = tuple[float, float]
"""By the wall, and of the processor."""


def read(folder: Path, count: int) -> list[str]:
    """Half of the texts of each set."""
    sets = (("banking77/test.jsonl", "text"), ("faquad/dev.jsonl", "question"))
    found = []
    for name, field in sets:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        texts = [json.loads(line)[field] for line in lines]
        found += texts[:: max(1, len(texts) // (count // 2))][: count // 2]
    return found


class Peer:
    """The other process."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._folder = folder
        self._asks: IO[str] = process.stdin
        self._answers: IO[str] = process.stdout

    def wait(self) -> None:
        """Until it is ready."""
        while (line := self._answers.readline()) != "ready\n":
            if not line:
                raise SystemExit("the peer's process has ended")

    def time(self, way: str) -> Seconds:
        """What embedding all texts takes."""
        print(way, file=self._asks, flush=True)
        wall, processor = json.loads(self._answers.readline())
        return wall, processor

    def vectors(self, way: str) -> Any:
        """Of the last round, of length 1."""
        found = np.load(self._folder / f"{way}.npy")
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def measure(peer: Peer, folder: Path, texts: list[str], rounds: int) -> dict[str, Any]:
    """Figures by way; every round asks each way once."""
    encoders = {way: SentenceEncoder(read_model(folder / name)) for way, name in OURS.items()}
    vectors: dict[str, Any] = {}

    def ours(way: str) -> Seconds:
        wall, processor = time.perf_counter(), time.process_time()
        vectors[way] = np.stack(encoders[way].encode(texts))
        return time.perf_counter() - wall, time.process_time() - processor

    ways: dict[str, Callable[[str], Seconds]] = {
        PEER: peer.time, **dict.fromkeys(OURS, ours), "openvino": peer.time,
    }  # fmt: skip
    for way, embed in ways.items():
        embed(way)  # warm
    told = [{way: embed(way) for way, embed in ways.items()} for _ in range(rounds)]
    truth = peer.vectors(PEER)
    vectors["openvino"], vectors[PEER] = peer.vectors("openvino"), truth
    return {way: _figures(way, told, vectors[way], truth) for way in ways}


def _figures(way: str, told: list[dict[str, Seconds]], vectors: Any, truth: Any) -> dict[str, Any]:
    wall, processor = (
        statistics.median(one[PEER][kind] / one[way][kind] for one in told) for kind in (0, 1)
    )
    seconds = statistics.median(one[way][0] for one in told)
    cosines = (vectors * truth).sum(axis=1)
    return {
        "per_s": round(len(truth) / seconds),
        "ratio": round(wall, 2),
        "processor_ratio": round(processor, 2),
        "least_cosine": round(float(cosines.min()), 4),
    }


def main() -> None:
    """Measure and print; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    interpreter = peers.python("embedding", pip=True)
    if interpreter is None:
        raise SystemExit("without the peer there is nothing to compare")
    texts = read(options.data, options.texts)
    client = Path(__file__).parent / "peers" / "embedding_client.py"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        command = [str(interpreter), str(client), name]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        ) as process:  # fmt: skip
            peer = Peer(process, folder)
            peer.wait()
            details = measure(peer, folder, texts, options.rounds)
    for way, figures in details.items():
        print(f"{way:22} " + "  ".join(f"{key} {value}" for key, value in figures.items()))
    good = [details[way] for way in OURS if details[way]["least_cosine"] >= COSINE]
    ratio = max((each["ratio"] for each in good), default=0.0)
    hardware = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    report = {"name": "embedding", "ratio": ratio, "goal": GOAL, "peer": PEER}
    print(json.dumps({**report, "details": {**details, "hardware": hardware}}))


if __name__ == "__main__":
    main()
