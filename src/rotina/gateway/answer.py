"""What goes into a model call and what comes out of it, whatever the provider."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NotRequired, TypedDict, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from rotina.settings import Price

M = TypeVar("M", bound=BaseModel)

_MILLION = Decimal(1_000_000)
_NANO_DOLLAR = Decimal("1e-9")


class Message(TypedDict):
    """One message of a conversation, in OpenAI's wire form."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    content: str | list[dict[str, Any]] | None
    """A text, or content parts; None only in an assistant's message that calls tools."""
    name: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_call_id: NotRequired[str]


class Usage(BaseModel):
    """Tokens of one call; None where the server did not say."""

    model_config = ConfigDict(frozen=True)

    prompt_tokens: int | None = None
    """All tokens of the prompt, the cached ones among them."""
    completion_tokens: int | None = None
    """Tokens of the answer; 0 for embeddings and reranking."""
    cached_tokens: int | None = None
    """Tokens of the prompt that the server read from its cache."""
    cache_write_tokens: int | None = None
    """Tokens of the prompt that the server wrote to its cache, where it charges for that."""
    reasoning_tokens: int | None = None
    """Tokens of the answer that the model thought with and did not show."""

    def __add__(self, other: "Usage") -> "Usage":
        """The tokens of both; unknown plus something stays unknown."""
        return Usage(
            prompt_tokens=_sum(self.prompt_tokens, other.prompt_tokens),
            completion_tokens=_sum(self.completion_tokens, other.completion_tokens),
            cached_tokens=_sum(self.cached_tokens, other.cached_tokens),
            cache_write_tokens=_sum(self.cache_write_tokens, other.cache_write_tokens),
            reasoning_tokens=_sum(self.reasoning_tokens, other.reasoning_tokens),
        )

    def cost(self, price: Price | None) -> Decimal | None:
        """US dollars, to the nano-dollar; None when the price or the tokens are unknown.

        Tokens that the cache gave or took cost as much as others where the price does not say.
        """
        if price is None or self.prompt_tokens is None or self.completion_tokens is None:
            return None
        read = min(self.cached_tokens or 0, self.prompt_tokens)
        written = min(self.cache_write_tokens or 0, self.prompt_tokens - read)
        dollars = (self.prompt_tokens - read - written) * Decimal(str(price.input))
        dollars += read * _either(price.cached_input, price.input)
        dollars += written * _either(price.cache_write, price.input)
        dollars += self.completion_tokens * Decimal(str(price.output))
        return (dollars / _MILLION).quantize(_NANO_DOLLAR)


class ChatAnswer(BaseModel):
    """A complete, checked answer."""

    model_config = ConfigDict(frozen=True)

    text: str
    """What the model wrote; empty only when it calls tools."""
    data: Any = None
    """The parsed JSON, valid against the schema that was given; None without a schema."""
    tool_calls: tuple[dict[str, Any], ...] = ()
    """Tools that the model asks for, in OpenAI's wire form."""
    finish_reason: str
    refusal: str | None = None
    """Only in the `answer` of a `ModelOutputError`."""
    usage: Usage
    model: str
    """The model as the server names it."""
    route: str
    deployment: str
    latency_ms: int
    """From the first connect to the last byte, tries and waits between them included."""
    attempts: int
    """Requests that were sent."""
    cost_usd: Decimal | None
    """None means unknown: no price is declared, or the server did not count the tokens."""
    cached: bool = False
    """Whether it was given before: tokens are those of then, and it has cost nothing."""
    confidence: float | None = None
    """The geometric mean of the probabilities of its tokens, 0 to 1, where the route asks for it
    (`min_confidence`) and the server tells them."""
    call_id: UUID | None = None
    """The call's row in the ledger; of an answer out of the cache, that of the call of then."""
    truncated_messages: int = 0
    """Messages that `truncate` left out of the prompt or cut, so that it fits."""

    def as_model(self, model: type[M]) -> M:
        """`data` as an instance of a Pydantic model: of the one that was asked for, certainly.

        Raises pydantic's `ValidationError` where another model does not take the data.
        """
        return model.model_validate_json(json.dumps(self.data))


class ChatChunk(BaseModel):
    """A piece of a streamed answer."""

    model_config = ConfigDict(frozen=True)

    text: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    """Pieces of tool calls, in OpenAI's wire form; `index` says which call they continue."""
    finish_reason: str | None = None
    """In the chunk that ends the text."""
    usage: Usage | None = None
    """In the last chunk."""
    model: str | None = None
    refusal: str | None = None
    truncated_messages: int = 0
    """As in `ChatAnswer`; in the first piece."""


class _CallFacts(BaseModel):
    """Who answered, and what it took; as in `ChatAnswer`."""

    model_config = ConfigDict(frozen=True)

    model: str
    usage: Usage
    route: str
    deployment: str
    latency_ms: int
    attempts: int
    cost_usd: Decimal | None
    cached: int = 0
    """Vectors that were given before: tokens and cost are those of the others."""
    call_id: UUID | None = None
    """The call's row in the ledger; None where every vector was given before."""


class Embeddings(_CallFacts):
    """One vector a text, in the order of the texts."""

    vectors: list[list[float]]
    """All of one dimension, all finite; not scaled."""


class RankedDocument(BaseModel):
    """One of the documents, and how relevant it is."""

    model_config = ConfigDict(frozen=True)

    index: int
    """Its place among the documents that were given, from 0."""
    score: float
    """The more, the more relevant. As the server says, mostly 0 to 1; of a deployment with the
    option `rerank_logits` always. Scores of two models cannot be compared."""


class Reranking(_CallFacts):
    """Documents by their relevance to a query."""

    results: list[RankedDocument]
    """The best first; equal scores in the order of the documents."""


@dataclass(frozen=True)
class ChatRequest:
    """What a provider is asked for."""

    messages: Sequence[Message]
    schema: Mapping[str, Any] | None = None
    """Set only when the server shall constrain its output to it."""
    schema_name: str = "output"
    max_tokens: int | None = None
    temperature: float | None = 0.0
    stop: Sequence[str] = ()
    tools: Sequence[Mapping[str, Any]] = ()
    """Tools in OpenAI's wire form."""
    tool_choice: str | Mapping[str, Any] | None = None
    truncate: Literal["oldest", "middle"] | None = None
    """What may go where the prompt does not fit; None: nothing."""
    logprobs: bool = False
    """Whether the probabilities of the answer's tokens are wanted; changes no answer."""

    def asked(self) -> dict[str, Any]:
        """All that the answer depends on, as records and caches know it.

        `truncate` is in it only where it was given: what was recorded before it was there is
        still found.
        """
        every = {name: value for name, value in vars(self).items() if name != "logprobs"}
        return {name: every[name] for name in every if name != "truncate" or self.truncate}


@dataclass(frozen=True)
class CachedRequest(ChatRequest):
    """A request to a deployment with `prompt_cache`."""

    cache_key: str = ""
    """The same for prompts of one tenant that begin alike; says nothing about either."""


@dataclass(frozen=True)
class Reply:
    """What a provider returns: unchecked."""

    text: str
    finish_reason: str | None
    model: str | None
    usage: Usage = field(default_factory=Usage)
    tool_calls: tuple[dict[str, Any], ...] = ()
    refusal: str | None = None
    confidence: float | None = None
    """The geometric mean of the probabilities of the answer's tokens, where they were told."""

    def as_chunk(self) -> ChatChunk:
        """The whole reply as the only piece of a stream."""
        return ChatChunk(
            text=self.text,
            tool_calls=tuple({"index": at, **call} for at, call in enumerate(self.tool_calls)),
            finish_reason=self.finish_reason,
            usage=self.usage,
            model=self.model,
            refusal=self.refusal,
        )


@dataclass(frozen=True)
class EmbeddingReply:
    """What a provider returns for one batch of texts."""

    vectors: list[list[float]]
    model: str | None
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class RerankReply:
    """What a provider returns for one batch of documents: unchecked."""

    scores: list[tuple[Any, Any]]
    """Place in the batch and score, in any order."""
    model: str | None
    usage: Usage = field(default_factory=Usage)
    logits: bool = False
    """Whether the scores are any numbers, whose sigmoid is the relevance."""


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _either(price: float | None, otherwise: float) -> Decimal:
    return Decimal(str(otherwise if price is None else price))
