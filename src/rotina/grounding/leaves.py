"""The leaf values of nested JSON, with their paths."""

from collections.abc import Iterator
from typing import Any, NamedTuple


class Leaf(NamedTuple):
    """One non-null leaf and the keys and array indices that lead to it."""

    tokens: tuple[str | int, ...]
    value: Any

    @property
    def pointer(self) -> str:
        """The path as a JSON Pointer (RFC 6901), e.g. `/lines/0/unit~1price`."""
        return "".join(f"/{_escape(token)}" for token in self.tokens)


def _escape(token: str | int) -> str:
    escaped = str(token).replace("~", "~0").replace("/", "~1")
    # A model may emit half a surrogate pair as a key; it has no place in a Unicode string.
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")


def leaves(value: Any) -> Iterator[Leaf]:
    """Non-null leaves in document order. Takes any depth of nesting."""
    waiting: list[Leaf] = [Leaf((), value)]
    while waiting:
        leaf = waiting.pop()
        if isinstance(leaf.value, dict):
            below = [Leaf((*leaf.tokens, str(key)), each) for key, each in leaf.value.items()]
            waiting.extend(reversed(below))
        elif isinstance(leaf.value, list | tuple):
            below = [Leaf((*leaf.tokens, index), each) for index, each in enumerate(leaf.value)]
            waiting.extend(reversed(below))
        elif leaf.value is not None:
            yield leaf
