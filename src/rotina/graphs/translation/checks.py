"""Compares a translation with its source. No model has a say here."""

import re
from collections.abc import Hashable, Iterator, Mapping
from typing import NamedTuple

from rotina.graphs.language import LANGUAGE_NAMES, Language, detect
from rotina.graphs.translation.protected import tokens
from rotina.graphs.translation.translation import ProblemKind
from rotina.grounding.facts import Facts, Reading, Stated
from rotina.grounding.vocabulary import plain

_BLANK_LINE = re.compile(r"\n[ \t]*\n\s*")
_LONG, _FACTOR = 120, 3
_ENOUGH_WORDS = 6


class Finding(NamedTuple):
    """Something wrong, and where it is written."""

    kind: ProblemKind
    what: str


def check(
    source: str,
    translation: str,
    languages: tuple[Language, Language],
    glossary: Mapping[str, Mapping[Language, str]],
) -> list[Finding]:
    """What is wrong with a translation between the two languages, (from, to)."""
    return [
        *_tokens(source, translation),
        *_facts(_bare(source, translation), source, translation, languages),
        *_form(source, translation, languages[1]),
        *_terms(source, translation, languages, glossary),
    ]


def _tokens(source: str, translation: str) -> Iterator[Finding]:
    wanted, found = tokens(source), tokens(translation)
    for token in wanted - found:
        yield Finding("missing", token)
    for token in found - wanted:
        yield Finding("invented", token)


def _bare(source: str, translation: str) -> tuple[str, str]:
    """Both without the protected tokens: those were compared, and their digits state nothing."""
    known = sorted({*tokens(source), *tokens(translation)}, key=len, reverse=True)
    if not known:
        return source, translation
    pattern = re.compile("|".join(map(re.escape, known)))
    return pattern.sub(" ⟨⟩ ", source), pattern.sub(" ⟨⟩ ", translation)


def _facts(
    bare: tuple[str, str], source: str, translation: str, languages: tuple[Language, Language]
) -> Iterator[Finding]:
    before, after = (Facts(text, spoken) for text, spoken in zip(bare, languages, strict=True))
    provided = [_provided(before), _provided(after)]
    for fact in before.explicit:
        if not _is_stated(_readings(fact), provided[1]):
            yield Finding("missing", before.text[fact.start : fact.end])
    for fact in after.explicit:
        if not _is_stated(_readings(fact), provided[0]):
            yield Finding("invented", after.text[fact.start : fact.end])
    yield from (Finding("missing", code) for code in _absent(before.codes, translation))
    yield from (Finding("invented", code) for code in _absent(after.codes, source))


def _absent(codes: list[str], text: str) -> list[str]:
    return [code for code in codes if code.casefold() not in text.casefold()]


def _readings(fact: Stated) -> set[Reading]:
    """What the fact may mean, units left out: they have too many names."""
    return {
        ("number", value[0]) if kind == "quantity" and isinstance(value, tuple) else (kind, value)
        for kind, value in fact.readings
    }


def _provided(facts: Facts) -> set[Reading]:
    found = set(facts.provided)
    for fact in facts.stated:
        found |= _readings(fact)
    return found | {("number", amount) for amount in _amounts(found)}


def _amounts(readings: set[Reading]) -> set[Hashable]:
    return {value[0] for kind, value in readings if kind == "money" and isinstance(value, tuple)}


def _is_stated(readings: set[Reading], provided: set[Reading]) -> bool:
    """Whether one reading is there. An amount may lose its sign, but not change its currency."""
    if readings & provided:
        return True
    amounts, elsewhere = _amounts(readings), _amounts(provided)
    return any(amount not in elsewhere and ("number", amount) in provided for amount in amounts)


def _form(source: str, translation: str, to: Language) -> Iterator[Finding]:
    wanted, found = (len(_BLANK_LINE.split(text.strip())) for text in (source, translation))
    if wanted != found:
        yield Finding("paragraphs", f"{wanted} in the source, {found} in the translation")
    if len(translation.split()) >= _ENOUGH_WORDS and detect(translation, default=to) != to:
        yield Finding("language", f"not written in {LANGUAGE_NAMES[to]}")
    longer = max(len(source), len(translation))
    if longer > _LONG and longer > _FACTOR * min(len(source), len(translation)):
        yield Finding("length", f"{len(source)} characters became {len(translation)}")


def _terms(
    source: str,
    translation: str,
    languages: tuple[Language, Language],
    glossary: Mapping[str, Mapping[Language, str]],
) -> Iterator[Finding]:
    for term in glossary.values():
        theirs, ours = term.get(languages[0]), term.get(languages[1])
        if not theirs or not ours or plain(theirs) not in plain(source):
            continue
        if plain(ours) not in plain(translation):
            yield Finding("glossary", ours)
