"""The output of a Responses answer: its items, and the events in which they come."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from uuid_utils.compat import uuid7

from rotina.gateway import ChatAnswer, ChatChunk, Usage
from rotina.server.gateway.response_forms import ResponseRequest

Event = dict[str, Any]

_CUT = {"length": "max_output_tokens", "max_tokens": "max_output_tokens"}
_INCOMPLETE = {**_CUT, "content_filter": "content_filter"}
"""Finish reasons, and what the protocol calls them."""

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class Head:
    """What all forms of one response share."""

    def __init__(self, wanted: ResponseRequest) -> None:
        self._id = f"resp_{uuid7().hex}"
        self._created = int(time.time())
        self._echoed = wanted.echoed()
        self.model = wanted.model

    def body(
        self,
        status: Status,
        output: list[dict[str, Any]],
        *,
        usage: Usage | None = None,
        reason: str | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The response object; `reason` says why it is incomplete."""
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": error,
            "incomplete_details": None if reason is None else {"reason": reason},
            "model": self.model,
            "output": output,
            "usage": usage_form(usage),
            **self._echoed,
        }


def response_of(wanted: ResponseRequest, answer: ChatAnswer) -> dict[str, Any]:
    """A whole answer."""
    head, output = Head(wanted), Output()
    head.model = answer.model
    calls = tuple({"index": at, **call} for at, call in enumerate(answer.tool_calls))
    chunk = ChatChunk(text=answer.text, refusal=answer.refusal, tool_calls=calls)
    for _ in output.add(chunk):
        pass
    reason = _INCOMPLETE.get(answer.finish_reason)
    status: Status = "completed" if reason is None else "incomplete"
    items = [item.form(status) for item in output.items]
    return head.body(status, items, usage=answer.usage, reason=reason)


def incomplete_reason(finish_reason: str | None) -> str | None:
    """Why an answer is not complete, in the protocol's words; None where it is."""
    return _INCOMPLETE.get(finish_reason or "")


def usage_form(usage: Usage | None) -> dict[str, Any] | None:
    """None where the model server did not say."""
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": 0,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


@dataclass
class _Text:
    """A message with one part: a text, or a refusal."""

    at: int
    kind: Literal["output_text", "refusal"]
    said: list[str] = field(default_factory=list)
    id: str = field(default_factory=lambda: f"msg_{uuid7().hex}")

    def part(self, text: str) -> dict[str, Any]:
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def form(self, status: Status) -> dict[str, Any]:
        content = [] if status == "in_progress" else [self.part("".join(self.said))]
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _event(self, name: str, **more: Any) -> Event:
        place = {"item_id": self.id, "output_index": self.at, "content_index": 0}
        return {"type": f"response.{name}", **place, **more}

    def opening(self) -> Iterator[Event]:
        yield _added(self)
        yield self._event("content_part.added", part=self.part(""))

    def more(self, text: str) -> Event:
        self.said.append(text)
        extra: Event = {"logprobs": []} if self.kind == "output_text" else {}
        return self._event(f"{self.kind}.delta", delta=text, **extra)

    def closing(self, status: Status) -> Iterator[Event]:
        text = "".join(self.said)
        if self.kind == "refusal":
            yield self._event("refusal.done", refusal=text)
        else:
            yield self._event("output_text.done", text=text, logprobs=[])
        yield self._event("content_part.done", part=self.part(text))
        yield _done(self, status)


@dataclass
class _Function:
    """A call of a function."""

    at: int
    call_id: str
    name: str = ""
    said: list[str] = field(default_factory=list)
    id: str = field(default_factory=lambda: f"fc_{uuid7().hex}")

    def form(self, status: Status) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "function_call",
            "call_id": self.call_id,
            "name": self.name,
            "arguments": "" if status == "in_progress" else "".join(self.said),
            "status": status,
        }

    def opening(self) -> Iterator[Event]:
        yield _added(self)

    def more(self, text: str) -> Event:
        self.said.append(text)
        place = {"item_id": self.id, "output_index": self.at}
        return {"type": "response.function_call_arguments.delta", **place, "delta": text}

    def closing(self, status: Status) -> Iterator[Event]:
        place = {"item_id": self.id, "output_index": self.at}
        arguments = "".join(self.said)
        kind = "response.function_call_arguments.done"
        yield {"type": kind, **place, "arguments": arguments}
        yield _done(self, status)


def _added(item: _Text | _Function) -> Event:
    kind = "response.output_item.added"
    return {"type": kind, "output_index": item.at, "item": item.form("in_progress")}


def _done(item: _Text | _Function, status: Status) -> Event:
    kind = "response.output_item.done"
    return {"type": kind, "output_index": item.at, "item": item.form(status)}


class Output:
    """The items of an answer while they come."""

    def __init__(self) -> None:
        self.items: list[_Text | _Function] = []
        self._texts: dict[str, _Text] = {}
        self._functions: dict[int, _Function] = {}

    def add(self, chunk: ChatChunk) -> Iterator[Event]:
        """The events of one piece."""
        if chunk.text:
            yield from self._write("output_text", chunk.text)
        if chunk.refusal:
            yield from self._write("refusal", chunk.refusal)
        for piece in chunk.tool_calls:
            yield from self._call(piece)

    def closing(self, status: Status) -> Iterator[Event]:
        """The events that end every item."""
        for item in self.items:
            yield from item.closing(status)

    def forms(self, status: Status) -> list[dict[str, Any]]:
        """The items as a response has them."""
        return [item.form(status) for item in self.items]

    def _write(self, kind: Literal["output_text", "refusal"], text: str) -> Iterator[Event]:
        item = self._texts.get(kind)
        if item is None:
            item = self._texts[kind] = _Text(len(self.items), kind)
            self.items.append(item)
            yield from item.opening()
        yield item.more(text)

    def _call(self, piece: Mapping[str, Any]) -> Iterator[Event]:
        index = piece.get("index", len(self._functions))
        function = piece.get("function") or {}
        item = self._functions.get(index)
        if item is None:
            call_id = piece.get("id") or f"call_{uuid7().hex}"
            item = _Function(len(self.items), call_id, function.get("name") or "")
            self._functions[index] = item
            self.items.append(item)
            yield from item.opening()
        if arguments := function.get("arguments"):
            yield item.more(arguments)
