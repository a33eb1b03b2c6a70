"""The steps of a classification: gather evidence, settle what is clear, ask the model the rest."""

import unicodedata
from collections.abc import Sequence

from pydantic import BaseModel, Field

from rotina.errors import ContextTooLongError
from rotina.gateway import Gateway
from rotina.graphs.classification.classification import (
    NONE_OF_THESE,
    Alternative,
    Classification,
    ClassificationResult,
    Label,
)
from rotina.graphs.classification.prompts import answer_schema, messages, system_prompt
from rotina.graphs.classification.trained import HEADS, as_matrix

MOST_LISTED = 20
"""Labels up to which the model sees all of them, in a prompt that never changes."""
SHORTLIST = 10
SHOWN_EXAMPLES = 8
SHOWN_OF_ONE_LABEL = 3
MOST_ALTERNATIVES = 5
LONGEST_TEXT = 4000
"""Characters that are looked at; what a message is about is said at its beginning or its end."""
LONGEST_EXAMPLE = 400
CHARACTERS_PER_TOKEN = 2.5
"""Fewer than texts of either language have, so that a prompt that seems to fit does."""
_SMALLEST_TEXT = 200
_GAP = "\n[…]\n"


class Example(BaseModel):
    """A declared example near the text."""

    text: str
    label: str


class Evidence(BaseModel):
    """What the cheap path says about a text."""

    ranking: list[Alternative]
    """The labels that come into question, best first."""
    support: float
    """The share of held-out examples that are no more usual than the text."""
    examples: list[Example] = Field(default_factory=list)
    """Those nearest to the text, nearest first."""


async def classify(
    text: str, declaration: Classification, gateway: Gateway
) -> ClassificationResult:
    """The label of `text`.

    The first call for a declaration embeds its examples and trains; later ones of the same process
    do not. Raises a `ModelError` when a model that is needed does not answer, and
    `ContextTooLongError` when the labels alone fill its context.
    """
    evidence = await gather(text, declaration, gateway)
    settled = settle(text, declaration, evidence)
    return settled or await ask(text, declaration, evidence, gateway)


def is_blank(text: str) -> bool:
    """Whether there is nothing to read: no letter, no digit, no pictograph such as an emoji."""
    return not any(char.isalnum() or unicodedata.category(char) == "So" for char in text)


def shorten(text: str, most: int) -> str:
    """At most `most` characters: three quarters from the beginning, the rest from the end."""
    if len(text) <= most:
        return text
    tail = max(0, most // 4 - len(_GAP))
    return text[: most - tail - len(_GAP)] + _GAP + text[len(text) - tail :]


async def gather(text: str, declaration: Classification, gateway: Gateway) -> Evidence | None:
    """What the cheap path says; None where nobody needs to know."""
    if is_blank(text) or not _needs_evidence(declaration):
        return None
    shown = shorten(text, LONGEST_TEXT)
    recorder = gateway.recorder
    if recorder is None:
        return await _gather(shown, declaration, gateway)
    asked = {"declaration": declaration.fingerprint, "text": shown}
    place = await recorder.recall("evidence", asked)
    if place.answer is not None:
        return Evidence.model_validate_json(place.answer)
    evidence = await _gather(shown, declaration, gateway)
    place.add(evidence.model_dump_json().encode())
    return evidence


async def _gather(shown: str, declaration: Classification, gateway: Gateway) -> Evidence:
    # What comes of the vector is recorded; the head that reads it is the process's.
    embedded = await gateway.embed([shown], route=declaration.embedding_route, record=False)
    vector = as_matrix(embedded.vectors)
    head = await HEADS.get(declaration, gateway, embedded.model, vector.shape[1])
    prediction = head.predict([shown], vector)[0]
    return Evidence(
        ranking=[
            Alternative(label=name, score=min(score, 1.0))
            for name, score in prediction.ranking[:MOST_LISTED]
        ],
        support=prediction.support,
        examples=[Example(text=near, label=name) for near, name in prediction.nearest],
    )


def settle(
    text: str, declaration: Classification, evidence: Evidence | None
) -> ClassificationResult | None:
    """The result, where no model is needed for it."""
    if is_blank(text):
        reason = "The text holds no letter, digit or pictograph."
        return ClassificationResult(
            label=None, confidence=1.0, path="cheap", none_of_these=True, reason=reason
        )
    if evidence is None or declaration.policy == "model":
        return None
    cheap = _cheap_result(text, declaration, evidence)
    if declaration.policy == "cheap":
        return cheap
    clear = declaration.learned and cheap.confidence >= declaration.confident
    return cheap if clear and not cheap.none_of_these else None


async def ask(
    text: str, declaration: Classification, evidence: Evidence | None, gateway: Gateway
) -> ClassificationResult:
    """What the model says. Raises a `ModelError`."""
    labels = _candidates(declaration, evidence)
    system = system_prompt(declaration, labels)
    schema = answer_schema(declaration, labels)
    answer_tokens = 16 + max(len(name) for name in schema["properties"]["label"]["enum"])
    room = int((gateway.context(declaration.route) - answer_tokens) * CHARACTERS_PER_TOKEN)
    room -= len(system)
    if room < _SMALLEST_TEXT:
        raise ContextTooLongError(
            f"The labels of {declaration.name!r} take the whole context of the route "
            f"{declaration.route!r}. Shorten their descriptions, or use a model with more."
        )
    shown = shorten(text, min(LONGEST_TEXT, room))
    examples = _examples(evidence, labels, room - len(shown))
    answer = await gateway.chat(
        messages(system, examples, shown),
        route=declaration.route,
        schema=schema,
        schema_name="classification",
        max_tokens=answer_tokens,
    )
    chosen = answer.data["label"]
    return _model_result(None if chosen == NONE_OF_THESE else chosen, evidence, text, shown)


def _needs_evidence(declaration: Classification) -> bool:
    if declaration.policy == "cheap" or len(declaration.labels) > MOST_LISTED:
        return True
    # Without examples there is nothing to show the model, and nothing to trust without it.
    return declaration.examples > 0


def _candidates(declaration: Classification, evidence: Evidence | None) -> list[Label]:
    if evidence is None or len(declaration.labels) <= MOST_LISTED:
        return list(declaration.labels)
    named = {label.name: label for label in declaration.labels}
    return [named[one.label] for one in evidence.ranking[:SHORTLIST]]


def _examples(
    evidence: Evidence | None, labels: Sequence[Label], room: int
) -> list[tuple[str, str]]:
    """The nearest examples that fit, nearest last, where a model heeds them most."""
    shown: list[tuple[str, str]] = []
    left = {label.name: SHOWN_OF_ONE_LABEL for label in labels}
    for example in evidence.examples if evidence else ():
        text = shorten(example.text, LONGEST_EXAMPLE)
        room -= len(text) + len(example.label)
        if room < 0 or len(shown) == SHOWN_EXAMPLES:
            break
        if left.get(example.label, 0) > 0:
            left[example.label] -= 1
            shown.append((text, example.label))
    return shown[::-1]


def _cheap_result(
    text: str, declaration: Classification, evidence: Evidence
) -> ClassificationResult:
    best, *others = evidence.ranking
    if declaration.none_of_these and evidence.support <= declaration.rejected:
        return ClassificationResult(
            label=None,
            confidence=1 - evidence.support,
            path="cheap",
            alternatives=evidence.ranking[:MOST_ALTERNATIVES],
            none_of_these=True,
            reason="The text is unlike the examples of every label.",
        )
    return ClassificationResult(
        label=best.label,
        confidence=best.score,
        path="cheap",
        alternatives=others[:MOST_ALTERNATIVES],
        reason=_left_out(text, shorten(text, LONGEST_TEXT)),
    )


def _model_result(
    chosen: str | None, evidence: Evidence | None, text: str, shown: str
) -> ClassificationResult:
    """The model's word counts one half, what speaks for it on the cheap path the other."""
    ranking = evidence.ranking if evidence else []
    scores = {one.label: one.score for one in ranking}
    agreed = scores.get(chosen, 0.0) if chosen else 1 - (evidence.support if evidence else 1.0)
    reason = _left_out(text, shown) if chosen else "The model says that no label fits."
    return ClassificationResult(
        label=chosen,
        confidence=0.5 + agreed / 2,
        path="model",
        alternatives=[one for one in ranking if one.label != chosen][:MOST_ALTERNATIVES],
        none_of_these=chosen is None,
        reason=reason,
    )


def _left_out(text: str, shown: str) -> str | None:
    if shown == text:
        return None
    return f"Of {len(text)} characters the middle was left out; {len(shown)} were read."
