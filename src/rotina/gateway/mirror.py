"""Mirroring: a share of the questions is asked of a second deployment too, for comparison.

Nobody waits for it and nobody sees its answers: the ledger has a row that points at the call it
repeats and says how alike the two answers are.
"""

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any

from rotina.gateway.answer import ChatAnswer

MOST_WORDS = 1000


def agreement(one: ChatAnswer, text: str, data: Any) -> float:
    """How alike two answers are, 0 to 1: of JSON the share of equal values, of texts that of their
    words in the same order."""
    if one.data is not None and data is not None:
        ours, theirs = dict(_leaves(one.data)), dict(_leaves(data))
        paths = ours.keys() | theirs.keys()
        same = sum(path in ours and path in theirs and ours[path] == theirs[path] for path in paths)
        return same / len(paths) if paths else 1.0
    words = one.text.split()[:MOST_WORDS], text.split()[:MOST_WORDS]
    return SequenceMatcher(None, *words, autojunk=False).ratio()


def _leaves(value: Any, path: str = "$") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from _leaves(part, f"{path}.{name}")
    elif isinstance(value, list) and value:
        for at, part in enumerate(value):
            yield from _leaves(part, f"{path}[{at}]")
    else:
        yield path, value
