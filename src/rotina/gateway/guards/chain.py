"""The guards of a route around one call: on the request in order, on the answer in reverse."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rotina.gateway.answer import ChatChunk, ChatRequest, Reply
from rotina.gateway.check import Assembly
from rotina.gateway.guards.guard import Guard, Passage, Size, make
from rotina.gateway.guards.pii import require_presidio
from rotina.gateway.guards.vault import Restorer, Vault
from rotina.gateway.guards.walk import Change, in_calls, in_json, in_message
from rotina.gateway.structured import FENCED
from rotina.settings import Settings

LONG = 5_000
"""Characters from which texts are looked at in a thread, so that other calls go on."""


class Guards:
    """The chains of a gateway's routes, made when first needed."""

    def __init__(self, settings: Settings) -> None:
        """Raises `SettingsError` where a route needs an extra that is not installed."""
        self._settings = settings
        self._chains: dict[str, Chain] = {}
        used = {name for route in settings.routes.values() for name in route.guards}
        pii = any(settings.guards[name].kind == "pii" for name in used)
        if pii or settings.store_prompts == "redacted":
            require_presidio()

    async def chain(self, route: str) -> "Chain | None":
        """A route's; None where it has no guards."""
        declared = self._settings.routes.get(route)
        if declared is None or not declared.guards:
            return None
        if route not in self._chains:
            # Seconds, the first time: Presidio is large.
            self._chains[route] = await asyncio.to_thread(self._make, declared.guards)
        return self._chains[route]

    def tables(self, route: str) -> list[Mapping[str, Any]]:
        """What a cached answer of the route depends on, besides its question."""
        names = self._settings.routes[route].guards
        return [self._settings.guards[name].model_dump(mode="json") for name in names]

    def _make(self, names: Sequence[str]) -> "Chain":
        return Chain([make(name, self._settings.guards[name]) for name in names])


class Chain:
    """The guards of one route."""

    def __init__(self, guards: Sequence[Guard]) -> None:
        self.input = [guard for guard in guards if "input" in guard.on]
        inner = [guard for guard in reversed(guards) if "output" in guard.on]
        # What is counted is what the caller gets.
        self.output = sorted(inner, key=lambda guard: isinstance(guard, Size))

    async def begin(self, wanted: ChatRequest) -> "Guarded":
        """The request as it may be sent. Raises `GuardError`."""
        read = _Collected()
        for message in wanted.messages:
            in_message(message, read)
        beside = json.dumps([wanted.tools, wanted.schema], default=str, ensure_ascii=False)
        vault = Vault([*read.texts, beside])
        passage = Passage("input", vault, len(wanted.messages))
        texts = iter(await _through(self.input, read.texts, passage))
        messages = [in_message(message, lambda _: next(texts)) for message in wanted.messages]
        return Guarded(self, replace(wanted, messages=messages), vault)

    async def texts(self, texts: Sequence[str]) -> list[str]:
        """Texts to be embedded, each by itself: its vector does not hang on those beside it.

        What would be restored is redacted. Raises `GuardError`.
        """

        def apart() -> list[str]:
            passage = Passage("input", None)
            return [_each(self.input, [text], passage)[0] for text in texts]

        long = sum(map(len, texts)) > LONG
        return await asyncio.to_thread(apart) if long else apart()


class Guarded:
    """One call with its guards."""

    def __init__(self, chain: Chain, request: ChatRequest, vault: Vault) -> None:
        self.request = request
        """What is sent."""
        self._chain = chain
        self._vault = vault

    async def given(self, reply: Reply, *, as_json: bool) -> Reply:
        """The reply as the caller gets it. Raises `GuardError`."""
        return await self._reply(reply, as_json=as_json)

    def masked(self, text: str) -> str:
        """`text` as errors, judges and models may see it: with placeholders."""
        return self._vault.masked(text) if self._vault else text

    def shown(self, reply: Reply) -> Reply:
        """The reply with placeholders."""
        refusal = reply.refusal and self.masked(reply.refusal)
        return replace(reply, text=self.masked(reply.text), refusal=refusal)

    async def pieces(
        self, chunks: AsyncGenerator[ChatChunk, None], *, as_json: bool
    ) -> AsyncGenerator[ChatChunk, None]:
        """A stream as the caller gets it; in one piece where a guard has to see it whole."""
        async with contextlib.aclosing(chunks):
            if any(guard.waits for guard in self._chain.output):
                whole = await self._whole(chunks, as_json=as_json)
                # An answer of nothing is none that was begun: another deployment may be asked.
                if whole != ChatChunk():
                    yield whole
                return
            flow = _Flow(self._vault, self._chain.output, as_json=as_json)
            async for chunk in chunks:
                yield flow.feed(chunk)
            last = flow.end()
            if last is not None:
                yield last

    async def _whole(self, chunks: AsyncGenerator[ChatChunk, None], *, as_json: bool) -> ChatChunk:
        whole, usage = Assembly(), None
        async for chunk in chunks:
            whole.add(chunk)
            usage = chunk.usage or usage
        reply = whole.reply()
        reply = replace(reply, tool_calls=tuple(joined(reply.tool_calls)))
        reply = await self._reply(reply, as_json=as_json)
        return ChatChunk(
            text=reply.text,
            tool_calls=tuple({"index": at, **call} for at, call in enumerate(reply.tool_calls)),
            finish_reason=reply.finish_reason,
            usage=usage,
            model=reply.model,
            refusal=reply.refusal,
        )

    async def _reply(self, reply: Reply, *, as_json: bool) -> Reply:
        read = _Collected()
        _in_reply(reply, read, as_json=as_json)
        texts = iter(await _through(self._chain.output, read.texts, Passage("output", self._vault)))
        return _in_reply(reply, lambda _: next(texts), as_json=as_json)


class _Flow:
    """A streamed answer: its text, and the arguments of each tool call."""

    def __init__(self, vault: Vault, guards: Sequence[Guard], *, as_json: bool) -> None:
        self._vault = vault
        self._sizes = [guard for guard in guards if isinstance(guard, Size)]
        restores = any(not isinstance(guard, Size) for guard in guards)
        self._make: Callable[[bool], Restorer] | None = None
        if restores and vault:
            self._make = lambda in_json: Restorer(vault, in_json=in_json)
        self._text = self._make(as_json) if self._make else None
        self._refusal = self._make(False) if self._make else None  # noqa: FBT003 - as below
        self._calls: dict[int, Restorer] = {}
        self._given = 0

    def feed(self, chunk: ChatChunk) -> ChatChunk:
        """The next piece; one that ends the answer brings what was kept back."""
        text, calls, refusal = chunk.text, list(chunk.tool_calls), chunk.refusal
        if self._text is not None:
            text = self._text.feed(text)
            calls = [self._call(call) for call in calls]
        if self._refusal is not None and refusal:
            # Refusals are short: one that breaks off within a placeholder shows the placeholder.
            refusal = self._refusal.feed(refusal)
        if chunk.finish_reason is not None:
            left, late = self._rest()
            text, calls = text + left, [*calls, *late]
            refusal = (refusal or "") + (self._refusal.end() if self._refusal else "") or None
        self._count(text, calls)
        update = {"text": text, "tool_calls": tuple(calls), "refusal": refusal}
        return chunk.model_copy(update=update)

    def end(self) -> ChatChunk | None:
        """What is left of a stream that ended without saying so."""
        text, calls = self._rest()
        self._count(text, calls)
        return ChatChunk(text=text, tool_calls=tuple(calls)) if text or calls else None

    def _rest(self) -> tuple[str, list[dict[str, Any]]]:
        text = "" if self._text is None else self._text.end()
        ends = [(index, restorer.end()) for index, restorer in self._calls.items()]
        return text, [
            {"index": index, "function": {"arguments": end}} for index, end in ends if end
        ]

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        function = call.get("function")
        if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
            return dict(call)
        assert self._make is not None
        index = int(call.get("index") or 0)
        if index not in self._calls:
            self._calls[index] = self._make(True)  # noqa: FBT003 - the only one it has
        arguments = self._calls[index].feed(function["arguments"])
        return {**call, "function": {**function, "arguments": arguments}}

    def _count(self, text: str, calls: Iterable[Mapping[str, Any]]) -> None:
        self._given += len(text) + sum(
            len((call.get("function") or {}).get("arguments") or "") for call in calls
        )
        for size in self._sizes:
            size.check(self._given, "output")


class _Collected:
    """Keeps the texts it is shown."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str) -> str:
        self.texts.append(text)
        return text


def joined(pieces: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Whole tool calls out of a stream's pieces, in OpenAI's wire form."""
    calls: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        index = int(piece.get("index") or 0)
        call = calls.setdefault(index, {"index": index, "function": {"arguments": ""}})
        function = piece.get("function") or {}
        call.update({key: value for key, value in piece.items() if key != "function" and value})
        whole = call["function"]
        whole.update(
            {key: value for key, value in function.items() if key != "arguments" and value}
        )
        whole["arguments"] += function.get("arguments") or ""
    return [calls[index] for index in sorted(calls)]


async def _through(guards: Sequence[Guard], texts: list[str], passage: Passage) -> list[str]:
    if sum(map(len, texts)) > LONG:
        return await asyncio.to_thread(_each, guards, texts, passage)
    return _each(guards, texts, passage)


def _each(guards: Sequence[Guard], texts: Sequence[str], passage: Passage) -> list[str]:
    found = list(texts)
    for guard in guards:
        found = guard.texts(found, passage)
    return found


def _in_reply(reply: Reply, change: Change, *, as_json: bool) -> Reply:
    calls = tuple(in_calls(reply.tool_calls, change))
    fenced = FENCED.match(reply.text) if as_json else None
    if fenced:
        body = in_json(fenced["body"], change)
        text = reply.text[: fenced.start("body")] + body + reply.text[fenced.end("body") :]
    else:
        text = in_json(reply.text, change) if as_json else change(reply.text)
    refusal = reply.refusal and change(reply.refusal)
    return replace(reply, text=text, tool_calls=calls, refusal=refusal)
