"""The wire forms of providers, as a scripted server speaks them: what the contract suite scripts.

A `Dialect` puts one `Said` into a provider's own whole answer or stream. Each is written from the
provider's public reference, which the docstring names.
"""

import asyncio
import binascii
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from aiohttp import web

from tests.scripted_model import Behaviour, Request, status

KEY = "sk-scripted-secret-0123456789"
MODEL = "tiny"

Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Said:
    """What a model says in one call."""

    pieces: Sequence[str] = ("It is ", "42.")
    call: Call | None = None
    reason: str = "stop"
    """`stop`, `length` or `filter`; a call ends as one whatever this says."""
    drop: bool = False
    """Cut a stream in its middle."""
    stall: bool = False
    """Say nothing more after the middle of a stream."""
    fault: bool = False
    """The second half of a stream is the provider's error."""

    @property
    def text(self) -> str:
        """All pieces."""
        return "".join(self.pieces)

    @property
    def why(self) -> str:
        """The reason, or `call`."""
        return "call" if self.call else self.reason


# Each dialect sends these counts: 20 of the prompt, 5 of them from a cache, 7 of the answer.
PROMPT, CACHED, ANSWER = 20, 5, 7


class Dialect:
    """One provider."""

    provider: ClassVar[str]
    type: ClassVar[str] = "text/event-stream"
    counts_cached: ClassVar[bool] = True
    filters: ClassVar[bool] = True
    forces_tools: ClassVar[bool] = True
    reasons: ClassVar[Mapping[str, str]]
    errors: ClassVar[Mapping[int, Any]]
    """The bodies of errors by status."""
    too_long: ClassVar[tuple[int, Any]]
    fault: ClassVar[bytes]
    """A busy server's error inside a stream."""
    options: ClassVar[Mapping[str, Any]] = {}
    environment: ClassVar[Mapping[str, str]] = {}
    """Where the key is, if it is not a setting."""
    suffix: ClassVar[str] = ""
    """What `base_url` has after the server's root."""

    def says(self, said: Said) -> Behaviour:
        """The answer, whole or streamed as the request asks."""

        async def behave(http: web.Request, request: Request) -> web.StreamResponse:
            if not self.streams(request):
                return web.json_response(self.whole(said))
            response = web.StreamResponse(headers={"Content-Type": self.type})
            await response.prepare(http)
            parts = self.parts(said)
            halted = said.drop or said.stall or said.fault
            for part in parts[: len(parts) // 2] if halted else parts:
                await response.write(part)
            if said.fault:
                await response.write(self.fault)
            if said.stall:
                await asyncio.Event().wait()
            if said.drop:
                assert http.transport is not None
                http.transport.close()
            return response

        return Behaviour(behave)

    def fails(self, code: int, retry_after: str | None = None) -> Behaviour:
        """The provider's error of that status."""
        return status(code, self.errors[code], retry_after=retry_after)

    def streams(self, request: Request) -> bool:
        """Whether a request asks for a stream."""
        return bool(request.body.get("stream"))

    def whole(self, said: Said) -> dict[str, Any]:
        """The body of a whole answer."""
        raise NotImplementedError

    def parts(self, said: Said) -> list[bytes]:
        """The parts of a stream."""
        raise NotImplementedError

    def schema(self, body: Mapping[str, Any]) -> Any:
        """The JSON Schema in a request."""
        raise NotImplementedError

    def tools(self, body: Mapping[str, Any]) -> list[str]:
        """The names of the tools in a request."""
        raise NotImplementedError

    def credentials(self, request: Request) -> str:
        """What a request carries as its key."""
        return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _event(body: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(body)}\n\n".encode()


class OpenAI(Dialect):
    """https://platform.openai.com/docs/api-reference/chat"""

    provider = "openai"
    suffix = "/v1"
    reasons: ClassVar[Mapping[Any, Any]] = {
        "stop": "stop",
        "length": "length",
        "filter": "content_filter",
        "call": "tool_calls",
    }
    errors: ClassVar[Mapping[Any, Any]] = {
        code: {"error": {"message": message, "type": kind, "code": None}}
        for code, kind, message in (
            (401, "invalid_request_error", f"Incorrect API key provided: {KEY}"),
            (404, "invalid_request_error", "The model `tiny` does not exist"),
            (429, "requests", "Rate limit reached for requests"),
            (400, "invalid_request_error", "Unrecognized request argument"),
            (500, "server_error", "The server had an error"),
        )
    }
    fault = b'data: {"error": {"message": "busy", "type": "server_error", "code": 503}}\n\n'
    too_long = (
        400,
        {
            "error": {
                "message": "This model's maximum context length is 8192 tokens.",
                "type": "invalid_request_error",
                "code": "context_length_exceeded",
            }
        },
    )
    usage: ClassVar[Any] = {
        "prompt_tokens": PROMPT,
        "completion_tokens": ANSWER,
        "prompt_tokens_details": {"cached_tokens": CACHED},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }

    def whole(self, said: Said) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
        if said.call:
            message = {**message, "content": None, "tool_calls": [self._call(said.call)]}
        choice = {"index": 0, "message": message, "finish_reason": self.reasons[said.why]}
        return {"object": "chat.completion", "model": MODEL, "choices": [choice]} | {
            "usage": self.usage
        }

    def parts(self, said: Said) -> list[bytes]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        if said.call:
            deltas.append({"tool_calls": [{"index": 0, **self._call(said.call)}]})
        else:
            deltas += [{"content": piece} for piece in said.pieces]
        head = {"object": "chat.completion.chunk", "model": MODEL}
        ends = {"index": 0, "delta": {}, "finish_reason": self.reasons[said.why]}
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
        ]
        chunks += [{"choices": [ends]}, {"choices": [], "usage": self.usage}]
        return [*(_event({**head, **chunk}) for chunk in chunks), b"data: [DONE]\n\n"]

    def schema(self, body: Mapping[str, Any]) -> Any:
        return body["response_format"]["json_schema"]["schema"]

    def tools(self, body: Mapping[str, Any]) -> list[str]:
        return [tool["function"]["name"] for tool in body["tools"]]

    def _call(self, call: Call) -> dict[str, Any]:
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        return {"id": "c1", "type": "function", "function": function}


class Azure(OpenAI):
    """https://learn.microsoft.com/azure/ai-services/openai/reference"""

    provider = "azure"
    suffix = ""
    options: ClassVar[Mapping[Any, Any]] = {"api_version": "2024-10-21"}

    def credentials(self, request: Request) -> str:
        return request.headers.get("api-key", "")


class Anthropic(Dialect):
    """https://docs.claude.com/en/api/messages and …/messages-streaming"""

    provider = "anthropic"
    reasons: ClassVar[Mapping[Any, Any]] = {
        "stop": "end_turn",
        "length": "max_tokens",
        "filter": "refusal",
        "call": "tool_use",
    }
    errors: ClassVar[Mapping[Any, Any]] = {
        code: {"type": "error", "error": {"type": kind, "message": message}}
        for code, kind, message in (
            (401, "authentication_error", f"invalid x-api-key {KEY}"),
            (404, "not_found_error", "model: tiny"),
            (429, "rate_limit_error", "This request would exceed your rate limit."),
            (400, "invalid_request_error", "messages: at least one message is required"),
            (500, "api_error", "Internal server error"),
        )
    }
    fault = (
        b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", '
        b'"message": "Overloaded"}}\n\n'
    )
    too_long = (
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "prompt is too long: 9000 tokens > 8192 maximum",
            },
        },
    )
    usage: ClassVar[Any] = {
        "input_tokens": PROMPT - CACHED,
        "cache_read_input_tokens": CACHED,
        "cache_creation_input_tokens": 0,
        "output_tokens": ANSWER,
    }

    def whole(self, said: Said) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": said.text}] if said.text else []
        if said.call:
            name, given = said.call
            content = [{"type": "tool_use", "id": "t1", "name": name, "input": given}]
        return {
            "id": "m1",
            "type": "message",
            "role": "assistant",
            "model": MODEL,
            "content": content,
            "stop_reason": self.reasons[said.why],
            "stop_sequence": None,
            "usage": self.usage,
        }

    def parts(self, said: Said) -> list[bytes]:
        begins = {**self.whole(said), "content": [], "stop_reason": None}
        block: dict[str, Any] = {"type": "text", "text": ""}
        deltas: list[dict[str, Any]] = [
            {"type": "text_delta", "text": piece} for piece in said.pieces
        ]
        if said.call:
            block = {"type": "tool_use", "id": "t1", "name": said.call[0], "input": {}}
            text = json.dumps(said.call[1])
            halves = (text[:4], text[4:])
            deltas = [{"type": "input_json_delta", "partial_json": half} for half in halves]
        ends = {"stop_reason": self.reasons[said.why], "stop_sequence": None}
        bodies: list[dict[str, Any]] = [
            {"type": "message_start", "message": begins},
            {"type": "content_block_start", "index": 0, "content_block": block},
            *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": ends, "usage": self.usage},
            {"type": "message_stop"},
        ]
        return [f"event: {body['type']}\n".encode() + _event(body) for body in bodies]

    def schema(self, body: Mapping[str, Any]) -> Any:
        return body["tools"][0]["input_schema"]

    def tools(self, body: Mapping[str, Any]) -> list[str]:
        return [tool["name"] for tool in body["tools"]]

    def credentials(self, request: Request) -> str:
        return request.headers.get("X-Api-Key") or super().credentials(request)


class Google(Dialect):
    """https://ai.google.dev/api/generate-content"""

    provider = "google"
    reasons: ClassVar[Mapping[Any, Any]] = {
        "stop": "STOP",
        "length": "MAX_TOKENS",
        "filter": "SAFETY",
        "call": "STOP",
    }
    errors: ClassVar[Mapping[Any, Any]] = {
        code: {"error": {"code": code, "message": message, "status": kind}}
        for code, kind, message in (
            (401, "UNAUTHENTICATED", f"Request had invalid credentials: {KEY}"),
            (404, "NOT_FOUND", "models/tiny is not found for API version v1beta"),
            (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota"),
            (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
            (500, "INTERNAL", "An internal error has occurred."),
        )
    }
    fault = (
        b'data: {"error": {"code": 503, "message": "The model is overloaded.", '
        b'"status": "UNAVAILABLE"}}\n\n'
    )
    too_long = (
        400,
        {
            "error": {
                "code": 400,
                "message": "The input token count (9000) exceeds the maximum number of tokens "
                "allowed (8192).",
                "status": "INVALID_ARGUMENT",
            }
        },
    )
    usage: ClassVar[Any] = {
        "promptTokenCount": PROMPT,
        "cachedContentTokenCount": CACHED,
        "candidatesTokenCount": ANSWER,
        "totalTokenCount": PROMPT + ANSWER,
    }

    def streams(self, request: Request) -> bool:
        return ":streamGenerateContent" in request.path

    def whole(self, said: Said) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [{"text": said.text}] if said.text else []
        if said.call:
            parts = [{"functionCall": {"name": said.call[0], "args": said.call[1]}}]
        return self._response(parts, self.reasons[said.why])

    def parts(self, said: Said) -> list[bytes]:
        texts = [] if said.call else said.pieces
        pieces = [_event(self._response([{"text": text}], None)) for text in texts]
        if said.call:
            pieces = [_event(self._response(self._parts(said), None))]
        return [*pieces, _event(self._response([], self.reasons[said.why]))]

    def schema(self, body: Mapping[str, Any]) -> Any:
        return body["generationConfig"]["responseJsonSchema"]

    def tools(self, body: Mapping[str, Any]) -> list[str]:
        return [each["name"] for tool in body["tools"] for each in tool["functionDeclarations"]]

    def credentials(self, request: Request) -> str:
        return request.headers.get("x-goog-api-key", "")

    def _parts(self, said: Said) -> list[dict[str, Any]]:
        assert said.call is not None
        return [{"functionCall": {"name": said.call[0], "args": said.call[1]}}]

    def _response(self, parts: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"index": 0}
        if parts:
            candidate["content"] = {"role": "model", "parts": parts}
        if reason:
            candidate["finishReason"] = reason
        return {"candidates": [candidate], "modelVersion": MODEL, "usageMetadata": self.usage}


class Ollama(Dialect):
    """https://github.com/ollama/ollama/blob/main/docs/api.md"""

    provider = "ollama"
    type = "application/x-ndjson"
    counts_cached = False
    filters = False
    forces_tools = False
    reasons: ClassVar[Mapping[Any, Any]] = {"stop": "stop", "length": "length", "call": "stop"}
    errors: ClassVar[Mapping[Any, Any]] = {
        401: {"error": f"unauthorized: {KEY}"},
        404: {"error": "model 'tiny' not found"},
        429: {"error": "too many requests"},
        400: {"error": "invalid options: num_ctx"},
        500: {"error": "llama runner process has terminated"},
    }
    fault = b'{"error": "an error was encountered while running the model"}\n'
    too_long = (400, {"error": "the input length exceeds the context length"})

    def streams(self, request: Request) -> bool:
        return True  # the library streams whole answers too

    def parts(self, said: Said) -> list[bytes]:
        messages: list[dict[str, Any]] = [
            {"role": "assistant", "content": piece} for piece in said.pieces
        ]
        if said.call:
            function = {"name": said.call[0], "arguments": said.call[1]}
            calls = [{"function": function}]
            messages = [{"role": "assistant", "content": "", "tool_calls": calls}]
        head = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z"}
        ends = {
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": self.reasons[said.why],
            "prompt_eval_count": PROMPT,
            "eval_count": ANSWER,
        }
        lines = [{**head, "message": message, "done": False} for message in messages]
        return [json.dumps(line).encode() + b"\n" for line in [*lines, {**head, **ends}]]

    def schema(self, body: Mapping[str, Any]) -> Any:
        return body["format"]

    def tools(self, body: Mapping[str, Any]) -> list[str]:
        return [tool["function"]["name"] for tool in body["tools"]]


def frame(message_type: str, kind: str, body: Mapping[str, Any]) -> bytes:
    """One message of `application/vnd.amazon.eventstream`: a prelude of two lengths with its
    CRC-32, headers, payload, and the CRC-32 of all (smithy.io, "Amazon Event Stream")."""
    headers = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value))
        + value.encode()
        for name, value in (
            (f":{message_type}-type", kind),
            (":content-type", "application/json"),
            (":message-type", message_type),
        )
    )  # fmt: skip
    payload = json.dumps(body).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    prelude += struct.pack(">I", binascii.crc32(prelude))
    message = prelude + headers + payload
    return message + struct.pack(">I", binascii.crc32(message))


class Bedrock(Dialect):
    """https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html"""

    provider = "bedrock"
    type = "application/vnd.amazon.eventstream"
    reasons: ClassVar[Mapping[Any, Any]] = {
        "stop": "end_turn",
        "length": "max_tokens",
        "filter": "guardrail_intervened",
        "call": "tool_use",
    }
    errors: ClassVar[Mapping[Any, Any]] = {
        401: {"message": f"The security token {KEY} included in the request is invalid."},
        404: {"message": "Could not resolve the foundation model from the model identifier."},
        429: {"message": "Too many requests, please wait before trying again."},
        400: {"message": "Malformed input request."},
        500: {"message": "The system encountered an unexpected error."},
    }
    fault = frame("exception", "serviceUnavailableException", {"message": "busy"})
    too_long = (400, {"message": "Input is too long for requested model."})
    options: ClassVar[Mapping[Any, Any]] = {"region": "us-east-1"}
    environment: ClassVar[Mapping[Any, Any]] = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": f"{KEY}-secret",
    }
    usage: ClassVar[Any] = {
        "inputTokens": PROMPT - CACHED,
        "cacheReadInputTokens": CACHED,
        "outputTokens": ANSWER,
        "totalTokens": PROMPT + ANSWER,
    }

    def streams(self, request: Request) -> bool:
        return request.path.endswith("/converse-stream")

    def whole(self, said: Said) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"text": said.text}] if said.text else []
        if said.call:
            use = {"toolUseId": "t1", "name": said.call[0], "input": said.call[1]}
            content = [{"toolUse": use}]
        return {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": self.reasons[said.why],
            "usage": self.usage,
            "metrics": {"latencyMs": 1},
        }

    def credentials(self, request: Request) -> str:
        return request.headers["Authorization"].partition("Credential=")[2].partition("/")[0]

    def parts(self, said: Said) -> list[bytes]:
        deltas: list[dict[str, Any]] = [{"text": piece} for piece in said.pieces]
        events: list[tuple[str, dict[str, Any]]] = [("messageStart", {"role": "assistant"})]
        if said.call:
            start = {"toolUse": {"toolUseId": "t1", "name": said.call[0]}}
            events.append(("contentBlockStart", {"start": start, "contentBlockIndex": 0}))
            text = json.dumps(said.call[1])
            deltas = [{"toolUse": {"input": half}} for half in (text[:4], text[4:])]
        events += [
            *(("contentBlockDelta", {"delta": d, "contentBlockIndex": 0}) for d in deltas),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("messageStop", {"stopReason": self.reasons[said.why]}),
            ("metadata", {"usage": self.usage, "metrics": {"latencyMs": 1}}),
        ]
        return [frame("event", kind, body) for kind, body in events]

    def schema(self, body: Mapping[str, Any]) -> Any:
        return body["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]

    def tools(self, body: Mapping[str, Any]) -> list[str]:
        return [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]]


DIALECTS: tuple[Dialect, ...] = (
    OpenAI(), Azure(), Anthropic(), Google(), Ollama(), Bedrock(),
)  # fmt: skip
