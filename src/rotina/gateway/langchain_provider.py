"""What is common to the providers that are reached through a LangChain chat model.

A provider's file says how requests are put and what its finish reasons mean; the conversion of
messages, pieces, tool calls and usage, and what an error means, are here. The model's own retries
and time-outs are off: a call is one try, and its connections are the gateway's (`carrier`).
"""

import json
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, closing, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rotina.errors import ModelError, ModelOutputError, ModelRequestError
from rotina.gateway.answer import (
    ChatChunk,
    ChatRequest,
    EmbeddingReply,
    Message,
    Reply,
    RerankReply,
    Usage,
)
from rotina.gateway.carrier import Responses, model_error
from rotina.gateway.failure import Endpoint

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
    from langchain_core.messages.ai import UsageMetadata

NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
"""The schema of a tool that takes nothing."""
UNHEARD: Any = {"callbacks": []}
"""The config of a model call: a graph that streams would hear it beside the gateway's own face."""


class LangChainProvider:
    """One deployment behind a chat model; see `Provider`. A subclass says what is its own."""

    FINISH_REASONS: ClassVar[Mapping[str, str]]
    """The provider's reasons, in OpenAI's words; others stay as they are, and are refused."""
    REASON_KEYS: ClassVar[tuple[str, ...]]
    """Where in the response's metadata the reason stands."""

    def __init__(self, endpoint: Endpoint, model: "BaseChatModel") -> None:
        self._endpoint = endpoint
        self._model = model

    async def chat(self, request: ChatRequest) -> Reply:
        """One complete answer."""
        responses = Responses()
        with closing(responses), self._errors(), responses.kept():
            message = await self._invoke(self._messages(request), self._options(request))
        metadata, calls = message.response_metadata, _wire_calls(message.tool_calls)
        text = message.text
        reason = self._reason(metadata, called=bool(calls))
        if calls and self._as_text(request):
            # The tool stood for the schema, so its arguments are the text and the end is normal.
            text, calls = calls[0]["function"]["arguments"], ()
            reason = "stop" if reason == "tool_calls" else reason
        return Reply(text, reason, _model_name(metadata), _usage(message.usage_metadata), calls)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """The answer in pieces; the last one has the finish reason and the usage."""
        from langchain_core.messages.ai import add_usage  # noqa: PLC0415 - heavy

        metadata: dict[str, Any] = {}
        usage: UsageMetadata | None = None
        called, as_text = False, self._as_text(request)
        with self._errors():
            pieces = self._pieces(self._messages(request), self._options(request))
            async with aclosing(_each(pieces)) as found:
                async for piece in found:
                    metadata |= piece.response_metadata
                    if piece.usage_metadata is not None:
                        usage = add_usage(usage, piece.usage_metadata)
                    called = called or bool(piece.tool_call_chunks)
                    yield _chunk(piece, as_text=as_text)
        reason = self._reason(metadata, called=called)
        reason = "stop" if as_text and reason == "tool_calls" else reason
        yield ChatChunk(finish_reason=reason, usage=_usage(usage), model=_model_name(metadata))

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        """Not offered: raises `ModelRequestError`."""
        raise ModelRequestError(
            f"{self._endpoint} has no embeddings for {len(texts)} texts: "
            "point the route `embed` at another deployment"
        )

    rerank_batch: ClassVar[int] = 1

    async def rerank(self, query: str, documents: Sequence[str]) -> RerankReply:  # noqa: ARG002 - as the protocol says
        """Not offered: raises `ModelRequestError`."""
        raise ModelRequestError(
            f"{self._endpoint} does not rerank, and was given {len(documents)} documents: "
            "point the route at a deployment that does"
        )

    async def close(self) -> None:
        """Nothing of its own: the connections are the gateway's."""

    def _options(self, request: ChatRequest) -> dict[str, Any]:
        """The request's parameters, tools and schema as arguments of the chat model."""
        raise NotImplementedError

    def _wire_messages(self, request: ChatRequest) -> Sequence[Message]:
        """The messages in OpenAI's form, with the provider's marks for its prompt cache."""
        return request.messages

    def _library_error(self, error: Exception) -> ModelError | None:  # noqa: ARG002 - for subclasses
        """What an error means that the library itself raises, such as one inside a stream."""
        return None

    def _reason(self, metadata: Mapping[str, Any], *, called: bool) -> str | None:
        """Why the answer ended; None when the provider did not say."""
        found = next((metadata[key] for key in self.REASON_KEYS if metadata.get(key)), None)
        reason = self.FINISH_REASONS.get(str(found), str(found)) if found else None
        return "tool_calls" if called and reason == "stop" else reason

    def _invoke(
        self, messages: "list[BaseMessage]", options: Mapping[str, Any]
    ) -> "Awaitable[AIMessage]":
        return self._model.ainvoke(messages, UNHEARD, **options)

    def _pieces(
        self, messages: "list[BaseMessage]", options: Mapping[str, Any]
    ) -> "AsyncGenerator[AIMessageChunk, None]":
        # It is declared as an iterator, and is a generator.
        stream = self._model.astream(messages, UNHEARD, **options)
        return cast("AsyncGenerator[AIMessageChunk, None]", stream)

    def _messages(self, request: ChatRequest) -> "list[BaseMessage]":
        from langchain_core.messages import convert_to_messages  # noqa: PLC0415 - heavy

        return convert_to_messages([dict(message) for message in self._wire_messages(request)])

    def _takes(self, feature: str) -> bool:
        """Whether the model takes something, as far as the library's table of models says."""
        profile: Mapping[str, Any] = getattr(self._model, "profile", None) or {}
        return profile.get(feature) is not False

    def _sampling(self, request: ChatRequest, max_tokens: str = "max_tokens") -> dict[str, Any]:
        """What most chat models call the same; a temperature only where the model takes one."""
        found: dict[str, Any] = {}
        if request.temperature is not None and self._takes("temperature"):
            found["temperature"] = request.temperature
        if request.max_tokens is not None:
            found[max_tokens] = request.max_tokens
        if request.stop:
            found["stop"] = list(request.stop)
        return found

    def _schema_is_tool(self) -> bool:
        """Whether a schema is asked for as a tool that must be called: its arguments are the
        answer."""
        return False

    def _as_text(self, request: ChatRequest) -> bool:
        return request.schema is not None and self._schema_is_tool()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - libraries raise what they like; none is lost
            # `from None`: a library's error may hold the request, and with it the key.
            raise self._classified(error) from None

    def _classified(self, error: Exception) -> ModelError:
        known = model_error(error) or self._library_error(error)
        if known is not None:
            return known
        said = self._endpoint.excerpt(str(error))
        return ModelOutputError(
            f"The client of {self._endpoint} could not write the request or read the answer "
            f"({type(error).__name__}: {said})"
        )


async def _each(
    pieces: "AsyncGenerator[AIMessageChunk, None]",
) -> "AsyncGenerator[AIMessageChunk, None]":
    """The pieces; leaving early closes their connection."""
    responses = Responses()
    with closing(responses):
        async with aclosing(pieces):
            while True:
                with responses.kept():
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                yield piece


def plain_tools(request: ChatRequest) -> list[dict[str, Any]]:
    """Name, description and schema of each tool; a schema that is a tool is the only one."""
    if not request.tools:
        return []
    return [
        {
            "name": tool["function"]["name"],
            "description": tool["function"].get("description") or "",
            "parameters": tool["function"].get("parameters") or NO_PARAMETERS,
        }
        for tool in request.tools
    ]


def chosen_tool(request: ChatRequest) -> str | None:
    """The name of the tool that the model must call, if one is named."""
    choice = request.tool_choice
    return None if choice is None or isinstance(choice, str) else choice["function"]["name"]


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


def _model_name(metadata: Mapping[str, Any]) -> str | None:
    return metadata.get("model_name") or metadata.get("model")


def _usage(given: "UsageMetadata | None") -> Usage:
    if given is None:
        return Usage()
    read = given.get("input_token_details") or {}
    # What is kept for minutes and for hours is counted apart, and then not together.
    writes = ("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
    written = [int(read[name]) for name in writes if name in read]  # type: ignore[literal-required]
    return Usage(
        # LangChain fills in zero for what the server left out; no prompt has zero tokens.
        prompt_tokens=given["input_tokens"] or None,
        completion_tokens=given["output_tokens"],
        cached_tokens=read.get("cache_read"),
        cache_write_tokens=sum(written) if written else None,
        reasoning_tokens=(given.get("output_token_details") or {}).get("reasoning"),
    )
