"""The wire forms of OpenAI's chat completions: what is taken, and what is refused by name."""

from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rotina.gateway import Message, Usage

Role = Literal["system", "developer", "user", "assistant", "tool"]

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "logit_bias": ({},),
    "parallel_tool_calls": (True,),
}
"""Parameters that the gateway does not pass on, and the values that change nothing."""


class ChatMessage(BaseModel):
    """One message, handed on as it is."""

    model_config = ConfigDict(extra="allow")

    role: Role
    content: str | list[dict[str, Any]] | None = None


class TextFormat(BaseModel):
    """Any text."""

    type: Literal["text"]


class ObjectFormat(BaseModel):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(BaseModel):
    """A JSON Schema (Draft 2020-12)."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = "output"
    json_schema: dict[str, Any] = Field(alias="schema")


class SchemaFormat(BaseModel):
    """A JSON value that follows a schema; the gateway checks it."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class StreamOptions(BaseModel):
    """What a stream tells beside the text."""

    include_usage: bool = False


class ChatCompletionRequest(BaseModel):
    """The parameters that the gateway takes; others are refused, not dropped in silence."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, description="a route, or a deployment's model")
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: str | list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: (
        Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")] | None
    ) = None

    n: int | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    logit_bias: dict[str, float] | None = None
    parallel_tool_calls: bool | None = None

    # What concerns OpenAI's own bookkeeping, or is a wish: taken, without effect.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    seed: int | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="after")
    def _only_neutral(self) -> Self:
        for name, neutral in NEUTRAL.items():
            value = getattr(self, name)
            if value is not None and value not in neutral:
                raise ValueError(
                    f"{name}={value!r} is not supported by this gateway: leave {name} out"
                )
        return self

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the tokens used."""
        return self.stream_options is not None and self.stream_options.include_usage

    def gateway_messages(self) -> list[Message]:
        """The messages as the gateway takes them."""
        return [
            cast("Message", {"content": None, **message.model_dump(exclude_unset=True)})
            for message in self.messages
        ]

    def parameters(self) -> dict[str, Any]:
        """What the gateway's `chat` and `stream` take beside messages and route."""
        return {
            "max_tokens": self.max_completion_tokens or self.max_tokens,
            "temperature": self.temperature,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop,
            "tools": self.tools or (),
            "tool_choice": self.tool_choice,
            **self._contract(),
        }

    def _contract(self) -> dict[str, Any]:
        match self.response_format:
            case SchemaFormat(json_schema=named):
                return {"schema": named.json_schema, "schema_name": named.name}
            case ObjectFormat():
                return {"schema": {"type": "object"}}
            case _:
                return {}


class ResponseMessage(BaseModel):
    """What the model wrote."""

    role: Literal["assistant"]
    content: str | None
    tool_calls: list[dict[str, Any]] | None = None
    refusal: str | None = None


class Choice(BaseModel):
    """The one answer."""

    index: int
    message: ResponseMessage
    finish_reason: str


class CompletionUsage(BaseModel):
    """Tokens of one call."""

    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    prompt_tokens_details: dict[str, int | None]

    @classmethod
    def of(cls, usage: Usage) -> Self:
        """The gateway's count; None where the model server did not say."""
        known = usage.prompt_tokens is not None and usage.completion_tokens is not None
        return cls(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            total_tokens=(usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
            if known
            else None,
            prompt_tokens_details={"cached_tokens": usage.cached_tokens},
        )


class ChatCompletion(BaseModel):
    """A complete answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    """Unix seconds."""
    model: str
    """The model as its server names it."""
    choices: list[Choice]
    usage: CompletionUsage | None


class OpenAIErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """An error in the form that OpenAI's clients read."""

    error: OpenAIErrorBody
