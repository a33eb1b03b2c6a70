"""What a deployment can do, found out by asking it."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from rotina.errors import ModelOutputError, RotinaError
from rotina.gateway.answer import Message, Usage
from rotina.gateway.gateway import Gateway
from rotina.settings import Deployment, Route, Settings

Ability = Literal["chat", "stream", "json_schema", "tools", "vision", "embeddings", "rerank"]
Purpose = Literal["chat", "embeddings", "rerank"]
"""What a deployment is for."""

_ROUTE = "probe"
_ANSWER = 512
"""Tokens: enough for the thoughts of a model that thinks before it says ok."""
_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "letters": {"type": "integer"}},
    "required": ["city", "letters"],
    "additionalProperties": False,
}
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
_PIXELS = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAFklEQVR42mP4z8BAEmIY1TCqYfhqAACQ"
    "+f8B8u7oVwAAAABJRU5ErkJggg=="
)
"""A red square of 16 by 16 pixels."""


@dataclass(frozen=True)
class Probed:
    """One thing that a deployment was asked for."""

    ability: Ability
    works: bool
    detail: str
    """What came, or the error."""
    seconds: float
    usage: Usage


def alone(settings: Settings, name: str) -> Settings:
    """Settings in which one deployment is asked for everything, whatever it is declared to do."""
    deployment = settings.deployments[name]
    free = deployment.model_copy(update={"capabilities": None, "structured_output": "json_schema"})
    return settings.model_copy(
        update={
            "deployments": {name: free},
            "routes": {_ROUTE: Route(deployments=[name])},
            "tenant_tags": {},
            "budgets": {},
        }
    )


async def probe(settings: Settings, name: str, *, timeout: float = 120.0) -> AsyncIterator[Probed]:
    """Ask a deployment for one thing after the other; `timeout` seconds each. Costs tokens.

    Chat and embeddings come first: a model that has none of them is not asked for more. Vision is
    tried only where it is declared, and reranking where it is, or where nothing is declared and
    there is no chat. A declared reranker is asked for nothing else but declared embeddings: such
    servers answer other questions too, with nonsense. Raises nothing: errors are the outcome.
    """
    declared = settings.deployments[name].capabilities
    async with Gateway(alone(settings, name)) as gateway:
        if declared is not None and "rerank" in declared:
            yield await _attempt("rerank", lambda: _rerank(gateway, timeout))
            if "embeddings" in declared:
                yield await _attempt("embeddings", lambda: _embed(gateway, timeout))
            return
        chat = await _attempt("chat", lambda: _chat(gateway, timeout))
        embeddings = await _attempt("embeddings", lambda: _embed(gateway, timeout))
        yield chat
        if chat.works:
            yield await _attempt("stream", lambda: _stream(gateway, timeout))
            yield await _attempt("json_schema", lambda: _json(gateway, timeout))
            yield await _attempt("tools", lambda: _tools(gateway, timeout))
            if "vision" in (declared or ()):
                yield await _attempt("vision", lambda: _see(gateway, timeout))
        yield embeddings
        if declared is None and not chat.works:
            yield await _attempt("rerank", lambda: _rerank(gateway, timeout))


async def try_once(
    settings: Settings, name: str, purpose: Purpose = "chat", *, timeout: float = 120.0
) -> str:
    """What came of one call to a model that is there for `purpose`. Raises its error."""
    ask = {"chat": _chat, "embeddings": _embed, "rerank": _rerank}[purpose]
    async with Gateway(alone(settings, name)) as gateway:
        detail, _ = await ask(gateway, timeout)
    return detail if purpose == "chat" else f"gives {detail}"


def failures(deployment: Deployment, found: list[Probed]) -> list[str]:
    """What is declared and does not work; where nothing is declared, that nothing works at all.

    A deployment that is declared for embeddings, and fails in chat, is one for embeddings; one that
    is declared to rerank is for that.
    """
    works = {each.ability for each in found if each.works}
    declared = deployment.capabilities
    if declared is None:
        return [] if works else ["chat"]
    reranks = "rerank" in declared
    tried: set[str] = {"rerank", "embeddings"}
    wanted: set[str] = (tried if reranks else tried | {"json_schema", "tools", "vision"}) & declared
    if not wanted & tried:
        wanted |= {"chat", "stream"}
    return sorted(wanted - works)


async def _attempt(ability: Ability, ask: Callable[[], Awaitable[tuple[str, Usage]]]) -> Probed:
    started = time.perf_counter()
    try:
        detail, usage = await ask()
        works = True
    except RotinaError as error:
        detail, usage, works = f"{type(error).__name__}: {error}", Usage(), False
    return Probed(ability, works, detail, time.perf_counter() - started, usage)


def _say(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


async def _chat(gateway: Gateway, timeout: float) -> tuple[str, Usage]:
    answer = await gateway.chat(_say("Say ok."), route=_ROUTE, max_tokens=_ANSWER, timeout=timeout)
    return f"answers as {answer.model}", answer.usage


async def _stream(gateway: Gateway, timeout: float) -> tuple[str, Usage]:
    pieces, usage = 0, Usage()
    asked = _say("Count from one to ten.")
    stream = gateway.stream(asked, route=_ROUTE, max_tokens=_ANSWER, timeout=timeout)
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            pieces += bool(chunk.text)
            usage = chunk.usage or usage
    return f"{pieces} pieces", usage


async def _json(gateway: Gateway, timeout: float) -> tuple[str, Usage]:
    asked = _say("Name a city and how many letters its name has.")
    answer = await gateway.chat(
        asked, route=_ROUTE, schema=_SCHEMA, schema_name="city", max_tokens=_ANSWER, timeout=timeout
    )
    return "follows a schema", answer.usage


async def _tools(gateway: Gateway, timeout: float) -> tuple[str, Usage]:
    answer = await gateway.chat(
        _say("What is the weather in Lisbon now? Call get_weather."),
        route=_ROUTE,
        tools=[_TOOL],
        max_tokens=_ANSWER,
        timeout=timeout,
    )
    called = [_called(call) for call in answer.tool_calls]
    if not called:
        raise ModelOutputError("it answered in words and called no tool")
    return f"calls {called[0]}", answer.usage


def _called(call: dict[str, Any]) -> str:
    function = call.get("function", {})
    try:
        arguments = json.loads(function.get("arguments") or "")
    except ValueError:
        raise ModelOutputError("the arguments of its tool call are no JSON") from None
    if function.get("name") != "get_weather" or not isinstance(arguments, dict):
        raise ModelOutputError("it called another tool than the one that was offered")
    return f"get_weather({', '.join(arguments)})"


async def _see(gateway: Gateway, timeout: float) -> tuple[str, Usage]:
    image = {"type": "image_url", "image_url": {"url": _PIXELS}}
    text = {"type": "text", "text": "Which colour is this?"}
    answer = await gateway.chat(
        [Message(role="user", content=[text, image])],
        route=_ROUTE,
        max_tokens=_ANSWER,
        timeout=timeout,
    )
    return "takes an image", answer.usage


async def _embed(gateway: Gateway, timeout: float) -> tuple[str, Usage]:
    given = await gateway.embed(["one", "dois"], route=_ROUTE, timeout=timeout)
    return f"{len(given.vectors[0])} dimensions", given.usage


async def _rerank(gateway: Gateway, timeout: float) -> tuple[str, Usage]:
    documents = ["A cat sleeps most of the day.", "Paris is the capital of France."]
    asked = "What is the capital of France?"
    found = await gateway.rerank(asked, documents, route=_ROUTE, timeout=timeout)
    best, worst = (each.score for each in found.results)
    told = f"scores {worst:.3g} and {best:.3g}"
    if best > 1 or worst < 0:
        told += " (logits: the option rerank_logits brings them to 0 to 1)"
    return told, found.usage
