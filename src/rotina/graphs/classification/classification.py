"""What the labels are, and what comes back."""

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from rotina.errors import SettingsError

NONE_OF_THESE = "none_of_these"
"""What the model answers when no label fits; no label may be called so."""

FEWEST_EXAMPLES = 3
"""Examples every label needs before the cheap path is trusted in a cascade."""

FEWEST_LABELS = 2


@dataclass(frozen=True)
class Label:
    """One answer: its name, what it means, and messages that belong to it, in any language."""

    name: str
    description: str = ""
    examples: Sequence[str] = ()

    @property
    def title(self) -> str:
        """The name in words: `damaged_item` reads `damaged item`."""
        return " ".join(self.name.replace("_", " ").split())


@dataclass(frozen=True)
class Classification:
    """The labels of one question about a text, and how to answer it.

    `policy` is `cheap` (embeddings and a linear head), `model` (the chat model) or `cascade`: cheap
    where its confidence reaches `confident` and every label has `FEWEST_EXAMPLES`, else the model.
    `rejected` is the share of fitting texts that the cheap path may take for none of the labels:
    the price of noticing those that do fit none. Raises `SettingsError` when malformed.
    """

    name: str
    labels: Sequence[Label]
    none_of_these: bool = True
    """Whether a text may fit no label."""
    instructions: str = ""
    """What the model should know about the texts and the labels."""
    policy: Literal["cheap", "model", "cascade"] = "cascade"
    confident: float = 0.6
    rejected: float = 0.05
    route: str = "smart"
    embedding_route: str = "embed"

    def __post_init__(self) -> None:
        """Check names, texts and shares."""
        object.__setattr__(self, "labels", tuple(self.labels))
        _check_labels(self.name, self.labels)
        for option, value in (("confident", self.confident), ("rejected", self.rejected)):
            if not 0 <= value <= 1:
                raise SettingsError(
                    f"Classification {self.name!r}: {option}={value} is a share; give 0 to 1."
                )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The labels' names, in their order."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """(text, label) pairs to learn from: names and descriptions first, then the examples."""
        meant = [(text, one.name) for one in self.labels for text in _meaning(one)]
        return (*meant, *((text, one.name) for one in self.labels for text in one.examples))

    @cached_property
    def examples(self) -> int:
        """How many of the rows, at their end, are examples."""
        return sum(len(label.examples) for label in self.labels)

    @cached_property
    def learned(self) -> bool:
        """Whether every label has examples enough for the cheap path to be trusted."""
        return all(len(label.examples) >= FEWEST_EXAMPLES for label in self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that the cheap path learns from."""
        return hashlib.sha256(json.dumps([self.names, self.rows]).encode()).hexdigest()

    def with_examples(self, pairs: Iterable[tuple[str, str]]) -> Self:
        """The same with more examples, given as (text, label name), as corrections come in.

        Raises `SettingsError` for a name that is not one of the labels.
        """
        more: dict[str, list[str]] = {name: [] for name in self.names}
        for text, name in pairs:
            if name not in more:
                close = difflib.get_close_matches(name, self.names, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"use {_listed(self.names)}."
                raise SettingsError(f"Classification {self.name!r} has no label {name!r}: {hint}")
            more[name].append(text)
        labels = [
            replace(label, examples=(*label.examples, *more[label.name])) for label in self.labels
        ]
        return replace(self, labels=labels)


class Alternative(BaseModel):
    """A label and how much speaks for it, 0 to 1."""

    model_config = ConfigDict(frozen=True)

    label: str
    score: float = Field(ge=0, le=1)


class ClassificationResult(BaseModel):
    """The label of a text."""

    model_config = ConfigDict(frozen=True)

    label: str | None
    """None when no label fits, or the text says nothing."""
    confidence: float = Field(ge=0, le=1)
    """Of the cheap path: calibrated on held-out examples; of the model path: an ordering only."""
    path: Literal["cheap", "model"]
    alternatives: list[Alternative] = Field(default_factory=list)
    """Other labels, best first; empty where the cheap path had no part in it."""
    none_of_these: bool = False
    reason: str | None = None
    """Why there is no label, or what was left out of the text."""


def _check_labels(name: str, labels: Sequence[Label]) -> None:
    where = f"Classification {name!r}"
    if len(labels) < FEWEST_LABELS:
        raise SettingsError(f"{where} has {len(labels)} labels; declare at least {FEWEST_LABELS}.")
    folded = Counter(label.name.casefold() for label in labels)
    for label in labels:
        if not label.name.strip() or label.name != label.name.strip():
            raise SettingsError(
                f"{where}: {label.name!r} is no name for a label; give it letters, and no blanks "
                "at its ends."
            )
        if label.name.casefold() == NONE_OF_THESE:
            raise SettingsError(
                f"{where}: {NONE_OF_THESE!r} is the answer when no label fits; rename the label, "
                "or leave it out and set none_of_these=True."
            )
        if folded[label.name.casefold()] > 1:
            raise SettingsError(
                f"{where} has the label {label.name!r} more than once (capitals do not count); "
                "merge their examples or rename one."
            )
        _check_examples(where, label)


def _check_examples(where: str, label: Label) -> None:
    if isinstance(label.examples, str):
        raise SettingsError(f"{where}: the examples of {label.name!r} are a text; give a list.")
    if not all(text.strip() for text in label.examples):
        raise SettingsError(f"{where}: an example of {label.name!r} is empty; remove it.")


def _meaning(label: Label) -> list[str]:
    return [text for text in (label.title, label.description.strip()) if text]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return shown if len(names) <= 10 else f"{shown}, … ({len(names)} labels)"  # noqa: PLR2004
