"""A model server on loopback whose every answer a test decides.

It speaks the OpenAI wire protocol (`/v1/chat/completions`, `/v1/embeddings`, `/v1/models`), reranks
in the form of Cohere, Jina and vLLM (`/v1/rerank`) and in that of text-embeddings-inference
(`/rerank`), and misbehaves on request: refused, late, cut, malformed or giant answers.

In a test::

    async with ScriptedModel() as model:                     # answers everything plausibly
        model.script = "the answer"                          # one text, always
        model.script = {"total": 3}                          # one JSON answer, always
        model.script = [status(503), chat("late")]           # in turn; the last one stays
        model.script = lambda request: request.last_message  # from the request
        ...
        assert len(model.requests) == 2

As a process, for tests with real workers; it prints its base URL as the first line::

    python -m tests.scripted_model --port 0 --script tests.somewhere:script --delay 0.2 --log FILE
"""

import argparse
import asyncio
import hashlib
import importlib
import inspect
import json
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

Json = Any

MODEL = "scripted"
DIMENSIONS = 16


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    path: str
    headers: Mapping[str, str]
    """Found whatever the case of their names."""
    body: dict[str, Any]
    connection: int = 0
    """The client's port: requests on one kept-alive connection share it."""
    at: float = field(default_factory=time.time)
    """Unix seconds."""
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def last_message(self) -> str:
        """The text of the last message of a chat request."""
        return str(self.body["messages"][-1].get("content") or "")

    @property
    def prompt(self) -> str:
        """The texts of all messages, one after the other."""
        return "\n".join(str(m.get("content") or "") for m in self.body["messages"])

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON Schema that the answer shall follow, if one was sent."""
        wanted = self.body.get("response_format") or {}
        schema = wanted.get("json_schema", {}).get("schema")
        return schema if isinstance(schema, dict) else None


@dataclass(frozen=True)
class Behaviour:
    """What the server does with one request."""

    run: Callable[[web.Request, Request], Awaitable[web.StreamResponse]]


Answer = Behaviour | str | dict[str, Any] | list[Any] | None
"""What a script may return: a behaviour, a text, a JSON value to be sent as text, or `None` for
the plausible default. A list is a JSON value here."""
Script = Callable[[Request], Answer | Awaitable[Answer]]


# ── behaviours ────────────────────────────────────────────────────────────────────────────────


def chat(
    text: str | None,
    *,
    finish_reason: str | None = "stop",
    usage: Mapping[str, Any] | None = None,
    **message: Json,
) -> Behaviour:
    """A complete chat answer, streamed word by word when the request asks for a stream."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        counted = _usage(request, text or "") if usage is None else dict(usage)
        if request.body.get("stream"):
            return await _stream(http, _chunks(text, finish_reason, counted, message))
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, **message},
            "finish_reason": finish_reason,
        }
        return web.json_response(_completion([choice], counted))

    return Behaviour(behave)


def choices(*given: Mapping[str, Any]) -> Behaviour:
    """A chat answer with exactly these choices; none is allowed."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        return web.json_response(_completion([dict(c) for c in given], _usage(request, "")))

    return Behaviour(behave)


def status(
    code: int,
    body: Json = None,
    *,
    retry_after: str | None = None,
) -> Behaviour:
    """An HTTP error with a JSON body (default: OpenAI's form)."""
    given = {"error": {"message": f"scripted {code}", "type": "scripted"}} if body is None else body

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        return web.json_response(given, status=code, headers=headers)

    return Behaviour(behave)


def echo_authorization(code: int = 401) -> Behaviour:
    """An error whose body repeats the Authorization header and the URL, as bad proxies do."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        sent = http.headers.get("Authorization", "")
        message = f"bad credentials: {sent} for {http.url}"
        return web.json_response({"error": {"message": message}}, status=code)

    return Behaviour(behave)


def raw(body: bytes, *, code: int = 200, content_type: str = "application/json") -> Behaviour:
    """Exactly these bytes."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        return web.Response(body=body, status=code, content_type=content_type)

    return Behaviour(behave)


def events(*lines: str, gap: float = 0.0, drop: bool = False, hang: bool = False) -> Behaviour:
    """A server-sent event stream of exactly these lines.

    After them `drop` cuts the connection, and `hang` leaves it open in silence.
    """

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        for line in lines:
            await response.write(line.encode())
            await asyncio.sleep(gap)
        if drop:
            _cut(http)
        if hang:
            await asyncio.Event().wait()
        return response

    return Behaviour(behave)


def drip(body: bytes, *, gap: float, size: int = 8) -> Behaviour:
    """These bytes of JSON, a few at a time, with a pause after each."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        response = web.StreamResponse(headers=headers)
        await response.prepare(http)
        for start in range(0, len(body), size):
            await response.write(body[start : start + size])
            await asyncio.sleep(gap)
        return response

    return Behaviour(behave)


def closing(then: Answer) -> Behaviour:
    """Any answer, after which the connection is closed though it was to be kept alive."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        response = await _behaviour(then, request).run(http, request)
        asyncio.get_running_loop().call_later(0.02, _cut, http)
        return response

    return Behaviour(behave)


def hang() -> Behaviour:
    """Accept the request, then never answer."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    return Behaviour(behave)


def hang_mid_body() -> Behaviour:
    """Send headers and half an answer, then nothing."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        await _half_an_answer(http)
        await asyncio.Event().wait()
        raise AssertionError

    return Behaviour(behave)


def drop() -> Behaviour:
    """Close the connection without answering: what a stale keep-alive connection looks like."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        _cut(http)
        return web.Response()

    return Behaviour(behave)


def drop_mid_body() -> Behaviour:
    """Send headers and half an answer, then close the connection."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        response = await _half_an_answer(http)
        _cut(http)
        return response

    return Behaviour(behave)


def giant(size: int) -> Behaviour:
    """An answer of `size` bytes, sent in chunks without a Content-Length."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(http)
        block = b" " * 65536
        with suppress(ConnectionError):
            for _ in range(size // len(block) + 1):
                await response.write(block)
        return response

    return Behaviour(behave)


def delayed(seconds: float, then: Answer) -> Behaviour:
    """Any answer, after a wait."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await _behaviour(then, request).run(http, request)

    return Behaviour(behave)


async def _half_an_answer(http: web.Request) -> web.StreamResponse:
    half = b'{"id":"1","object":"chat.completion","choices":[{"index":0,"mess'
    headers = {"Content-Type": "application/json", "Content-Length": str(4 * len(half))}
    response = web.StreamResponse(headers=headers)
    await response.prepare(http)
    await response.write(half)
    return response


def _cut(http: web.Request) -> None:
    if http.transport is not None:
        http.transport.close()


# ── plausible answers ─────────────────────────────────────────────────────────────────────────


def working(request: Request) -> Answer:
    """The default script: an answer of the right form to every request."""
    if request.path.endswith("/embeddings"):
        return embeddings()
    if request.path.endswith("/rerank"):
        return scores()
    if request.schema is not None:
        return chat(json.dumps(example(request.schema), ensure_ascii=False))
    return chat(f"You said: {request.last_message}")


def embeddings(dimensions: int = DIMENSIONS) -> Behaviour:
    """One vector of length 1 a text, the same for the same text."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        texts = request.body["input"]
        texts = [texts] if isinstance(texts, str) else texts
        data = [
            {"object": "embedding", "index": i, "embedding": vector(text, dimensions)}
            for i, text in enumerate(texts)
        ]
        tokens = sum(_tokens(text) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return web.json_response({"object": "list", "data": data, "model": MODEL, "usage": usage})

    return Behaviour(behave)


def scores(*given: float, usage: Mapping[str, Any] | None = None) -> Behaviour:
    """One score a document, the best first; without `given` the share of the query's words that
    the document has. A request with `texts` is answered in the form of text-embeddings-inference,
    with the tokens in its header."""

    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        tei = "texts" in request.body
        texts = request.body["texts" if tei else "documents"]
        words = set(request.body["query"].lower().split())
        found = given or [len(words & set(text.lower().split())) / len(words) for text in texts]
        name = "score" if tei else "relevance_score"
        order = sorted(range(len(texts)), key=lambda at: -found[at])
        results = [{"index": at, name: found[at]} for at in order]
        tokens = sum(_tokens(request.body["query"]) + _tokens(text) for text in texts)
        if tei:
            return web.json_response(results, headers={"x-compute-tokens": str(tokens)})
        counted = {"prompt_tokens": tokens, "total_tokens": tokens} if usage is None else usage
        return web.json_response(
            {"id": "scripted-1", "model": MODEL, "usage": counted, "results": results}
        )

    return Behaviour(behave)


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """The vector that the default script gives a text: SHAKE-256 of it, scaled to length 1."""
    raw_bytes = hashlib.shake_256(text.encode()).digest(dimensions)
    values = [byte - 127.5 for byte in raw_bytes]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


def example(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Json:
    """A small value that follows a plain JSON Schema (types, enum, const, anyOf, local $ref)."""
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for part in str(schema["$ref"]).removeprefix("#/").split("/"):
            target = target[part]
        return example(target, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return example(schema[union][-1], root)
    return _example_of_type(schema, root)


def _example_of_type(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Json:
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: example(sub, root) for name, sub in schema.get("properties", {}).items()}
    if kind == "array":
        return [example(schema.get("items", {}), root)] * int(schema.get("minItems", 0))
    plain = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "null": None}
    return plain[kind]


def _completion(given: list[dict[str, Any]], usage: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": "scripted-1",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": given,
        "usage": usage,
    }


def _usage(request: Request, text: str) -> dict[str, Any]:
    prompt = sum(_tokens(str(m.get("content") or "")) for m in request.body.get("messages", []))
    answer = _tokens(text)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _tokens(text: str) -> int:
    return len(text.split())


def _chunks(
    text: str | None,
    finish_reason: str | None,
    usage: Mapping[str, Any],
    message: Mapping[str, Any],
) -> list[str]:
    head: list[dict[str, Any]] = [{"role": "assistant", "content": "", **_indexed(message)}]
    words = [{"content": word} for word in (text or "").split(" ") if word]
    for word in words[1:]:
        word["content"] = " " + word["content"]
    bodies: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in [*head, *words]
    ]
    bodies.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]})
    bodies.append({"choices": [], "usage": usage})
    lines = [event({"object": "chat.completion.chunk", "model": MODEL, **b}) for b in bodies]
    return [*lines, "data: [DONE]\n\n"]


def _indexed(message: Mapping[str, Any]) -> dict[str, Any]:
    """Tool calls carry an index in a stream."""
    calls = message.get("tool_calls")
    if not calls:
        return dict(message)
    return {**message, "tool_calls": [{"index": i, **call} for i, call in enumerate(calls)]}


def event(body: Mapping[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body)}\n\n"


async def _stream(http: web.Request, lines: Sequence[str]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(http)
    for line in lines:
        await response.write(line.encode())
    return response


# ── the server ────────────────────────────────────────────────────────────────────────────────


class ScriptedModel:
    """The server. `script` may be changed at any time; `requests` holds what arrived, in order.

    `script` is a function from a `Request` to an answer (see `Answer`; it may be async), one
    answer for every request, or a list of answers used in turn, the last of which stays.
    `GET /v1/models` and `GET /health` always answer and are not recorded.
    """

    def __init__(
        self,
        script: Script | Answer = None,
        *,
        port: int = 0,
        delay: float = 0.0,
        log: Path | None = None,
    ) -> None:
        self.script: Script | Answer = script
        self.requests: list[Request] = []
        self.abandoned = 0
        """Requests whose client closed the connection before it had the whole answer."""
        self.port = port
        self._delay = delay
        self._log = log
        self._runner: web.AppRunner | None = None
        self._turns = 0
        self._turns_of: object = None

    @property
    def base_url(self) -> str:
        """The URL a deployment is given; ends in `/v1`."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=256 * 1024 * 1024)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._models)
        app.router.add_post("/{path:.*}", self._post)
        # A handler is cancelled when its client goes away: that is how `abandoned` is counted.
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.05
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _models(self, http: web.Request) -> web.Response:
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "tests"}
        return web.json_response({"object": "list", "data": [model]})

    async def _post(self, http: web.Request) -> web.StreamResponse:
        assert http.transport is not None
        port = http.transport.get_extra_info("peername")[1]
        request = Request(http.path, http.headers, await http.json(), port, query=http.query)
        self.requests.append(request)
        self._write_log(request)
        try:
            await asyncio.sleep(self._delay)
            answer = self._answer(request)
            answer = await answer if inspect.isawaitable(answer) else answer
            return await _behaviour(answer, request).run(http, request)
        except asyncio.CancelledError:
            self.abandoned += 1
            raise

    def _answer(self, request: Request) -> Answer | Awaitable[Answer]:
        script = self.script
        if isinstance(script, list):
            if self._turns_of is not script:
                self._turns, self._turns_of = 0, script
            self._turns += 1
            turn: Answer = script[min(self._turns, len(script)) - 1]
            return turn
        return script(request) if callable(script) else script

    def _write_log(self, request: Request) -> None:
        if self._log is not None:
            line = json.dumps({"at": request.at, "path": request.path, "body": request.body})
            with self._log.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def _behaviour(answer: Answer, request: Request) -> Behaviour:
    if answer is None:
        answer = working(request)
    if isinstance(answer, Behaviour):
        return answer
    return chat(answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False))


def unused_port() -> int:
    """A port on which nobody listens: connecting is refused."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ── as a process ──────────────────────────────────────────────────────────────────────────────


def _load(name: str) -> Script:
    module, _, attribute = name.partition(":")
    script: Script = getattr(importlib.import_module(module), attribute or "script")
    return script


async def serve(script: Script | None, port: int, delay: float, log: Path | None) -> None:
    """Serve until cancelled; the first line on stdout is the base URL."""
    async with ScriptedModel(script, port=port, delay=delay, log=log) as model:
        print(model.base_url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Run the server until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="A scripted OpenAI-compatible model server.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", metavar="MODULE:FUNCTION", help="default: plausible answers")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--log", type=Path, help="one JSON line a request is appended to this file")
    given = parser.parse_args()
    script = _load(given.script) if given.script else None
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(script, given.port, given.delay, given.log))


if __name__ == "__main__":
    main()
