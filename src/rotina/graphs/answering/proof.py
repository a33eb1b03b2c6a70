"""Checks one sentence of a model against the passage it cites. No model has a say here."""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from rotina.graphs.answering.answer import Citation, Sentence
from rotina.graphs.language import Language, detect
from rotina.grounding import Evidence, Source, find
from rotina.grounding.facts import Facts
from rotina.grounding.vocabulary import (
    CLAUSE_END,
    INSTRUCTION_LIKE,
    NEGATION,
    STOP_WORDS,
    aligned,
    plain,
)
from rotina.knowledge import Passage

LEAST_QUOTE_WORDS = 3
"""A shorter quote stands in too many places to prove anything."""
SHARED_WORDS = 0.5
"""Of a sentence's content words, the share that its passage must have, in the same language.
Half leaves room to rephrase, and none for a sentence about something else."""
_WORD = re.compile(r"[^\W\d_]+")
_SHORT_WORD, _STEM = 4, 5
_TRIM = " \t\n\"'“”‘’«»….:;,-"


class Claim(NamedTuple):
    """What the model says: a sentence, the passage it rests on, and the words that prove it."""

    source: int
    """Number of the passage, from 1 on."""
    quote: str
    text: str


class Refused(NamedTuple):
    """A claim that is not proven."""

    text: str
    reason: str


class Shelf:
    """The passages of one question, each indexed once."""

    def __init__(self, passages: Sequence[Passage], language: Language) -> None:
        """`language` is that of the answer."""
        self.language = language
        self._books = [_Book(passage) for passage in passages]

    def check(self, claim: Claim) -> Sentence | Refused:
        """The sentence with its citation, or why it is refused.

        A model that numbers the right quote wrongly is corrected: the citation points to the
        passage that holds the quote, and that passage must prove the sentence.
        """
        text = " ".join(claim.text.split())
        quote = claim.quote.strip(_TRIM)
        if not _is_substantial(quote):
            return Refused(text, "the quote is too short to prove anything")
        reason = "the quote stands in no passage"
        for book in self._in_turn(claim.source):
            places = [each for each in find(quote, book.source) if each.method != "code"]
            for place in places:
                problem = self._problem(text, place, book)
                if problem is None:
                    translated = book.language != self.language
                    citation = book.citation(place)
                    return Sentence(text=text, citations=[citation], translated=translated)
                reason = problem
        return Refused(text, reason)

    def _in_turn(self, source: int) -> list["_Book"]:
        """The cited passage first."""
        cited = self._books[source - 1 : source] if source > 0 else []
        return [*cited, *(book for book in self._books if book not in cited)]

    def _problem(self, text: str, place: Evidence, book: "_Book") -> str | None:
        """Why these characters do not prove the sentence; None when they do."""
        if book.gives_orders(place):
            return "the quote is part of an instruction, not of a statement"
        sentence = Facts(text, self.language)
        if missing := sentence.missing_in(book.facts):
            return f"the passage does not say {', '.join(missing)}"
        if _is_negated(text, self.language) != _is_negated(book.clauses(place), book.language):
            return "one of sentence and passage denies what the other says"
        if book.language == self.language:
            return _unlike(text, place.quote, book)
        return None


class _Book:
    """A passage and its indexes."""

    def __init__(self, passage: Passage) -> None:
        self.passage = passage

    @cached_property
    def language(self) -> Language:
        return detect(self.passage.text)

    @cached_property
    def source(self) -> Source:
        return Source(self.passage.text, language=self.language)

    @cached_property
    def facts(self) -> Facts:
        return Facts(self.passage.text, self.language)

    @cached_property
    def stems(self) -> frozenset[str]:
        return _stems(f"{self.passage.title or ''} {self.passage.text}")

    def citation(self, place: Evidence) -> Citation:
        passage = self.passage
        return Citation(
            chunk_id=passage.chunk_id,
            document_id=passage.document_id,
            document=passage.document,
            title=passage.title,
            page=passage.page,
            start=passage.start + place.start,
            end=passage.start + place.end,
            quote=place.quote,
        )

    def clauses(self, place: Evidence) -> str:
        """The whole clauses that the characters touch: a quote must not cut off a "not"."""
        return self._around(place, CLAUSE_END)

    def gives_orders(self, place: Evidence) -> bool:
        """Whether the paragraph of the characters talks to a model instead of to a reader."""
        return INSTRUCTION_LIKE.search(plain(self._around(place, _PARAGRAPH))) is not None

    def _around(self, place: Evidence, end: re.Pattern[str]) -> str:
        text = self.passage.text
        ends = [match.end() for match in end.finditer(aligned(text))]
        first = max((each for each in ends if each <= place.start), default=0)
        last = min((each for each in ends if each >= place.end), default=len(text))
        return text[first:last]


_PARAGRAPH = re.compile(r"\n\s*\n|\n")


def _is_substantial(quote: str) -> bool:
    words = quote.split()
    return len(words) >= LEAST_QUOTE_WORDS and bool(_stems(quote) or any(map(str.isdigit, quote)))


def _is_negated(text: str, language: Language) -> bool:
    return NEGATION[language].search(plain(text)) is not None


def _unlike(text: str, quote: str, book: _Book) -> str | None:
    """Whether a sentence is about something else than its proof, in the same language."""
    said = _stems(text)
    if not said:
        return "the sentence says nothing that could be compared with the passage"
    if len(said & book.stems) < SHARED_WORDS * len(said):
        return "most words of the sentence are not in the passage"
    if not said & _stems(quote) and not Facts(text).provided & Facts(quote).provided:
        return "the sentence has nothing in common with the quote"
    return None


def _stems(text: str) -> frozenset[str]:
    """Content words, cut to five letters: enough to match plurals and verb endings."""
    words = _WORD.findall(plain(text))
    return frozenset(
        word[:_STEM] for word in words if len(word) >= _SHORT_WORD and word not in STOP_WORDS
    )
