"""What every deployment of a route reads at once, by the vocabularies that are here."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from rotina.gateway.fit import MARGIN
from rotina.gateway.tokens import Tokenizer, byte_length, tokenizer_of
from rotina.settings import Deployment

RESERVED = 16
"""Tokens that servers put around a text: its beginning and end, `passage: `."""


class Room:
    """Tells whether a text is short enough; reads vocabularies when it first has to."""

    def __init__(self, deployments: Iterable[Deployment], folder: Path) -> None:
        """`folder` is where relative paths of tokenizers begin."""
        self._deployments = list(deployments)
        self._folder = folder

    @property
    def tokens(self) -> int:
        """The smallest context."""
        return min(deployment.context for deployment in self._deployments)

    def holds(self, text: str, *, share: int = 1) -> bool:
        """Whether the text fits `1 / share` of each context.

        Where a vocabulary is not here, the estimate is taken to be too low by as much as
        benchmarks/tokens.py found. Raises `SettingsError` for a tokenizer that cannot be read.
        """
        # No token is less than a byte, so most texts need not be counted.
        if byte_length(text) <= self.tokens // share - RESERVED:
            return True
        return all(
            _most(tokenizer, text) <= context // share - RESERVED
            for context, tokenizer in self._vocabularies
        )

    @cached_property
    def _vocabularies(self) -> list[tuple[int, Tokenizer]]:
        return [(each.context, tokenizer_of(each, self._folder)) for each in self._deployments]


def _most(tokenizer: Tokenizer, text: str) -> float:
    counted = tokenizer.count(text)
    return counted if tokenizer.exact else counted * MARGIN
