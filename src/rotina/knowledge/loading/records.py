"""JSON and JSON lines: a line a value, under its path, so that every line can be read by itself.

`{"order": {"items": [{"name": "Pão"}]}}` becomes `order.items[0].name: Pão`. Numbers stay as they
are written, so that no digit is lost; of keys that occur twice, both are shown.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from rotina.errors import CorruptDocumentError, EmptyDocumentError
from rotina.knowledge.loading.charset import decode
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.text import Parsed, check_length

_PLAIN_KEY = re.compile(r"[^\W\d][\w-]*")
_NOTHING = object()


class _Number(str):
    """A number, or `NaN` and its like, as it is written."""

    __slots__ = ()


class _Pairs(list[tuple[str, Any]]):
    """An object's entries, in order."""


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Pairs,
    parse_float=_Number,
    parse_int=_Number,
    parse_constant=_Number,
    strict=False,  # a line end inside a string is read as one
)


def parse(content: bytes, limits: Limits) -> Parsed:
    """Read one JSON value, or several on lines of their own; one empty line parts records."""
    text, charset = decode(content)
    lines: list[str] = []
    length = 0
    for line in _lines(text):
        lines.append(line)
        length += len(line) + 1
        check_length(length, limits.max_text_chars)
    if not lines:
        raise EmptyDocumentError("the JSON holds no value: send the file again")
    return Parsed(["\n".join(lines)], metadata={"charset": charset})


def _lines(text: str) -> Iterator[str]:
    values = _values(text)
    first = next(values, _NOTHING)
    second = next(values, _NOTHING)
    if second is _NOTHING and not _is_list(first):
        yield from () if first is _NOTHING else _leaves("", first)
        return
    records = first if second is _NOTHING else _chained(first, second, values)
    for index, record in enumerate(records):  # type: ignore[arg-type, var-annotated]
        if index and _is_nested(record):
            yield ""
        yield from _leaves(f"[{index}]", record)


def _chained(first: object, second: object, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield second
    yield from rest


def _is_list(value: object) -> bool:
    return isinstance(value, list) and not isinstance(value, _Pairs)


def _is_nested(value: object) -> bool:
    return isinstance(value, list)


def _values(text: str) -> Iterator[Any]:
    """The values in the text, with nothing but white space between them."""
    place = _after_blanks(text, 0)
    while place < len(text):
        try:
            value, place = _DECODER.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise CorruptDocumentError(
                f"the JSON is wrong in line {error.lineno}, column {error.colno} ({error.msg}): "
                "correct it, or send it as .txt"
            ) from None
        except RecursionError:
            raise CorruptDocumentError(
                "the JSON is nested too deep to be read: flatten it, or send it as .txt"
            ) from None
        yield value
        place = _after_blanks(text, place)


def _after_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n\x1e\ufeff":  # RFC 7464 begins with \x1e
        place += 1
    return place


def _leaves(path: str, value: object) -> Iterator[str]:
    """Depth first, without recursion: nesting is the author's choice."""
    stack: list[Iterator[tuple[str, Any]]] = [iter([(path, value)])]
    while stack:
        here, each = next(stack[-1], (None, None))
        if here is None:
            stack.pop()
        elif isinstance(each, list) and each:
            stack.append(_below(here, each))
        elif here or not isinstance(each, list):
            yield f"{here}: {_shown(each)}" if here else _shown(each)


def _below(path: str, value: list[Any]) -> Iterator[tuple[str, Any]]:
    """What an object or an array holds, with its path."""
    if isinstance(value, _Pairs):
        return ((_joined(path, key), each) for key, each in value)
    return ((f"{path}[{index}]", each) for index, each in enumerate(value))


def _joined(path: str, key: str) -> str:
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, _Pairs):
        return "{}"
    if isinstance(value, list):
        return "[]"
    return json.dumps(value)
