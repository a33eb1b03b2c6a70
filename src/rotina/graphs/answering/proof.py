"""Checks one sentence of a model against the sentence it cites. No model has a say here."""

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from rotina.graphs.answering.answer import Sentence
from rotina.graphs.answering.sentences import Numbered
from rotina.graphs.language import Language, detect
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

SHARED_WORDS = 0.5
"""Of a sentence's content words, the share that its passage must have, in the same language.
Half leaves room to rephrase, and none for a sentence about something else."""
_WORD = re.compile(r"[^\W\d_]+")
_SHORT_WORD, _STEM = 4, 5


class Claim(NamedTuple):
    """What the model says, and the number of the sentence that proves it, from 1 on."""

    source: int
    text: str


class Refused(NamedTuple):
    """A claim that is not proven."""

    text: str
    reason: str


class Shelf:
    """The numbered sentences that one question is answered from; each passage indexed once."""

    def __init__(self, sentences: Sequence[Numbered], language: Language) -> None:
        """`language` is that of the answer."""
        self.language = language
        self._sentences = sentences
        books: dict[int, _Book] = {}
        for each in sentences:
            books.setdefault(id(each.passage), _Book(each.passage))
        self._books = books

    def check(self, claim: Claim) -> Sentence | Refused:
        """The sentence with its citation, or why it is refused.

        Where the cited sentence does not prove it but another one says the same in the same
        language, the citation points there: models count badly, and the proof is what matters.
        """
        text = " ".join(claim.text.split())
        reason = f"there is no sentence number {claim.source}"
        if 0 < claim.source <= len(self._sentences):
            cited = self._sentences[claim.source - 1]
            problem = self._problem(text, cited)
            if problem is None:
                return self._proven(text, cited)
            reason = problem
        for other in self._alike(text):
            if self._problem(text, other) is None:
                return self._proven(text, other)
        return Refused(text, reason)

    def _proven(self, text: str, proof: Numbered) -> Sentence:
        passage = proof.passage
        citation = passage.cite(passage.start + proof.start, passage.start + proof.end)
        translated = self._book(proof).language != self.language
        return Sentence(text=text, citations=[citation], translated=translated)

    def _book(self, proof: Numbered) -> "_Book":
        return self._books[id(proof.passage)]

    def _alike(self, text: str) -> list[Numbered]:
        """Sentences with most of the text's content words, the likest first."""
        said = stems(text)
        shared = {
            number: len(said & stems(each.text))
            for number, each in enumerate(self._sentences)
            if self._book(each).language == self.language
        }
        enough = [
            number for number in shared if said and shared[number] >= SHARED_WORDS * len(said)
        ]
        return [self._sentences[n] for n in sorted(enough, key=lambda n: (-shared[n], n))]

    def _problem(self, text: str, proof: Numbered) -> str | None:
        """Why this sentence of a passage does not prove the text; None when it does."""
        book = self._book(proof)
        if book.gives_orders(proof):
            return "the cited sentence is part of an instruction, not of a statement"
        if missing := Facts(text, self.language).missing_in(book.facts):
            return f"the passage does not say {', '.join(missing)}"
        # Models answer in the passage's language at times; then words can be compared after all.
        said_in = detect(text, default=self.language)
        same_language = book.language == said_in
        if same_language and (unlike := _unlike(text, proof, book)):
            return unlike
        clauses = _clauses(proof.text, like=text if same_language else None)
        denials = {_is_negated(clause, book.language) for clause in clauses}
        if _is_negated(text, said_in) not in denials:
            return "one of text and cited sentence denies what the other says"
        return None


class _Book:
    """A passage and its indexes."""

    def __init__(self, passage: Passage) -> None:
        self.passage = passage

    @cached_property
    def language(self) -> Language:
        return detect(self.passage.text)

    @cached_property
    def facts(self) -> Facts:
        return Facts(f"{self.passage.title or ''}\n{self.passage.text}", self.language)

    @cached_property
    def stems(self) -> frozenset[str]:
        return stems(f"{self.passage.title or ''} {self.passage.text}")

    def gives_orders(self, proof: Numbered) -> bool:
        """Whether the paragraph of the sentence talks to a model instead of to a reader."""
        text = self.passage.text
        first = text.rfind("\n", 0, proof.start) + 1
        last = text.find("\n", proof.end)
        paragraph = text[first : last if last >= 0 else len(text)]
        return INSTRUCTION_LIKE.search(plain(paragraph)) is not None


def stems(text: str) -> frozenset[str]:
    """Content words, cut to five letters: enough to match plurals and verb endings."""
    words = _WORD.findall(plain(text))
    return frozenset(
        word[:_STEM] for word in words if len(word) >= _SHORT_WORD and word not in STOP_WORDS
    )


def _is_negated(text: str, language: Language) -> bool:
    return NEGATION[language].search(plain(text)) is not None


def _clauses(sentence: str, like: str | None) -> list[str]:
    """The clauses of a sentence; with `like`, the ones that share the most words with it."""
    ends = [0, *(match.end() for match in CLAUSE_END.finditer(aligned(sentence))), len(sentence)]
    clauses = [sentence[start:end] for start, end in pairwise(ends) if end > start]
    if like is None:
        return clauses
    wanted = stems(like)
    shared = [len(wanted & stems(clause)) for clause in clauses]
    return [clause for clause, count in zip(clauses, shared, strict=True) if count == max(shared)]


def _unlike(text: str, proof: Numbered, book: _Book) -> str | None:
    """Whether a text is about something else than its proof, in the same language."""
    said = stems(text)
    if not said:
        return "the text says nothing that could be compared with the passage"
    if len(said & book.stems) < SHARED_WORDS * len(said):
        return "most words of the text are not in the passage"
    if not said & stems(proof.text) and not Facts(text).provided & Facts(proof.text).provided:
        return "the text has nothing in common with the cited sentence"
    return None
