"""Seconds to ground 2,000 leaves in a 1 MB text, beside rapidfuzz's alignment of the same leaves.

`python -m benchmarks.grounding [--kilobytes N] [--leaves N] [--peer-leaves N]`. The peer finds
each value, as text, with `rapidfuzz.fuzz.partial_ratio_alignment`; it is measured on a sample
and scaled up, since it costs about the same for every leaf. Both are also scored against where
the values were put. The ratio is peer seconds / our seconds.
"""

import argparse
import json
import os
import platform
import random
import time
from typing import Any

from babel.numbers import format_decimal

WORDS = ["parafuso", "porca", "arruela", "cabo", "motor", "filtro", "sensor", "eixo", "mola"]
COLUMNS = ("description", "quantity", "unit_price", "total")
Spans = dict[str, tuple[int, int]]


def order(kilobytes: int, leaves: int) -> tuple[str, dict[str, Any], Spans]:
    """A long order as text, the values extracted from it, and where each value stands."""
    chance = random.Random(7)
    lines: list[dict[str, Any]] = []
    parts: list[str] = []
    places: Spans = {}
    rows = leaves // len(COLUMNS)
    filler = max(0, kilobytes * 1000 // rows - 60)
    length = 0
    for row in range(rows):
        name = f"{' '.join(chance.choices(WORDS, k=3))} {chance.randrange(10**6):06d}"
        count, cents = chance.randint(1, 9), chance.randint(100, 999_999)
        line: dict[str, Any] = dict(
            zip(COLUMNS, (name, count, cents / 100, count * cents / 100), strict=True)
        )
        for column in COLUMNS:
            shown = name if column == "description" else format_decimal(line[column], locale="pt")
            places[f"/lines/{row}/{column}"] = (length, length + len(shown))
            parts.append(shown + ("\n" if column == "total" else "  "))
            length += len(parts[-1])
        parts.append(" ".join(chance.choices(WORDS, k=filler // 6)) + "\n")
        length += len(parts[-1])
        lines.append(line)
    return "".join(parts), {"lines": lines}, places


def ours(text: str, value: dict[str, Any]) -> tuple[float, Spans]:
    """Seconds, and the span of each proven leaf."""
    from rotina.grounding import ground

    started = time.perf_counter()
    fields = ground(value, text)
    seconds = time.perf_counter() - started
    return seconds, {f.path: (f.evidence.start, f.evidence.end) for f in fields if f.evidence}


def peer(text: str, value: dict[str, Any], sample: int) -> tuple[float, Spans]:
    """Seconds for `sample` leaves, and the span rapidfuzz aligns each to."""
    from rapidfuzz import fuzz

    paths = [(f"/lines/{i}/{c}", line[c]) for i, line in enumerate(value["lines"]) for c in line]
    spans: Spans = {}
    started = time.perf_counter()
    for path, leaf in random.Random(7).sample(paths, min(sample, len(paths))):
        aligned = fuzz.partial_ratio_alignment(str(leaf), text)
        if aligned is not None:
            spans[path] = (aligned.dest_start, aligned.dest_end)
    return time.perf_counter() - started, spans


def share_right(found: Spans, places: Spans, asked: int) -> float:
    """Share of the leaves asked for whose span is where the value was put."""
    return round(sum(places[path] == span for path, span in found.items()) / asked, 3)


def main() -> None:
    """Measure both and print; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kilobytes", type=int, default=1000)
    parser.add_argument("--leaves", type=int, default=2000)
    parser.add_argument("--peer-leaves", type=int, default=20)
    options = parser.parse_args()
    text, value, places = order(options.kilobytes, options.leaves)
    seconds, found = ours(text, value)
    peer_seconds, peer_found = peer(text, value, options.peer_leaves)
    peer_full = peer_seconds * len(places) / options.peer_leaves
    hardware = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{len(text):,} characters, {len(places):,} leaves; {hardware}")
    print(f"rotina     {seconds:8.2f} s")
    print(f"rapidfuzz  {peer_full:8.2f} s (scaled from {options.peer_leaves} leaves)")
    details = {
        "seconds": round(seconds, 3),
        "peer_seconds_scaled": round(peer_full, 3),
        "right_place": share_right(found, places, len(places)),
        "peer_right_place": share_right(peer_found, places, options.peer_leaves),
        "characters": len(text),
        "leaves": len(places),
        "hardware": hardware,
    }
    ratio = round(peer_full / seconds, 1)
    report = {"name": "grounding", "ratio": ratio, "goal": 1.0, "peer": "rapidfuzz"}
    print(json.dumps({**report, "details": details}))


if __name__ == "__main__":
    main()
