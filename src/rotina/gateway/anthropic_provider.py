"""Anthropic's API through `langchain-anthropic` (the extra `rotina[anthropic]`)."""

import json
import os
from collections.abc import (
    AsyncGenerator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from yarl import URL

from rotina.errors import ModelError, ModelRequestError, ModelUnreachableError, SettingsError
from rotina.gateway.answer import ChatChunk, ChatRequest, EmbeddingReply, Reply, Usage
from rotina.gateway.failure import Endpoint, refusal
from rotina.gateway.http import CONNECT_SECONDS
from rotina.settings import Deployment

if TYPE_CHECKING:
    from anthropic import APIStatusError, AsyncAnthropic
    from langchain_anthropic import ChatAnthropic
    from langchain_core.messages import AIMessage, AIMessageChunk

_URL = "https://api.anthropic.com"
_MAX_TOKENS = 8192
"""Anthropic requires a limit; an answer that reaches it is an error, not a success."""
_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


class AnthropicProvider:
    """One deployment of Anthropic's API; see `Provider`.

    A schema is asked for as a tool that the model must call: every model can, and the tool's
    arguments are the answer.
    """

    def __init__(self, name: str, deployment: Deployment) -> None:
        """Raises `SettingsError` when the extra or the key is missing."""
        key = deployment.secret() or os.environ.get("ANTHROPIC_API_KEY")
        if not key:
            raise SettingsError(
                f"deployments.{name} has no key: set api_key_env, or export ANTHROPIC_API_KEY"
            )
        base_url = deployment.base_url.get_secret_value() if deployment.base_url else _URL
        self._endpoint = Endpoint(name, URL(base_url), key)
        try:
            self._model, self._client = _open(deployment.model, base_url, key)
        except ImportError as error:
            raise SettingsError(
                f"deployments.{name}.provider is 'anthropic', whose client is not installed "
                f"({error.name}): pip install 'rotina[anthropic]'"
            ) from None

    async def chat(self, request: ChatRequest) -> Reply:
        """One complete answer."""
        from langchain_core.messages import convert_to_messages  # noqa: PLC0415 - heavy

        with self._errors():
            messages = convert_to_messages([dict(message) for message in request.messages])
            message = await self._model.ainvoke(messages, **_options(request))
        return self._reply(message, request)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """The answer in pieces; the last one has the finish reason and the usage."""
        from langchain_core.messages import convert_to_messages  # noqa: PLC0415 - heavy

        whole: AIMessageChunk | None = None
        messages = convert_to_messages([dict(message) for message in request.messages])
        stream: Any = self._model.astream(messages, **_options(request))
        with self._errors():
            async with aclosing(stream):
                async for piece in stream:
                    whole = piece if whole is None else whole + piece
                    yield _chunk(piece, as_text=request.schema is not None)
        if whole is not None:
            reply = self._reply(whole, request)
            yield ChatChunk(finish_reason=reply.finish_reason, usage=reply.usage, model=reply.model)

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        """Not offered: raises `ModelRequestError`."""
        raise ModelRequestError(
            f"{self._endpoint} has no embeddings for {len(texts)} texts: "
            "point the route `embed` at another deployment"
        )

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import anthropic  # noqa: PLC0415 - an extra

        try:
            yield
        except anthropic.APIStatusError as error:
            raise self._status_error(error) from None
        except anthropic.APIConnectionError as error:
            raise ModelUnreachableError(
                f"The connection to {self._endpoint} failed ({type(error).__name__}): "
                "is base_url right, and the server reachable?"
            ) from None

    def _status_error(self, error: "APIStatusError") -> ModelError:
        body = json.dumps(error.body, default=str).encode()
        after = error.response.headers.get("Retry-After")
        return refusal(error.status_code, after, body, self._endpoint)

    def _reply(self, message: "AIMessage", request: ChatRequest) -> Reply:
        metadata = message.response_metadata
        reason = metadata.get("stop_reason") or metadata.get("finish_reason")
        reason = _FINISH_REASONS.get(reason, reason) if reason else None
        text, calls = message.text, _wire_calls(message.tool_calls)
        if request.schema is not None and calls:
            # The tool stood for the schema, so its arguments are the text and the end is normal.
            text, calls = calls[0]["function"]["arguments"], ()
            reason = "stop" if reason == "tool_calls" else reason
        return Reply(
            text=text,
            finish_reason=reason,
            model=metadata.get("model_name") or metadata.get("model"),
            usage=_usage(message),
            tool_calls=calls,
        )


def _open(model: str, base_url: str, key: str) -> "tuple[ChatAnthropic, AsyncAnthropic]":
    import anthropic  # noqa: PLC0415 - an extra
    from langchain_anthropic import ChatAnthropic  # noqa: PLC0415 - an extra

    # The gateway retries and keeps the time, so the client does neither.
    client = anthropic.AsyncAnthropic(
        api_key=key,
        base_url=base_url,
        max_retries=0,
        timeout=anthropic.Timeout(None, connect=CONNECT_SECONDS),
    )
    settings: dict[str, Any] = {
        "model": model,
        "api_key": key,
        "base_url": base_url,
        "max_retries": 0,
        "max_tokens": _MAX_TOKENS,
    }
    chat_model = ChatAnthropic(**settings)
    # Its own client comes from a cache of the process: it would outlive the event loop that it
    # belongs to, and closing it would close it for everybody.
    chat_model.__dict__["_async_client"] = client
    return chat_model, client


def _options(request: ChatRequest) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if request.temperature is not None:
        options["temperature"] = request.temperature
    if request.max_tokens is not None:
        options["max_tokens"] = request.max_tokens
    if request.stop:
        options["stop"] = list(request.stop)
    return options | _tool_options(request)


def _tool_options(request: ChatRequest) -> dict[str, Any]:
    """Tools in Anthropic's form, which `ChatAnthropic` sends as it is."""
    if request.schema is not None:
        tool = {"name": request.schema_name, "input_schema": dict(request.schema)}
        return {"tools": [tool], "tool_choice": {"type": "tool", "name": request.schema_name}}
    if not request.tools:
        return {}
    options: dict[str, Any] = {"tools": [_anthropic_tool(t["function"]) for t in request.tools]}
    if request.tool_choice is not None:
        options["tool_choice"] = _anthropic_choice(request.tool_choice)
    return options


def _anthropic_tool(function: Mapping[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {"type": "object", "properties": {}}
    tool = {"name": function["name"], "input_schema": function.get("parameters") or empty}
    if function.get("description"):
        tool["description"] = function["description"]
    return tool


def _anthropic_choice(choice: str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(choice, str):
        return {"type": {"required": "any"}.get(choice, choice)}
    return {"type": "tool", "name": choice["function"]["name"]}


def _wire_calls(calls: Iterable[Any]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "id": call["id"],
            "type": "function",
            "function": {
                "name": call["name"],
                "arguments": json.dumps(call["args"], ensure_ascii=False),
            },
        }
        for call in calls
    )


def _chunk(piece: "AIMessageChunk", *, as_text: bool) -> ChatChunk:
    if as_text:
        arguments = "".join(call["args"] or "" for call in piece.tool_call_chunks)
        return ChatChunk(text=piece.text + arguments)
    calls = [
        {
            "index": call["index"],
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": call["args"]},
        }
        for call in piece.tool_call_chunks
    ]
    return ChatChunk(text=piece.text, tool_calls=tuple(calls))


def _usage(message: "AIMessage") -> Usage:
    given = message.usage_metadata
    if given is None:
        return Usage()
    details = given.get("input_token_details") or {}
    return Usage(
        # LangChain fills in zero for what the server left out; no prompt has zero tokens.
        prompt_tokens=given["input_tokens"] or None,
        completion_tokens=given["output_tokens"],
        cached_tokens=details.get("cache_read"),
    )
