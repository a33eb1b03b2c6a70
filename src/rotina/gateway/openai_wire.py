"""The OpenAI wire protocol: OpenAI, vLLM, SGLang, llama.cpp, TGI, Ollama and what is compatible."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

from yarl import URL

from rotina.errors import ModelError, ModelOutputError
from rotina.gateway.answer import (
    CachedRequest,
    ChatChunk,
    ChatRequest,
    EmbeddingReply,
    Reply,
    RerankReply,
    Usage,
)
from rotina.gateway.doubt import confidence_of
from rotina.gateway.encoding import to_json
from rotina.gateway.failure import (
    Endpoint,
    error_in_body,
    refusal,
    refuses_schema,
    unsupported_parameter,
)
from rotina.gateway.http import MAX_RESPONSE_BYTES, Server, Sessions
from rotina.gateway.provider import RefusedError, SchemaRefusedError
from rotina.gateway.sse import read_events
from rotina.gateway.structured import constraint
from rotina.settings import OPENAI_URL, Deployment

log = logging.getLogger(__name__)

Json = Any

OPTIONS: Mapping[str, type] = {"rerank_tei": bool, "rerank_logits": bool}

_RERANKED = 1000
"""Documents a request: the most that Cohere and Voyage take."""
_RERANKED_BY_TEI = 32
"""What text-embeddings-inference takes unless it is told otherwise."""
_DRAIN_SECONDS = 0.5
"""A server that keeps a finished stream open longer than that loses the connection."""


def open_provider(name: str, deployment: Deployment, sessions: Sessions) -> "OpenAIWire":
    """OpenAI, or what `base_url` says; a server of one's own may want no key."""
    base = deployment.base_url.get_secret_value() if deployment.base_url else OPENAI_URL
    endpoint = Endpoint(name, URL(base), deployment.secret())
    return OpenAIWire(Server(endpoint, sessions), deployment)


class OpenAIWire:
    """One deployment that speaks the protocol; see `Provider`."""

    def __init__(self, server: Server, deployment: Deployment) -> None:
        self._endpoint = server.endpoint
        self._server = server
        self._model = deployment.model
        self._mode = deployment.structured_output
        self._tei = bool(deployment.options.get("rerank_tei"))
        self._logits = bool(deployment.options.get("rerank_logits"))
        self._refused: set[str] = set()
        """Parameters that this server's model does not take, learned from its refusals."""

    async def chat(self, request: ChatRequest) -> Reply:
        """POST /chat/completions."""
        body = self._body(request, stream=False)
        return self._reply(await self._send("/chat/completions", body, request), request)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """POST /chat/completions with `stream`, the usage included."""
        body = self._body(request, stream=True)
        async with self._server.post("/chat/completions", body) as response:
            if response.status != 200:  # noqa: PLR2004
                raise await self._refusal(response, request)
            if response.content_type == "application/json":
                # Some servers answer at once whatever they are asked, and some errors come so.
                content = await self._server.read(response)
                yield self._reply(self._parse(content, request), request).as_chunk()
                return
            what = f"The answer of {self._endpoint}"
            events = read_events(response.content.iter_any(), MAX_RESPONSE_BYTES, what)
            async with aclosing(events):
                async for data in events:
                    if data == "[DONE]":
                        await _drain(events)
                        break
                    yield self._chunk(self._parse(data, request), request)

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        """POST /embeddings."""
        wanted = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        parsed = await self._send("/embeddings", to_json(wanted))
        try:
            data = sorted(parsed["data"], key=lambda entry: int(entry["index"]))
            vectors = [entry["embedding"] for entry in data]
        except (KeyError, TypeError, ValueError) as error:
            raise self._malformed("has no list of embeddings", parsed) from error
        usage = _usage(parsed).model_copy(update={"completion_tokens": 0})
        return EmbeddingReply(vectors, _text_or_none(parsed.get("model")), usage)

    @property
    def rerank_batch(self) -> int:
        """Documents that one request may have."""
        return _RERANKED_BY_TEI if self._tei else _RERANKED

    async def rerank(self, query: str, documents: Sequence[str]) -> RerankReply:
        """POST /rerank, in the form of Cohere and Jina or in that of text-embeddings-inference."""
        return await (self._tei_rerank if self._tei else self._rerank)(query, documents)

    async def _rerank(self, query: str, documents: Sequence[str]) -> RerankReply:
        # Without top_n: all scores are wanted, and Voyage calls it otherwise.
        wanted = {"model": self._model, "query": query, "documents": list(documents)}
        parsed = await self._send("/rerank", to_json(wanted))
        results = parsed["results"] if "results" in parsed else parsed.get("data")  # Voyage
        scores = self._scores(results, "relevance_score", parsed)
        usage = _mapping(parsed.get("usage"))
        tokens = _count(usage.get("total_tokens")) or _count(usage.get("prompt_tokens"))
        model = _text_or_none(parsed.get("model"))
        return RerankReply(scores, model, _read_only(tokens), self._logits)

    async def _tei_rerank(self, query: str, documents: Sequence[str]) -> RerankReply:
        body = to_json({"query": query, "texts": list(documents)})
        content, headers = await self._post(self._server.root(), "/rerank", body)
        parsed = self._json(content)
        told = headers.get("x-compute-tokens", "")
        tokens = int(told) if told.isdecimal() else None
        scores = self._scores(parsed, "score", parsed)
        return RerankReply(scores, None, _read_only(tokens), self._logits)

    def _scores(self, results: Json, name: str, parsed: Json) -> list[tuple[Json, Json]]:
        try:
            return [(entry["index"], entry[name]) for entry in results]
        except (KeyError, TypeError) as error:
            raise self._malformed("has no list of scores", parsed) from error

    async def close(self) -> None:
        """Nothing of its own: the sessions are shared."""

    async def _send(
        self, path: str, body: bytes, request: ChatRequest | None = None
    ) -> dict[str, Json]:
        content, _ = await self._post(self._server, path, body, request)
        return self._parse(content, request)

    async def _post(
        self, server: Server, path: str, body: bytes, request: ChatRequest | None = None
    ) -> tuple[bytes, Mapping[str, str]]:
        """The body and the headers of an answer."""
        async with server.post(path, body) as response:
            if response.status != 200:  # noqa: PLR2004
                raise await self._refusal(response, request)
            return await self._server.read(response), response.headers

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
            body |= constraint(request.schema, request.schema_name, self._mode)
        if request.tools:
            body["tools"] = list(request.tools)
        if request.tool_choice is not None:
            body["tool_choice"] = request.tool_choice
        if isinstance(request, CachedRequest):
            body["prompt_cache_key"] = request.cache_key
        if request.logprobs:
            body["logprobs"] = True
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return to_json(body)

    async def _refusal(self, response: Any, request: ChatRequest | None) -> ModelError:
        content = await self._server.read_error(response)
        parameter = unsupported_parameter(content)
        after = response.headers.get("Retry-After")
        error = refusal(response.status, after, content, self._endpoint)
        if parameter not in {"temperature", "max_tokens"}:
            return self._told(error, content, request)
        # Calls that were under way when the first refusal came are refused too: each goes again.
        self._learn(parameter)
        return RefusedError(error, again=True)

    def _told(self, error: ModelError, content: bytes, request: ChatRequest | None) -> ModelError:
        """The error, or that it was for the schema of the request."""
        plain = error.error if isinstance(error, RefusedError) else error
        if request is None or request.schema is None or not refuses_schema(plain, content):
            return error
        return SchemaRefusedError(plain)

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

    def _json(self, content: bytes | str) -> Json:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            text = content if isinstance(content, str) else content.decode(errors="replace")
            raise self._malformed("is not JSON", text) from None

    def _parse(self, content: bytes | str, request: ChatRequest | None = None) -> dict[str, Json]:
        parsed = self._json(content)
        if not isinstance(parsed, dict):
            raise self._malformed("is not a JSON object", parsed)
        if parsed.get("error"):
            error = error_in_body(parsed["error"], self._endpoint)
            raise self._told(error, json.dumps(parsed).encode(), request)
        return parsed

    def _is_asked_as_tool(self, request: ChatRequest) -> bool:
        return request.schema is not None and self._mode == "tool"

    def _reply(self, parsed: dict[str, Json], request: ChatRequest) -> Reply:
        choice = self._first_choice(parsed)
        message = choice.get("message") if choice else None
        if choice is None or not isinstance(message, dict):
            raise self._malformed("has no choices", parsed)
        text, calls = _text(message.get("content")), _dicts(message.get("tool_calls"))
        reason = _text_or_none(choice.get("finish_reason"))
        if calls and self._is_asked_as_tool(request):
            text, calls, reason = _arguments(calls[:1]), (), _end_of_tool(reason)
        return Reply(
            text=text,
            finish_reason=reason,
            model=_text_or_none(parsed.get("model")),
            usage=_usage(parsed),
            tool_calls=calls,
            refusal=_text_or_none(message.get("refusal")),
            confidence=_confidence(choice),
        )

    def _chunk(self, parsed: dict[str, Json], request: ChatRequest) -> ChatChunk:
        choice = self._first_choice(parsed) or {}
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        text, calls = _text(delta.get("content")), _dicts(delta.get("tool_calls"))
        reason = _text_or_none(choice.get("finish_reason"))
        if self._is_asked_as_tool(request):
            # A second call of the tool would be a second answer.
            first = [call for call in calls if not call.get("index")]
            text, calls, reason = text + _arguments(first), (), _end_of_tool(reason)
        return ChatChunk(
            text=text,
            tool_calls=calls,
            finish_reason=reason,
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


def _text(content: Json) -> str:
    """A text, or the texts of content parts, as some servers send."""
    if isinstance(content, list):
        return "".join(str(p.get("text") or "") for p in content if isinstance(p, dict))
    return content if isinstance(content, str) else ""


def _arguments(calls: Sequence[Mapping[str, Json]]) -> str:
    """What tools are called with: for a schema that is asked for as a tool, the answer."""
    functions = [call.get("function") for call in calls]
    return "".join(_text(each.get("arguments")) for each in functions if isinstance(each, dict))


def _end_of_tool(reason: str | None) -> str | None:
    return "stop" if reason in {"tool_calls", "function_call"} else reason


def _text_or_none(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None


def _dicts(value: Json) -> tuple[dict[str, Json], ...]:
    return tuple(entry for entry in value if isinstance(entry, dict)) if value else ()


def _confidence(choice: Mapping[str, Json]) -> float | None:
    told = choice.get("logprobs")
    tokens = told.get("content") if isinstance(told, dict) else None
    found = [token.get("logprob") for token in _dicts(tokens)]
    return confidence_of([each for each in found if isinstance(each, int | float)])


def _usage(parsed: Mapping[str, Json]) -> Usage:
    given = _mapping(parsed.get("usage"))
    prompt = _mapping(given.get("prompt_tokens_details"))
    answer = _mapping(given.get("completion_tokens_details"))
    return Usage(
        prompt_tokens=_count(given.get("prompt_tokens")),
        completion_tokens=_count(given.get("completion_tokens")),
        cached_tokens=_count(prompt.get("cached_tokens")),
        reasoning_tokens=_count(answer.get("reasoning_tokens")),
    )


def _read_only(tokens: int | None) -> Usage:
    """Of a call that writes nothing; some servers say 0 where they did not count."""
    return Usage(prompt_tokens=tokens or None, completion_tokens=0)


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _count(value: Json) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
