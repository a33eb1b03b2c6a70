"""Answers with citations: how many are given, how many are right, how many should not be given.

    python -m benchmarks.answers --data DIR [--limit 20] [--seed 1] [--verbose]

Needs a chat model (`rotina up`, or a model URL); no database. DIR holds `faquad/dev.jsonl`
(FaQuAD: questions in Portuguese on university rules, each with its paragraph and its answers).
Each question is asked twice: with its paragraph among two others of the same text, in random
order, and with three paragraphs that hold none of its answers. Every citation is checked here
again, against the paragraph's own text.

The peer, measured in the same run, is the sentence of the same paragraphs that shares the rarest
words with the question. It always answers.
"""

import argparse
import asyncio
import json
import math
import platform
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from rotina.gateway import Gateway
from rotina.graphs.answering import Answer, answer
from rotina.grounding import Source, find
from rotina.knowledge import Passage
from rotina.settings import load_settings

GOAL = 1.0
PASSAGES = 3


@dataclass(frozen=True)
class Question:
    """A question, the paragraph that answers it, and paragraphs that do not."""

    text: str
    gold: list[str]
    paragraph: str
    others: list[str]


@dataclass
class Tally:
    """What came of the questions asked."""

    asked: int = 0
    answered: int = 0
    right: int = 0
    peer_right: int = 0
    other_asked: int = 0
    other_answered: int = 0
    other_claimed: int = 0
    shown: int = 0
    valid: int = 0
    dropped: int = 0
    seconds: list[float] = field(default_factory=list)


def questions(path: Path, limit: int, choice: random.Random) -> Iterator[Question]:
    """A sample of FaQuAD with at least three paragraphs to choose among."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    by_title: dict[str, set[str]] = {}
    for row in rows:
        by_title.setdefault(row["title"], set()).add(row["context"])
    everything = sorted({row["context"] for row in rows})
    choice.shuffle(rows)
    for row in rows[:limit]:
        near = sorted(by_title[row["title"]] - {row["context"]})
        far = sorted(set(everything) - set(near) - {row["context"]})
        pool = choice.sample(near, len(near)) + choice.sample(far, PASSAGES)
        others = [each for each in pool if not _holds(each, row["answers"])][:PASSAGES]
        yield Question(row["question"], row["answers"], row["context"], others)


def _holds(text: str, answers: Sequence[str]) -> bool:
    source = Source(text)
    return any(find(gold, source) for gold in answers)


def passages(texts: Sequence[str]) -> list[Passage]:
    """Paragraphs as a search would return them."""
    return [
        Passage(
            chunk_id=uuid4(),
            document_id=uuid4(),
            collection="faquad",
            document=f"paragraph-{number}",
            title=None,
            text=text,
            start=0,
            end=len(text),
            page=None,
            score=1.0,
            metadata={},
        )
        for number, text in enumerate(texts)
    ]


def peer(question: str, texts: Sequence[str]) -> str:
    """The sentence that shares the most, and the rarest, words with the question."""
    sentences = [each for text in texts for each in re.split(r"(?<=[.;!?])\s+", text) if each]
    words = [set(re.findall(r"\w+", each.lower())) for each in sentences]
    frequency = Counter(word for each in words for word in each)
    wanted = set(re.findall(r"\w+", question.lower()))
    scores = [
        sum(math.log(1 + len(words) / frequency[word]) for word in each & wanted) for each in words
    ]
    return sentences[scores.index(max(scores))]


async def measure(gateway: Gateway, question: Question, choice: random.Random) -> dict[str, Any]:
    """Both answers to one question."""
    texts = [question.paragraph, *question.others[: PASSAGES - 1]]
    choice.shuffle(texts)
    started = time.perf_counter()
    given = passages(texts)
    found = await answer(question.text, given, gateway, language="pt")
    seconds = time.perf_counter() - started
    other = await answer(question.text, passages(question.others), gateway, language="pt")
    return {
        "question": question.text,
        "gold": question.gold,
        "found": found,
        "valid": valid(found, given),
        "other": other,
        "peer": peer(question.text, texts),
        "seconds": seconds,
    }


def valid(found: Answer, given: Sequence[Passage]) -> int:
    """Sentences all of whose citations are characters of their document, counted anew."""
    texts = {passage.chunk_id: passage.text for passage in given}
    return sum(
        bool(sentence.citations)
        and all(texts[c.chunk_id][c.start : c.end] == c.quote for c in sentence.citations)
        for sentence in found.sentences
    )


def count(tally: Tally, result: dict[str, Any]) -> None:
    """Add one question to the tally."""
    found, other, gold = result["found"], result["other"], result["gold"]
    proof = " | ".join([found.text, *(citation.quote for citation in found.citations)])
    tally.asked += 1
    tally.answered += found.status == "answered"
    tally.right += found.status == "answered" and _holds(proof, gold)
    tally.peer_right += _holds(result["peer"], gold)
    tally.other_asked += 1
    tally.other_answered += other.status == "answered"
    tally.other_claimed += bool(other.sentences or other.dropped)
    tally.shown += len(found.sentences)
    tally.valid += result["valid"]
    tally.dropped += len(found.dropped)
    tally.seconds.append(result["seconds"])


def report(tally: Tally) -> None:
    """The figures, and the JSON line."""
    claimed = tally.shown + tally.dropped
    details = {
        "questions": tally.asked,
        "answered": tally.answered / tally.asked,
        "right": tally.right / tally.asked,
        "right_of_answered": tally.right / max(1, tally.answered),
        "peer_right": tally.peer_right / tally.asked,
        "shown_sentences_with_valid_citation": tally.valid / max(1, tally.shown),
        "model_sentences_with_valid_citation": tally.shown / max(1, claimed),
        "abstained_on_other_paragraphs": 1 - tally.other_answered / tally.other_asked,
        "abstained_without_the_check": 1 - tally.other_claimed / tally.other_asked,
        "seconds_median": statistics.median(tally.seconds),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
    for name, value in details.items():
        print(f"{name:40} {value:.3f}" if isinstance(value, float) else f"{name:40} {value}")
    shown = {name: round(v, 3) if isinstance(v, float) else v for name, v in details.items()}
    ratio = round(tally.right / max(1, tally.peer_right), 3)
    line = {"name": "answers", "ratio": ratio, "goal": GOAL}
    print(json.dumps({**line, "peer": "nearest sentence by rare words", "details": shown}))


async def run(data: Path, limit: int, seed: int, *, verbose: bool) -> None:
    """Ask, count, report."""
    choice = random.Random(seed)
    tally = Tally()
    async with Gateway(load_settings()) as gateway:
        for question in questions(data / "faquad" / "dev.jsonl", limit, choice):
            result = await measure(gateway, question, choice)
            count(tally, result)
            if verbose:
                found, other = result["found"], result["other"]
                print(f"- {question.text}\n  gold: {question.gold}\n  {found.status}: {found.text}")
                print(f"  quotes: {[c.quote for c in found.citations]} dropped: {found.dropped}")
                print(f"  elsewhere {other.status}: {other.text} dropped: {other.dropped}")
            print(f"{tally.asked}/{limit} {result['seconds']:.1f} s", flush=True)
    report(tally)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    asyncio.run(run(given.data, given.limit, given.seed, verbose=given.verbose))


if __name__ == "__main__":
    main()
