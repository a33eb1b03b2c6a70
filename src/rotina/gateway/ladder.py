"""How a schema is asked for: whole, reduced, or in words; and what a deployment was found to take.

A call begins with the most that its deployment may take and goes down where the server refuses.
"""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from rotina.errors import ModelError
from rotina.gateway.answer import ChatRequest, Message
from rotina.gateway.downlevel import Reduced, in_words, merges_without_end, reduced
from rotina.gateway.failure import excerpt
from rotina.gateway.lane import Lane
from rotina.gateway.structured import Contract, with_instruction, with_schema_in_prompt

log = logging.getLogger(__name__)

Level = Literal["whole", "reduced", "prompt"]

MOST_LEARNED = 1024
_NAMED = 8
"""Dropped keywords that the log names."""
_TELL_DROPPED = "The JSON value also follows these rules of its JSON Schema:\n"


class Learned:
    """What deployments were found to take; the schemas used last, bounded."""

    def __init__(self, size: int = MOST_LEARNED) -> None:
        self._size = size
        self._levels: OrderedDict[tuple[str, bytes], Level] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def get(self, key: tuple[str, bytes]) -> Level | None:
        """The level that worked, if the schema was refused before."""
        found = self._levels.get(key)
        if found is not None:
            self._levels.move_to_end(key)
        return found

    def keep(self, key: tuple[str, bytes], level: Level) -> bool:
        """Remember; returns whether that is news."""
        news = self._levels.get(key) != level
        self._levels[key] = level
        self._levels.move_to_end(key)
        if len(self._levels) > self._size:
            self._levels.popitem(last=False)
        return news


class Ladder:
    """One call's way down."""

    def __init__(
        self, wanted: ChatRequest, contract: Contract | None, lane: Lane, learned: Learned
    ) -> None:
        self._wanted = wanted
        self._lane = lane
        self._learned = learned
        self._key = (lane.name, _digest(contract))
        self._why = ""
        self._first: Level = _first(wanted, lane)
        self.level: Level = self._first
        if wanted.schema is None:
            return
        self.level = learned.get(self._key) or self._first
        if self.level == "whole" and merges_without_end(wanted.schema):
            self.descend("it refers to itself through allOf")

    @property
    def fenced(self) -> bool:
        """Whether the server may put a code fence around its answer."""
        return self.level == "prompt" or self._lane.deployment.structured_output == "tool"

    def request(self, said: Sequence[Message] = ()) -> ChatRequest:
        """The request at this level; `said` follows the caller's messages."""
        wanted = self._wanted
        if said:
            wanted = replace(wanted, messages=[*wanted.messages, *said])
        if wanted.schema is None or self.level == "whole":
            return wanted
        if self.level == "prompt":
            messages = with_schema_in_prompt(wanted.messages, wanted.schema)
            return replace(wanted, messages=messages, schema=None)
        found = reduced(wanted.schema)
        words = in_words(found.dropped)
        if words:
            messages = with_instruction(wanted.messages, _TELL_DROPPED + words)
            wanted = replace(wanted, messages=messages)
        return replace(wanted, schema=found.schema)

    def descend(self, why: ModelError | str) -> bool:
        """Go one level down; False when there is none."""
        if self._wanted.schema is None or self.level == "prompt":
            return False
        self._why = str(why)
        useful = self.level == "whole" and _differs(self._wanted.schema)
        self.level = "reduced" if useful else "prompt"
        return True

    def worked(self) -> None:
        """The server takes it like this: the next call begins here."""
        if self._wanted.schema is None or self.level == self._first:
            return
        if not self._learned.keep(self._key, self.level):
            return
        log.warning(
            "%s does not take the schema %r as it is (%s): from now on it is %s",
            self._lane,
            self._wanted.schema_name,
            excerpt(self._why),
            _how(self.level, self._wanted.schema),
        )


def _first(wanted: ChatRequest, lane: Lane) -> Level:
    mode = lane.deployment.structured_output
    if mode == "prompt":
        return "prompt"
    # A tool's arguments are an object, and another tool cannot be forced beside the caller's.
    if mode == "tool" and (wanted.tools or not _is_object(wanted.schema)):
        return "prompt"
    return "whole"


def _is_object(schema: Mapping[str, Any] | None) -> bool:
    return schema is not None and schema.get("type") == "object"


def _differs(schema: Mapping[str, Any]) -> bool:
    return reduced(schema).schema != schema


def _how(level: Level, schema: Mapping[str, Any]) -> str:
    if level == "prompt":
        return "asked for in the prompt"
    return f"sent without {_list(reduced(schema))}, which the prompt asks for"


def _list(found: Reduced) -> str:
    names = [f"{each.keyword} at {each.at}" for each in found.dropped]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (", ".join(names[:_NAMED]) or "what it does not need") + more


def _digest(contract: Contract | None) -> bytes:
    text = "" if contract is None else contract.text
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=16).digest()
