"""Amazon Bedrock's Converse API through `langchain-aws` (the extra `rotina[bedrock]`).

boto3 is synchronous: its credentials, signatures and parsing run in threads of this provider, as
many as the deployment's `concurrency`. What goes over the network does not: each request is handed
to the event loop, so that cancelling a call closes its connection as everywhere else, and its
thread ends at once.
"""

import asyncio
import concurrent.futures
import contextvars
import json
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import aiohttp
from pydantic import SecretStr
from yarl import URL

from rotina.errors import ModelError, SettingsError
from rotina.gateway.answer import CachedRequest, ChatRequest, Message
from rotina.gateway.carrier import Carrier
from rotina.gateway.failure import Endpoint, refusal
from rotina.gateway.http import Sessions
from rotina.gateway.langchain_provider import (
    UNHEARD,
    LangChainProvider,
    chosen_tool,
    plain_tools,
)
from rotina.gateway.prompt_cache import Part, marked
from rotina.gateway.providers import declared_key, text_option
from rotina.settings import Deployment

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

T = TypeVar("T")

OPTIONS: Mapping[str, type] = {"region": str, "profile": str, "base_model": str}

_POINT = {"cachePoint": {"type": "default"}}
_PROFILE = "application-inference-profile"
_STATUS = {
    "throttlingException": 429,
    "validationException": 400,
    "modelStreamErrorException": 500,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
}
"""Errors inside a stream, whose status is 200 (ConverseStream in the API's reference)."""


def open_provider(name: str, deployment: Deployment, sessions: Sessions) -> "BedrockProvider":
    """Raises `SettingsError` without a region, and `ImportError` without the extra."""
    if _PROFILE in deployment.model and "base_model" not in deployment.options:
        raise SettingsError(
            f"deployments.{name}.model is an application inference profile, which does not say "
            'what it is of: add options = { base_model = "anthropic.claude-…" }'
        )
    return BedrockProvider(name, deployment, sessions)


class BedrockProvider(LangChainProvider):
    """A schema is a tool that the model must call, or where it cannot be made to, its format."""

    FINISH_REASONS: ClassVar[Mapping[str, str]] = {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "tool_use": "tool_calls",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "guardrail_intervened": "content_filter",
        "content_filtered": "content_filter",
    }
    REASON_KEYS = ("stopReason",)

    def __init__(self, name: str, deployment: Deployment, sessions: Sessions) -> None:
        client = _client(name, deployment)
        url = URL(client.meta.endpoint_url)
        key = declared_key(deployment, "AWS_BEARER_TOKEN_BEDROCK")
        endpoint = Endpoint(name, url, key, "AWS's usual credentials")
        super().__init__(endpoint, _open(client, deployment))
        self._threads = concurrent.futures.ThreadPoolExecutor(
            deployment.concurrency, thread_name_prefix="bedrock"
        )
        carrier = Carrier(endpoint, sessions)

        def carry(request: Any, **_: Any) -> Any:
            return _CROSSING.get().response(carrier, request)

        for operation in ("Converse", "ConverseStream"):
            client.meta.events.register(f"before-send.bedrock-runtime.{operation}", carry)

    async def close(self) -> None:
        """End the threads; none is at work once calls are over."""
        self._threads.shutdown(wait=False)

    async def _invoke(
        self, messages: "list[BaseMessage]", options: Mapping[str, Any]
    ) -> "AIMessage":
        crossing = _Crossing()

        def ask() -> "AIMessage":
            return self._model.invoke(messages, UNHEARD, **options)

        try:
            return await asyncio.wrap_future(self._start(crossing, ask))
        finally:
            crossing.end()

    async def _pieces(
        self, messages: "list[BaseMessage]", options: Mapping[str, Any]
    ) -> "AsyncGenerator[AIMessageChunk, None]":
        crossing, loop = _Crossing(), asyncio.get_running_loop()
        pieces: asyncio.Queue[Any] = asyncio.Queue()

        def read() -> None:
            for piece in self._model.stream(messages, UNHEARD, **options):
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        try:
            reading = asyncio.wrap_future(self._start(crossing, read))
            reading.add_done_callback(lambda _: pieces.put_nowait(None))
            while (piece := await pieces.get()) is not None:
                yield piece
            await reading
        finally:
            crossing.end()

    def _start(
        self, crossing: "_Crossing", work: Callable[[], T]
    ) -> "concurrent.futures.Future[T]":
        context = contextvars.copy_context()
        context.run(_CROSSING.set, crossing)
        return self._threads.submit(context.run, work)

    def _options(self, request: ChatRequest) -> dict[str, Any]:
        options = self._sampling(request)
        if request.schema is not None and not self._schema_is_tool():
            return options | {"output_config": _format(request.schema_name, request.schema)}
        options |= _tool_options(request, self._forced(request.schema_name))
        if isinstance(request, CachedRequest) and options.get("tools"):
            options["tools"].append(_POINT)
        return options

    def _forced(self, tool: str) -> dict[str, Any] | None:
        """How the model is made to call the tool; None where it cannot be."""
        model: Any = self._model
        ways = model.supports_tool_choice_values
        if not ways or "tool" in ways:  # of a model that nobody knows the service is asked
            return {"tool": {"name": tool}}
        return {"any": {}} if "any" in ways else None

    def _schema_is_tool(self) -> bool:
        return self._forced("") is not None

    def _wire_messages(self, request: ChatRequest) -> Sequence[Message]:
        if not isinstance(request, CachedRequest):
            return request.messages
        return marked(request.messages, _mark)

    def _library_error(self, error: Exception) -> ModelError | None:
        from botocore.exceptions import (  # noqa: PLC0415 - an extra
            BotoCoreError,
            ClientError,
            InvalidEndpointConfigurationError,
            ParamValidationError,
        )

        if isinstance(error, ClientError):
            problem = error.response.get("Error", {})
            status = _STATUS.get(problem.get("Code", ""), 500)
            said = str(problem.get("Message", "")).encode()
            return refusal(status, None, said, self._endpoint)
        # What follows was never sent.
        if isinstance(error, ParamValidationError | InvalidEndpointConfigurationError):
            return refusal(400, None, str(error).encode(), self._endpoint)
        if isinstance(error, BotoCoreError):
            return refusal(401, None, b"", self._endpoint)
        return None


class _Crossing:
    """A call's way from its thread to the event loop, until the call is over."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = False
        self._under_way: asyncio.Task[Any] | None = None
        self._response: aiohttp.ClientResponse | None = None

    def end(self) -> None:
        """In the loop: nothing is waited for any more."""
        self._over = True
        if self._under_way is not None:
            self._under_way.cancel()
        elif self._response is not None:
            self._response.close()

    def response(self, carrier: Carrier, request: Any) -> Any:
        """In the thread: the answer to botocore's request, its body unread."""
        from botocore.awsrequest import AWSResponse  # noqa: PLC0415 - an extra

        headers = {name: _text(value) for name, value in request.headers.items()}
        body = request.body or b""
        sending = carrier.send(request.method, request.url, headers, body)
        self._response = response = self._wait(sending)
        raw = _Body(carrier.blocks(response), self._wait)
        return AWSResponse(request.url, response.status, response.headers, raw)

    def _wait(self, step: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(self._take(step), self._loop).result()

    async def _take(self, step: Coroutine[Any, Any, T]) -> T:
        if self._over:
            step.close()
            raise asyncio.CancelledError
        self._under_way = asyncio.current_task()
        try:
            return await step
        finally:
            self._under_way = None


class _Body:
    """What botocore reads an answer from."""

    def __init__(
        self,
        blocks: AsyncGenerator[bytes, None],
        wait: Callable[[Coroutine[Any, Any, Any]], Any],
    ) -> None:
        self._blocks = blocks
        self._wait = wait

    def stream(self) -> Iterator[bytes]:
        """The blocks as they come."""
        while (block := self._wait(_next(self._blocks))) is not None:
            yield block

    def close(self) -> None:
        """Nothing: the call's end closes the connection."""


_CROSSING: contextvars.ContextVar[_Crossing] = contextvars.ContextVar("crossing")


async def _next(blocks: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(blocks, None)


def _client(name: str, deployment: Deployment) -> Any:
    import boto3  # noqa: PLC0415 - an extra
    from botocore.config import Config  # noqa: PLC0415 - an extra
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - an extra
    from langchain_aws.utils import create_aws_client  # noqa: PLC0415 - an extra

    region, key = text_option(deployment, "region"), deployment.secret()
    wanted: dict[str, Any] = {
        "service_name": "bedrock-runtime",
        "region_name": region,
        "endpoint_url": deployment.base_url.get_secret_value() if deployment.base_url else None,
        "config": Config(retries={"total_max_attempts": 1}),
    }
    try:
        if key is not None:
            return create_aws_client(**wanted, api_key=SecretStr(key))
        # A session of its own: the process's default one keeps the first credentials it found.
        wanted["region_name"] = region or os.environ.get("AWS_REGION")
        return boto3.Session(profile_name=text_option(deployment, "profile")).client(**wanted)
    except (BotoCoreError, ValueError):
        raise SettingsError(
            f"deployments.{name} has no region, or a profile that your AWS configuration has not: "
            'add options = { region = "us-east-1" }, or export AWS_REGION'
        ) from None


def _open(client: Any, deployment: Deployment) -> Any:
    from langchain_aws import ChatBedrockConverse  # noqa: PLC0415 - an extra

    base_model = text_option(deployment, "base_model")
    settings: dict[str, Any] = {
        "model_id": deployment.model,
        "client": client,
        # Asked only what an inference profile is of, which `base_model` says.
        "bedrock_client": client,
        "disable_streaming": False,
        "cache": False,
    }
    if base_model is not None:
        settings["base_model_id"] = base_model
    if deployment.model.startswith("arn:"):
        settings["provider"] = (base_model or deployment.model.rpartition("/")[2]).split(".")[0]
    return ChatBedrockConverse(**settings)


def _mark(parts: list[Part]) -> list[Part]:
    return [*parts, dict(_POINT)]


def _format(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The output configuration of the Converse API."""
    structure = {"jsonSchema": {"name": name, "schema": json.dumps(schema)}}
    return {"textFormat": {"type": "json_schema", "structure": structure}}


def _tool_options(request: ChatRequest, forced: dict[str, Any] | None) -> dict[str, Any]:
    """Tools in the form of the Converse API."""
    if request.schema is not None:
        tool = _tool(request.schema_name, "Give the answer.", request.schema)
        return {"tools": [tool], "tool_choice": forced}
    if not request.tools or request.tool_choice == "none":
        return {}
    options: dict[str, Any] = {
        "tools": [
            _tool(tool["name"], tool["description"] or tool["name"], tool["parameters"])
            for tool in plain_tools(request)
        ]
    }
    name = chosen_tool(request)
    if name is not None:
        options["tool_choice"] = {"tool": {"name": name}}
    elif request.tool_choice is not None:
        choice = "any" if request.tool_choice == "required" else str(request.tool_choice)
        options["tool_choice"] = {choice: {}}
    return options


def _tool(name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "toolSpec": {
            "name": name,
            "description": description,
            "inputSchema": {"json": dict(schema)},
        }
    }


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
