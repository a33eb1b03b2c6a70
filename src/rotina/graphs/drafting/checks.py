"""Compares a draft with its briefing. No model has a say here."""

import re
from collections.abc import Iterator

from rotina.graphs.drafting.drafting import DraftProblem
from rotina.graphs.drafting.prompts import Order
from rotina.graphs.language import LANGUAGE_NAMES, detect
from rotina.grounding import Source, find
from rotina.grounding.facts import Facts
from rotina.grounding.vocabulary import plain

_GAP = re.compile(
    r"\[[^\W\d][^\]\n]{0,60}\](?!\()"  # [Your name], but no Markdown link
    r"|\{\{[^{}\n]+\}\}|\{\w+\}|<[A-Za-z][^<>/\n]{0,40}>|_{3,}|\bX{3,}\b|\bTODO\b|\bTBD\b"
)
_TOLERANCE = 1.25
"""Of the words asked for: models cannot count."""
_ENOUGH_WORDS = 6


def check(order: Order, title: str, text: str) -> list[DraftProblem]:
    """What is wrong with a draft. It takes processor time: call from a thread."""
    whole = f"{title}\n\n{text}".strip()
    return [
        *_invented(order, whole),
        *_terms(order, whole),
        *_gaps(order, whole),
        *_form(order, text),
    ]


def _invented(order: Order, whole: str) -> Iterator[DraftProblem]:
    """What the briefing, the terms to mention included, does not state."""
    briefing = "\n".join([order.briefing, *order.must_mention])
    known = Facts(briefing, detect(briefing, default=order.language))
    draft = Facts(whole, order.language)
    invented = [
        draft.text[fact.start : fact.end]
        for fact in draft.explicit
        if known.provided.isdisjoint(fact.readings)
    ]
    invented += [code for code in draft.codes if not find(code, known.source)]
    for written in dict.fromkeys(invented):
        yield DraftProblem(kind="invented", what=written)


def _terms(order: Order, whole: str) -> Iterator[DraftProblem]:
    source, folded = Source(whole, language=order.language), plain(whole)
    for term in order.must_mention:
        if plain(term) not in folded and not find(term, source):
            yield DraftProblem(kind="missing", what=term)
    for term in order.avoid:
        if re.search(rf"(?<!\w){re.escape(plain(term))}(?!\w)", folded):
            yield DraftProblem(kind="avoided", what=term)


def _gaps(order: Order, whole: str) -> Iterator[DraftProblem]:
    """Gaps that the briefing has as well are wanted: a template's."""
    for gap in dict.fromkeys(match.group() for match in _GAP.finditer(whole)):
        if gap not in order.briefing:
            yield DraftProblem(kind="placeholder", what=gap)


def _form(order: Order, text: str) -> Iterator[DraftProblem]:
    words = len(text.split())
    if words >= _ENOUGH_WORDS and detect(text, default=order.language) != order.language:
        name = LANGUAGE_NAMES[order.language]
        yield DraftProblem(kind="language", what=f"not written in {name}")
    if words > order.words * _TOLERANCE:
        yield DraftProblem(kind="length", what=f"{words} words, {order.words} were asked for")
