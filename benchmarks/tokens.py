"""How far the estimate of tokens is off, and how long counting takes.

    python -m benchmarks.tokens [--data DIR] [--tokenizer tokenizer.json]

The texts are this repository's: documentation in English and Portuguese, JSON, Python. With
--data, those of DIR/en, DIR/pt, DIR/json, DIR/code instead. The peer is the rule of thumb of four
characters a token, on the same texts; the ratio is its mean absolute error over the estimate's.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from statistics import mean, quantiles

from rotina.gateway.tokens import ENCODINGS, Encoding, Estimate, FileTokenizer, Tokenizer

ROOT = Path(__file__).resolve().parents[1]
PIECE = 2000
"""Characters: a page."""


def repository() -> dict[str, list[str]]:
    """Texts by kind, in pages."""
    help_center = ROOT / "samples" / "help_center"
    locked = {"packages": (ROOT / "uv.lock").read_text(encoding="utf-8").split("\n\n")[:300]}
    found = {
        "en": [*(ROOT / "docs").rglob("*.md"), *(help_center / "en").glob("*.md")],
        "pt": [ROOT / "docs" / "tutorial.pt.md", *(help_center / "pt").glob("*.md")],
        "code": [*(ROOT / "src").rglob("*.py")],
    }
    texts = {kind: [p.read_text(encoding="utf-8") for p in paths] for kind, paths in found.items()}
    texts["en"] = [text for text in texts["en"] if text not in texts["pt"]]
    return {**texts, "json": [json.dumps(locked, ensure_ascii=False)]}


def folder(path: Path) -> dict[str, list[str]]:
    """The texts of its folders."""
    return {
        kind: [p.read_text(encoding="utf-8", errors="replace") for p in (path / kind).rglob("*.*")]
        for kind in ("en", "pt", "json", "code")
    }


def pages(texts: list[str]) -> list[str]:
    """Pieces of `PIECE` characters."""
    cut = [text[at : at + PIECE] for text in texts for at in range(0, len(text), PIECE)]
    return [piece for piece in cut if len(piece) >= PIECE // 4]


def off(guesses: list[int], counts: list[int]) -> dict[str, float]:
    """Of all together, and the middle 90 % of pages."""
    ratios = [guess / count for guess, count in zip(guesses, counts, strict=True)]
    cuts = quantiles(ratios, n=20) if len(ratios) > 1 else [ratios[0]] * 19
    return {
        "all": round(sum(guesses) / sum(counts), 2),
        "p5": round(cuts[0], 2),
        "p95": round(cuts[-1], 2),
        "highest_miss": round(1 / min(ratios), 2),
        "error": round(mean(abs(ratio - 1) for ratio in ratios), 3),
    }


def _shown(found: dict[str, float]) -> str:
    spread = f"5–95 %: {found['p5']:.2f}–{found['p95']:.2f}"
    return f"{found['all']:.2f} ({spread}; at worst 1/{found['highest_miss']:.2f})"


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tokenizer", type=Path, action="append", default=[])
    given = parser.parse_args()
    known: list[Tokenizer] = [Encoding(name) for name in ENCODINGS[:2]]
    known += [FileTokenizer(path) for path in given.tokenizer]
    corpora = folder(given.data) if given.data else repository()
    estimate, ours, theirs = Estimate(), list[float](), list[float]()
    details: dict[str, object] = {"machine": platform.processor() or platform.machine()}
    for kind, texts in corpora.items():
        pieces = pages(texts)
        for tokenizer in known:
            tokenizer.count("loaded")
            started = time.perf_counter()
            counts = [tokenizer.count(piece) for piece in pieces]
            seconds = time.perf_counter() - started
            found = off([estimate.count(piece) for piece in pieces], counts)
            thumb = off([max(1, len(piece) // 4) for piece in pieces], counts)
            ours.append(found["error"])
            theirs.append(thumb["error"])
            speed = sum(map(len, pieces)) / seconds / 1e6
            print(
                f"{kind:5}{tokenizer.name:13}{len(pieces):5} pages; "
                f"estimate/count {_shown(found)}; characters/4 {_shown(thumb)}; "
                f"counting {speed:.0f} MB/s"
            )
            details[f"{kind} {tokenizer.name}"] = found
    ratio = round(mean(theirs) / mean(ours), 2)
    peer = "four characters a token"
    print(
        json.dumps(
            {"name": "tokens", "ratio": ratio, "goal": 1.0, "peer": peer, "details": details}
        )
    )


if __name__ == "__main__":
    main()
