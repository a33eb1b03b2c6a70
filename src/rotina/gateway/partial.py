"""The JSON value of an answer while it is being streamed."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from pydantic_core import from_json

from rotina.gateway.answer import ChatChunk
from rotina.gateway.structured import Contract

_OPENING = re.compile(r"\A\s*```[\w+-]*[ \t]*\n")
_NOTHING = object()


class Growing:
    """A JSON value that grows with its text."""

    def __init__(self) -> None:
        self._text = ""
        self._last: Any = _NOTHING

    def grown(self, piece: str) -> bool:
        """Add a piece of text; whether there is another value than before.

        Of a string or a number at the end more may come; a name without a value is left out.
        """
        self._text += piece
        begun = _OPENING.sub("", self._text)
        try:
            value = from_json(begun, allow_inf_nan=False, allow_partial="trailing-strings")
        except ValueError:
            # Nothing of it is JSON yet, or a fence has ended it; what counts is checked at the end.
            return False
        return self.becomes(value)

    def becomes(self, value: Any) -> bool:
        """Whether that is another value than before."""
        if self._last is not _NOTHING and _same(self._last, value):
            return False
        self._last = value
        return True

    @property
    def value(self) -> Any:
        """The value as it is."""
        return self._last

    @property
    def text(self) -> str:
        """All pieces."""
        return self._text


async def values(
    pieces: AsyncGenerator[ChatChunk, None], contract: Contract
) -> AsyncGenerator[Any, None]:
    """The values that a streamed answer grows through; the last is the whole one.

    Closes `pieces`. What makes the answer unusable is raised by them, after their last piece.
    """
    growing = Growing()
    async with aclosing(pieces):
        async for piece in pieces:
            if piece.text and growing.grown(piece.text):
                yield growing.value
    whole = contract.examine(growing.text, fenced=True)
    if whole.is_json and growing.becomes(whole.data):
        yield whole.data


def _same(one: Any, other: Any) -> bool:
    """Equal in JSON, where 1 and true are two values."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)
