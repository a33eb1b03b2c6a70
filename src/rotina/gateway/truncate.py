"""Truncation, where a caller has asked for it: what goes first, and what is never touched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from rotina.gateway.answer import Message

Policy = Literal["oldest", "middle"]

KEPT = 200
"""Characters that are left of a text at least."""
_FIXED = ("system", "developer")


@dataclass(frozen=True)
class Shortened:
    """What is left of a conversation."""

    messages: Sequence[Message]
    changed: int
    """How many messages are missing or cut."""
    weight: int
    """Of the messages that are left; more than the room where the policy could do no more."""


def shorten(
    messages: Sequence[Message],
    policy: Policy,
    room: int,
    weigh: Callable[[Message], int],
) -> Shortened:
    """The messages in `room` tokens, by `weigh`, or as near to it as the policy can bring them.

    `oldest` leaves out whole turns (a user's message and what follows it), the oldest first, then
    of the last turn its oldest tool calls, each with its results. System messages, the last
    question and the end of the conversation stay. `middle` goes on by cutting the middle out of
    the longest texts, system messages excepted.
    """
    weights = [weigh(message) for message in messages]
    total = sum(weights)
    left = dict(enumerate(messages))
    for group in _droppable(messages):
        if total <= room:
            break
        for at in group:
            total -= weights[at]
            del left[at]
    changed = len(messages) - len(left)
    if total > room and policy == "middle":
        cut, total = _cut_longest(left, room - total, weigh)
        left |= cut
        changed += len(cut)
        total = sum(weigh(message) for message in left.values())
    return Shortened(list(left.values()), changed, total)


def _droppable(messages: Sequence[Message]) -> list[list[int]]:
    """What may go, in the order in which it goes, each as the places of its messages."""
    turns: list[list[int]] = []
    for at, message in enumerate(messages):
        if message["role"] in _FIXED:
            continue
        if not turns or _begins_turn(messages, turns[-1], at):
            turns.append([])
        turns[-1].append(at)
    if not turns:
        return []
    return [*turns[:-1], *_steps(messages, turns[-1])[:-1]]


def _begins_turn(messages: Sequence[Message], turn: list[int], at: int) -> bool:
    """A user's message does, unless it follows another one at once."""
    return messages[at]["role"] == "user" and messages[turn[-1]]["role"] != "user"


def _steps(messages: Sequence[Message], turn: list[int]) -> list[list[int]]:
    """What follows the question in its turn: an assistant's message with its tools' results."""
    steps: list[list[int]] = []
    for at in turn:
        if messages[at]["role"] == "assistant":
            steps.append([])
        if steps:
            steps[-1].append(at)
    return steps


def _cut_longest(
    left: dict[int, Message], surplus: int, weigh: Callable[[Message], int]
) -> tuple[dict[int, Message], int]:
    """Texts without their middles, the longest first, until `surplus` (negative: too much) is 0."""
    cut: dict[int, Message] = {}
    texts = {
        at: message["content"]
        for at, message in left.items()
        if isinstance(message["content"], str) and message["role"] not in _FIXED
    }
    for at in sorted(texts, key=lambda at: -len(texts[at])):
        if surplus >= 0 or len(texts[at]) <= KEPT:
            break
        whole = weigh(left[at])
        shorter = _cut_middle(left[at], texts[at], whole + surplus, weigh)
        saved = whole - weigh(shorter)
        if saved > 0:  # the mark of the gap weighs something too
            cut[at] = shorter
            surplus += saved
    return cut, surplus


def _cut_middle(message: Message, text: str, room: int, weigh: Callable[[Message], int]) -> Message:
    """The longest version found, by bisection, that weighs at most `room`; or the shortest."""
    low, high = KEPT, len(text) - 1
    best = _without_middle(message, text, low)
    while low <= high:
        middle = (low + high) // 2
        candidate = _without_middle(message, text, middle)
        if weigh(candidate) <= room:
            best, low = candidate, middle + 1
        else:
            high = middle - 1
    return best


def _without_middle(message: Message, text: str, kept: int) -> Message:
    head = kept - kept // 2
    gap = f"\n[… {len(text) - kept} characters left out …]\n"
    return cast(
        "Message", {**message, "content": text[:head] + gap + text[len(text) - kept // 2 :]}
    )
