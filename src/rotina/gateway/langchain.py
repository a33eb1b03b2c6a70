"""The gateway as LangChain's chat model and embeddings.

The gateway must be open; whoever opened it closes it. The synchronous methods are a thin face:
they hand the call to the gateway's event loop and wait, so they work from any thread but that
loop's own, for example from LangChain's executor. A program without a loop opens the gateway with
`open_gateway`, which runs one in a thread.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    convert_to_openai_messages,
)
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import make_invalid_tool_call, parse_tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel, ConfigDict, SkipValidation

from rotina.gateway.answer import ChatAnswer, ChatChunk, Message, Usage
from rotina.gateway.gateway import Gateway

T = TypeVar("T")


class RotinaChatModel(BaseChatModel):
    """A route of the gateway as a LangChain chat model.

    Errors are the gateway's: a truncated, empty or refused answer raises `ModelOutputError`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    gateway: SkipValidation[Gateway]
    route: str = "smart"
    temperature: float | None = 0.0
    max_tokens: int | None = None
    timeout: float | None = None
    """Seconds; None leaves it to the deployment."""
    stop: list[str] | None = None

    @property
    def _llm_type(self) -> str:
        return "rotina"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"route": self.route, "temperature": self.temperature, "max_tokens": self.max_tokens}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        name = str(kwargs.get("model", self.route))
        return {**params, "ls_provider": "rotina", "ls_model_name": name}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> ChatResult:
        return run_on(self.gateway, self._answer(messages, stop, kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - as above
        **kwargs: Any,
    ) -> ChatResult:
        return await hand_over(self.gateway, self._answer(messages, stop, kwargs))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        stream = self.gateway.stream(_wire(messages), **self._options(stop, kwargs))
        try:
            while (piece := await hand_over(self.gateway, _next(stream))) is not None:
                chunk = ChatGenerationChunk(message=_chunk(piece))
                if run_manager is not None:
                    await run_manager.on_llm_new_token(piece.text, chunk=chunk)
                yield chunk
        finally:
            await hand_over(self.gateway, stream.aclose())

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        stream = self.gateway.stream(_wire(messages), **self._options(stop, kwargs))
        try:
            while (piece := run_on(self.gateway, _next(stream))) is not None:
                chunk = ChatGenerationChunk(message=_chunk(piece))
                if run_manager is not None:
                    run_manager.on_llm_new_token(piece.text, chunk=chunk)
                yield chunk
        finally:
            run_on(self.gateway, stream.aclose())

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with these tools; they pass to the server as they are.

        `tool_choice` is `auto`, `none`, `required` (or LangChain's `any`), or a tool's name.
        """
        bound = {"tools": [convert_to_openai_tool(tool) for tool in tools], **kwargs}
        if tool_choice:
            bound["tool_choice"] = _tool_choice(tool_choice)
        return cast("Runnable[LanguageModelInput, AIMessage]", self.bind(**bound))

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: str = "json_schema",
        strict: bool | None = None,  # noqa: ARG002 - every answer is validated
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Answers as instances of a Pydantic model, or as dicts for other schemas.

        `method` and `strict` are accepted because LangChain's callers pass them. The deployment
        decides how the schema is asked for, and the gateway validates every answer, with a model's
        own validators too, and has it repaired: what still does not follow the schema raises
        `ModelOutputError`, also with `include_raw`. Other schemas stream dicts that grow.
        """
        parser: Any
        wanted: Any
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            parser, wanted, name = PydanticOutputParser(pydantic_object=schema), schema, None
        elif is_basemodel_subclass(cast("type", schema)):  # of pydantic.v1
            parser = PydanticOutputParser(pydantic_object=cast("Any", schema))
            wanted, name = convert_to_json_schema(schema), None
        else:
            parser, wanted = JsonOutputParser(), convert_to_json_schema(schema)
            name = str(wanted.get("title") or "output")
        traced = {"kwargs": {"method": method}, "schema": convert_to_json_schema(schema)}
        asked = self.bind(
            schema=wanted, schema_name=name, ls_structured_output_format=traced, **kwargs
        )
        if not include_raw:
            return cast("Runnable[LanguageModelInput, Any]", asked | parser)
        parsed = RunnablePassthrough.assign(
            parsed=lambda found: parser.invoke(found["raw"]), parsing_error=lambda _: None
        )
        return RunnableMap(raw=asked) | parsed

    def _options(self, stop: list[str] | None, given: Mapping[str, Any]) -> dict[str, Any]:
        own = {
            "route": self.route,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "timeout": self.timeout,
            "stop": stop or self.stop,
        }
        # LangChain adds keys of its own, and calls `model` what is a route here.
        named = {"route": given["model"]} if "model" in given else {}
        others = {k: v for k, v in given.items() if k != "model" and not k.startswith("ls_")}
        return own | named | others

    async def _answer(
        self, messages: list[BaseMessage], stop: list[str] | None, given: Mapping[str, Any]
    ) -> ChatResult:
        answer = await self.gateway.chat(_wire(messages), **self._options(stop, given))
        return ChatResult(generations=[ChatGeneration(message=_message(answer))])


class RotinaEmbeddings(Embeddings):
    """A route of the gateway as LangChain embeddings."""

    def __init__(
        self, gateway: Gateway, route: str = "embed", timeout: float | None = None
    ) -> None:
        self._gateway = gateway
        self._route = route
        self._timeout = timeout

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector a text."""
        asked = self._gateway.embed(texts, route=self._route, timeout=self._timeout)
        return (await hand_over(self._gateway, asked)).vectors

    async def aembed_query(self, text: str) -> list[float]:
        """The vector of a text."""
        return (await self.aembed_documents([text]))[0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `aembed_documents`, waiting."""
        return run_on(self._gateway, self.aembed_documents(texts))

    def embed_query(self, text: str) -> list[float]:
        """As `aembed_query`, waiting."""
        return run_on(self._gateway, self.aembed_query(text))


@contextmanager
def open_gateway(gateway: Gateway) -> Iterator[Gateway]:
    """Open the gateway on an event loop in a thread, for a program that has no loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="rotina-gateway", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(gateway.__aenter__(), loop).result()
        try:
            yield gateway
        finally:
            closing = gateway.__aexit__(None, None, None)
            asyncio.run_coroutine_threadsafe(closing, loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def run_on(gateway: Gateway, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine on the gateway's loop and wait for it, from another thread.

    Raises `RuntimeError` on the loop's own thread, which would wait for itself for ever.
    """
    try:
        loop = _loop_of(gateway)
    except RuntimeError:
        # Nobody will await it, which Python would warn of.
        coroutine.close()
        raise
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result()
    except BaseException:
        # Ctrl-C in the waiting thread: the call must not go on, and be paid for, unseen.
        future.cancel()
        raise


async def hand_over(gateway: Gateway, coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, on the gateway's loop, awaited on whatever loop this is.

    Raises `RuntimeError` when the gateway is closed.
    """
    try:
        loop = gateway.loop
    except RuntimeError:
        coroutine.close()
        raise
    if loop is asyncio.get_running_loop():
        return await coroutine
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))


def _loop_of(gateway: Gateway) -> asyncio.AbstractEventLoop:
    loop = gateway.loop
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return loop
    if running is loop:
        raise RuntimeError("This is the gateway's own event loop: use the async method here")
    return loop


async def _next(stream: AsyncIterator[ChatChunk]) -> ChatChunk | None:
    return await anext(stream, None)


def _wire(messages: list[BaseMessage]) -> list[Message]:
    return cast("list[Message]", convert_to_openai_messages(messages))


def _tool_choice(choice: str) -> str | dict[str, Any]:
    if choice == "any":
        return "required"
    if choice in {"auto", "none", "required"}:
        return choice
    return {"type": "function", "function": {"name": choice}}


def _message(answer: ChatAnswer) -> AIMessage:
    calls, invalid = [], []
    for raw in answer.tool_calls:
        try:
            call = parse_tool_call(raw, return_id=True)
        except ValueError as error:
            invalid.append(make_invalid_tool_call(raw, str(error)))
        else:
            calls.append(cast("Any", call))
    facts = answer.model_dump(
        mode="json", include={"finish_reason", "route", "deployment", "attempts", "cost_usd"}
    )
    return AIMessage(
        content=answer.text,
        tool_calls=calls,
        invalid_tool_calls=invalid,
        usage_metadata=_usage(answer.usage),
        response_metadata={"model_name": answer.model, "model_provider": "rotina", **facts},
    )


def _chunk(piece: ChatChunk) -> AIMessageChunk:
    metadata: dict[str, Any] = {}
    if piece.finish_reason:
        metadata = {"finish_reason": piece.finish_reason, "model_provider": "rotina"}
        if piece.model:
            metadata["model_name"] = piece.model
    calls = [
        tool_call_chunk(
            name=raw.get("function", {}).get("name"),
            args=raw.get("function", {}).get("arguments"),
            id=raw.get("id"),
            index=raw.get("index"),
        )
        for raw in piece.tool_calls
    ]
    return AIMessageChunk(
        content=piece.text,
        tool_call_chunks=calls,
        usage_metadata=_usage(piece.usage) if piece.usage else None,
        response_metadata=metadata,
    )


def _usage(usage: Usage) -> UsageMetadata | None:
    """LangChain's form, which knows no unknown: None unless both counts are known."""
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    found = UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )
    read = InputTokenDetails()
    if usage.cached_tokens is not None:
        read["cache_read"] = usage.cached_tokens
    if usage.cache_write_tokens is not None:
        read["cache_creation"] = usage.cache_write_tokens
    if read:
        found["input_token_details"] = read
    if usage.reasoning_tokens is not None:
        found["output_token_details"] = OutputTokenDetails(reasoning=usage.reasoning_tokens)
    return found
