"""Sentences of a summary stand or fall by the facts of the source."""

from collections.abc import Sequence

import pytest

from rotina.graphs.language import Language
from rotina.graphs.splitting import split
from rotina.graphs.summary.condensing import batches, latest, thinned
from rotina.graphs.summary.proof import Proof
from rotina.graphs.summary.state import Note, Notes
from rotina.graphs.summary.summary import FlaggedSentence, SummarySentence

REPORT = (
    "O mercado reabriu em 4 de maio de 2024, depois de obras de R$ 3,2 milhões.\n\n"
    "Tem 86 bancas, 12 a menos que antes. 😀 Os comerciantes reclamam do aluguel."
)


def checked(
    text: str, *quotes: str, spoken: Language = "pt", source: str = REPORT, limit: int = 4000
) -> SummarySentence | FlaggedSentence:
    proof = Proof(source, split(source, [], limit), "pt")
    return proof.check({"text": text, "quotes": list(quotes)}, spoken)


def test_a_sentence_has_the_place_of_its_quote() -> None:
    kept = checked("O mercado voltou a abrir em 04/05/2024.", "reabriu em 4 de maio de 2024")
    assert isinstance(kept, SummarySentence)
    (place,) = kept.evidence
    assert place.quote == "reabriu em 4 de maio de 2024" == REPORT[place.start : place.end]


@pytest.mark.parametrize("limit", [4000, 60, 20])
def test_places_are_counted_in_the_whole_source(limit: int) -> None:
    kept = checked("Os comerciantes reclamam.", "comerciantes reclamam", limit=limit)
    assert isinstance(kept, SummarySentence)
    assert kept.supported == bool(kept.evidence)
    for place in kept.evidence:
        assert REPORT[place.start : place.end] == place.quote == "comerciantes reclamam"


@pytest.mark.parametrize(
    ("text", "spoken", "missing"),
    [
        ("Tem 87 bancas.", "pt", ["87"]),
        ("Reabriu em 5 de maio de 2024.", "pt", ["5 de maio de 2024"]),
        ("It cost 3.2 billion reais.", "en", ["3.2 billion"]),
        ("It cost US$ 3.2 million.", "en", ["3.2 million"]),
        ("Com 86 bancas e 15% de alta.", "pt", ["15"]),
    ],
)
def test_what_the_source_does_not_state_is_flagged(
    text: str, spoken: Language, missing: list[str]
) -> None:
    flagged = checked(text, "reabriu em 4 de maio de 2024", spoken=spoken)
    assert isinstance(flagged, FlaggedSentence)
    assert flagged.missing == missing


def test_facts_may_stand_in_different_parts_and_the_other_language() -> None:
    text = "Reopened on 4 May 2024 for R$ 3,200,000, it has 86 stalls."
    kept = checked(text, spoken="en", limit=80)
    assert isinstance(kept, SummarySentence)
    assert kept.supported, "without a quote, its facts are the evidence"
    assert all(REPORT[place.start : place.end] == place.quote for place in kept.evidence)


def test_a_quote_that_is_not_there_supports_nothing() -> None:
    kept = checked("Os comerciantes estão contentes.", "comerciantes estão contentes")
    assert isinstance(kept, SummarySentence)
    assert (kept.supported, kept.evidence) == (False, [])


def notes(count: int, size: int = 10) -> list[Note]:
    return [{"text": f"{number}".ljust(size, "x"), "quotes": []} for number in range(count)]


def shapes(given: Sequence[Note], room: int, sentences: int) -> list[tuple[int, int]]:
    made = batches(given, 0, room, sentences, "en")
    assert [note for batch in made for note in batch["notes"]] == (list(given) if made else [])
    return [(len(batch["notes"]), batch["sentences"]) for batch in made]


def test_few_notes_are_the_summary() -> None:
    assert shapes(notes(5), 1000, 5) == []
    assert shapes([], 1000, 5) == []


def test_notes_that_fit_one_call_become_the_summary_at_once() -> None:
    assert shapes(notes(9), 1000, 5) == [(9, 5)]


def test_notes_that_do_not_fit_are_halved_batch_by_batch() -> None:
    assert shapes(notes(10), 100, 3) == [(5, 2), (5, 2)]


@pytest.mark.parametrize("size", [10, 500])
def test_every_level_is_smaller_than_the_one_below(size: int) -> None:
    left, levels = notes(200, size), 0
    while made := batches(left, levels, 300, 4, "en"):
        kept = [thinned(batch["notes"], batch["sentences"]) for batch in made]
        assert sum(map(len, kept)) < len(left)
        left, levels = [note for group in kept for note in group], levels + 1
    assert 0 < len(left) <= 4


def test_the_highest_level_counts_in_the_order_of_the_source() -> None:
    groups: list[Notes] = [
        {"level": 0, "index": 0, "notes": notes(1), "problem": None},
        {"level": 1, "index": 1, "notes": [{"text": "b", "quotes": []}], "problem": None},
        {"level": 1, "index": 0, "notes": [{"text": "a", "quotes": []}], "problem": None},
    ]
    level, found = latest(groups)
    assert (level, [note["text"] for note in found]) == (1, ["a", "b"])
