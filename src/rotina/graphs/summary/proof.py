"""Checks a summary against its source. No model has a say here."""

from collections.abc import Sequence
from functools import cached_property

from rotina.graphs.language import Language
from rotina.graphs.splitting import Piece
from rotina.graphs.summary.state import Note
from rotina.graphs.summary.summary import FlaggedSentence, SummarySentence
from rotina.grounding import Evidence, Source, find
from rotina.grounding.facts import Facts, Reading

_MOST_EVIDENCE = 5


class Proof:
    """A source, and what it states. Reading it takes processor time: call from a thread."""

    def __init__(self, source: str, parts: Sequence[Piece], language: Language) -> None:
        self._parts = [
            _Part(source[part["start"] : part["end"]], part["start"], language) for part in parts
        ]

    def check(self, note: Note, language: Language) -> SummarySentence | FlaggedSentence:
        """The sentence with its evidence, or what it states and the source does not.

        Evidence is where the quotes stand; without those, where its facts do.
        """
        text = " ".join(note["text"].split())
        facts = Facts(text, language)
        missing = facts.missing_in(self._parts[0].facts)
        for part in self._parts[1:]:
            still = facts.missing_in(part.facts) if missing else []
            missing = [fact for fact in missing if fact in still]
        if missing:
            return FlaggedSentence(text=text, missing=missing)
        evidence = self._quoted(note["quotes"]) or self._stated(facts)
        return SummarySentence(text=text, supported=bool(evidence), evidence=evidence)

    def _quoted(self, quotes: Sequence[str]) -> list[Evidence]:
        found: dict[tuple[int, int], Evidence] = {}
        for quote in quotes:
            for part in self._parts:
                place = part.find(quote)
                if place is not None:
                    found.setdefault((place.start, place.end), place)
                    break
        return list(found.values())[:_MOST_EVIDENCE]

    def _stated(self, facts: Facts) -> list[Evidence]:
        found: dict[tuple[int, int], Evidence] = {}
        for fact in facts.stated:
            for part in self._parts:
                place = part.stating(fact.readings)
                if place is not None:
                    found.setdefault((place.start, place.end), place)
                    break
        return list(found.values())[:_MOST_EVIDENCE]


class _Part:
    """One part of the source; offsets are given in the whole."""

    def __init__(self, text: str, start: int, language: Language) -> None:
        self._text, self._start, self._language = text, start, language

    @cached_property
    def facts(self) -> Facts:
        return Facts(self._text, self._language)

    @cached_property
    def _source(self) -> Source:
        return Source(self._text, language=self._language)

    def find(self, quote: str) -> Evidence | None:
        """The most literal place of the quote; a number alone proves no sentence."""
        if len(quote.split()) < 2:  # noqa: PLR2004
            return None
        for place in find(quote.strip(" \"'“”…."), self._source):
            if place.method in ("exact", "text"):
                return self._whole(place)
        return None

    def stating(self, readings: frozenset[Reading]) -> Evidence | None:
        for stated in self.facts.stated:
            if not readings.isdisjoint(stated.readings):
                quote = self._text[stated.start : stated.end]
                place = Evidence(start=stated.start, end=stated.end, quote=quote, method="number")
                return self._whole(place)
        return None

    def _whole(self, place: Evidence) -> Evidence:
        moved = {"start": place.start + self._start, "end": place.end + self._start}
        return place.model_copy(update=moved)
