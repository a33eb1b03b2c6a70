"""The OpenAI wire protocol: OpenAI, vLLM, SGLang, llama.cpp, TGI, Ollama and what is compatible."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

from yarl import URL

from rotina.errors import ModelError, ModelOutputError
from rotina.gateway.answer import ChatChunk, ChatRequest, EmbeddingReply, Reply, Usage
from rotina.gateway.failure import Endpoint, error_in_body, refusal, unsupported_parameter
from rotina.gateway.http import MAX_RESPONSE_BYTES, Server, Sessions
from rotina.gateway.provider import RefusedError
from rotina.gateway.sse import read_events
from rotina.gateway.structured import response_format
from rotina.settings import OPENAI_URL, Deployment

log = logging.getLogger(__name__)

Json = Any

_DRAIN_SECONDS = 0.5
"""A server that keeps a finished stream open longer than that loses the connection."""


class OpenAIWire:
    """One deployment that speaks the protocol; see `Provider`."""

    def __init__(self, name: str, deployment: Deployment, sessions: Sessions) -> None:
        base = deployment.base_url.get_secret_value() if deployment.base_url else OPENAI_URL
        self._endpoint = Endpoint(name, URL(base), deployment.secret())
        self._server = Server(self._endpoint, sessions)
        self._model = deployment.model
        self._refused: set[str] = set()
        """Parameters that this server's model does not take, learned from its refusals."""

    async def chat(self, request: ChatRequest) -> Reply:
        """POST /chat/completions."""
        return self._reply(await self._post("/chat/completions", request))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """POST /chat/completions with `stream`, the usage included."""
        body = self._body(request, stream=True)
        async with self._server.post("/chat/completions", body) as response:
            if response.status != 200:  # noqa: PLR2004
                raise await self._refusal(response)
            events = read_events(response.content.iter_any(), MAX_RESPONSE_BYTES)
            async with aclosing(events):
                async for data in events:
                    if data == "[DONE]":
                        await _drain(events)
                        break
                    yield self._chunk(self._parse(data))

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        """POST /embeddings."""
        wanted = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        parsed = await self._send("/embeddings", _encode(wanted))
        try:
            data = sorted(parsed["data"], key=lambda entry: int(entry["index"]))
            vectors = [entry["embedding"] for entry in data]
        except (KeyError, TypeError, ValueError) as error:
            raise self._malformed("has no list of embeddings", parsed) from error
        usage = _usage(parsed).model_copy(update={"completion_tokens": 0})
        return EmbeddingReply(vectors, _text_or_none(parsed.get("model")), usage)

    async def close(self) -> None:
        """Nothing of its own: the sessions are shared."""

    async def _post(self, path: str, request: ChatRequest) -> dict[str, Json]:
        return await self._send(path, self._body(request, stream=False))

    async def _send(self, path: str, body: bytes) -> dict[str, Json]:
        async with self._server.post(path, body) as response:
            if response.status != 200:  # noqa: PLR2004
                raise await self._refusal(response)
            content = await self._server.read(response)
        return self._parse(content)

    def _body(self, request: ChatRequest, *, stream: bool) -> bytes:
        body: dict[str, Json] = {"model": self._model, "messages": list(request.messages)}
        if request.temperature is not None and "temperature" not in self._refused:
            body["temperature"] = request.temperature
        if request.max_tokens is not None:
            newer = "max_tokens" in self._refused
            body["max_completion_tokens" if newer else "max_tokens"] = request.max_tokens
        if request.stop:
            body["stop"] = list(request.stop)
        if request.schema is not None:
            body["response_format"] = response_format(request.schema, request.schema_name)
        if request.tools:
            body["tools"] = list(request.tools)
        if request.tool_choice is not None:
            body["tool_choice"] = request.tool_choice
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return _encode(body)

    async def _refusal(self, response: Any) -> ModelError:
        content = await self._server.read_error(response)
        parameter = unsupported_parameter(content)
        after = response.headers.get("Retry-After")
        error = refusal(response.status, after, content, self._endpoint)
        if parameter not in {"temperature", "max_tokens"}:
            return error
        # Calls that were under way when the first refusal came are refused too: each goes again.
        self._learn(parameter)
        return RefusedError(error, again=True)

    def _learn(self, parameter: str) -> None:
        if parameter in self._refused:
            return
        self._refused.add(parameter)
        instead = "max_completion_tokens" if parameter == "max_tokens" else "the model's default"
        log.warning(
            "deployment %r does not take %s: using %s from now on",
            self._endpoint.deployment,
            parameter,
            instead,
        )

    def _parse(self, content: bytes | str) -> dict[str, Json]:
        try:
            parsed = json.loads(content)
        except (ValueError, RecursionError):
            text = content if isinstance(content, str) else content.decode(errors="replace")
            raise self._malformed("is not JSON", text) from None
        if not isinstance(parsed, dict):
            raise self._malformed("is not a JSON object", parsed)
        if parsed.get("error"):
            raise error_in_body(parsed["error"], self._endpoint)
        return parsed

    def _reply(self, parsed: dict[str, Json]) -> Reply:
        choice = self._first_choice(parsed)
        message = choice.get("message") if choice else None
        if choice is None or not isinstance(message, dict):
            raise self._malformed("has no choices", parsed)
        return Reply(
            text=_text(message.get("content")),
            finish_reason=_text_or_none(choice.get("finish_reason")),
            model=_text_or_none(parsed.get("model")),
            usage=_usage(parsed),
            tool_calls=_dicts(message.get("tool_calls")),
            refusal=_text_or_none(message.get("refusal")),
        )

    def _chunk(self, parsed: dict[str, Json]) -> ChatChunk:
        choice = self._first_choice(parsed) or {}
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        return ChatChunk(
            text=_text(delta.get("content")),
            tool_calls=_dicts(delta.get("tool_calls")),
            finish_reason=_text_or_none(choice.get("finish_reason")),
            usage=_usage(parsed) if parsed.get("usage") else None,
            model=_text_or_none(parsed.get("model")),
            refusal=_text_or_none(delta.get("refusal")),
        )

    def _first_choice(self, parsed: Mapping[str, Json]) -> dict[str, Json] | None:
        choices = parsed.get("choices")
        if not isinstance(choices, list) or not choices:
            return None
        return choices[0] if isinstance(choices[0], dict) else None

    def _malformed(self, how: str, content: Json) -> ModelOutputError:
        text = content if isinstance(content, str) else json.dumps(content)
        shown = self._endpoint.excerpt(text) or "nothing"
        return ModelOutputError(f"The answer of {self._endpoint} {how}: {shown}")


async def _drain(events: AsyncGenerator[str, None]) -> None:
    """Read to the end of the body: only then is the connection used again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in events:
                pass


def _encode(body: Mapping[str, Json]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _text(content: Json) -> str:
    """A text, or the texts of content parts, as some servers send."""
    if isinstance(content, list):
        return "".join(str(p.get("text") or "") for p in content if isinstance(p, dict))
    return content if isinstance(content, str) else ""


def _text_or_none(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None


def _dicts(value: Json) -> tuple[dict[str, Json], ...]:
    return tuple(entry for entry in value if isinstance(entry, dict)) if value else ()


def _usage(parsed: Mapping[str, Json]) -> Usage:
    given = parsed.get("usage")
    given = given if isinstance(given, dict) else {}
    details = given.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    return Usage(
        prompt_tokens=_count(given.get("prompt_tokens")),
        completion_tokens=_count(given.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")),
    )


def _count(value: Json) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
