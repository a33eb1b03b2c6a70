"""The wire forms of OpenAI's Responses API, its stateless core: what is taken, what is refused."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "store": (False,),
    "background": (False,),
    "previous_response_id": (),
    "conversation": (),
    "prompt": (),
    "include": ([],),
    "truncation": ("disabled",),
    "reasoning": ({},),
    "top_p": (1,),
    "top_logprobs": (0,),
    "max_tool_calls": (),
    "parallel_tool_calls": (True,),
}
"""Parameters that are not supported, and the values that change nothing."""
_WHY = {
    "store": "nothing is stored here, which absent or false says",
    "previous_response_id": "nothing is stored here: send the whole conversation as input",
    "conversation": "nothing is stored here: send the whole conversation as input",
    "background": "start a run instead (POST /v1/runs), which is durable",
}


def _parts(given: Any) -> Any:
    return [{"type": "input_text", "text": given}] if isinstance(given, str) else given


def _items(given: Any) -> Any:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def _kind(given: Any) -> str:
    """An item's type; a message may leave it out."""
    return str(given.get("type", "message")) if isinstance(given, dict) else "message"


class _Loose(BaseModel):
    """Ids and statuses of earlier answers come along, and say nothing new."""

    model_config = ConfigDict(extra="ignore")


class TextPart(_Loose):
    """A text, the caller's or an earlier answer's."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class RefusalPart(_Loose):
    """An earlier refusal."""

    type: Literal["refusal"]
    refusal: str


class ImagePart(_Loose):
    """An image, by its URL (`data:` too)."""

    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto", "low", "high"] | None = None


Part = Annotated[TextPart | RefusalPart | ImagePart, Field(discriminator="type")]
Parts = Annotated[list[Part], BeforeValidator(_parts)]


class MessageItem(_Loose):
    """A message of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Parts


class FunctionCallItem(_Loose):
    """A function that the model has called."""

    type: Literal["function_call"]
    call_id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    arguments: str


class FunctionOutputItem(_Loose):
    """What the function has returned."""

    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1)
    output: Annotated[list[TextPart], BeforeValidator(_parts)]


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")],
    Discriminator(_kind),
]


class FunctionTool(BaseModel):
    """A function that the model may call. Built-in tools are refused by name."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["function"]
    name: str = Field(min_length=1)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_no_builtin(cls, given: Any) -> Any:
        kind = given.get("type") if isinstance(given, dict) else None
        if isinstance(kind, str) and kind != "function":
            raise ValueError(f"the built-in tool {kind[:40]!r} is not supported, functions are")
        return given


class ChosenFunction(BaseModel):
    """The one function that must be called."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["function"]
    name: str = Field(min_length=1)


class PlainText(BaseModel):
    """Any text."""

    type: Literal["text"]


class JsonObject(BaseModel):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(BaseModel):
    """A JSON value that follows a schema (Draft 2020-12); the gateway checks it."""

    model_config = ConfigDict(populate_by_name=True)

    type: Literal["json_schema"]
    name: str = "output"
    json_schema: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    description: str | None = None


class TextOptions(BaseModel):
    """How the text shall look."""

    model_config = ConfigDict(extra="forbid")

    format: Annotated[PlainText | JsonObject | JsonSchema, Field(discriminator="type")] | None = (
        None
    )
    verbosity: Literal["medium"] | None = None


class StreamOptions(BaseModel):
    """Taken without effect: there is no obfuscation to leave out."""

    include_obfuscation: bool | None = None


class ResponseRequest(BaseModel):
    """The parameters of the stateless core; others are refused by name, not dropped in silence."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, description="a route, or a deployment's model")
    input: Annotated[
        list[Item],
        Field(min_length=1),
        BeforeValidator(_items),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1}]}),
    ]
    instructions: str | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenFunction | None = None
    text: TextOptions | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None
    include: list[str] | None = None
    truncation: str | None = None
    reasoning: dict[str, Any] | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    max_tool_calls: int | None = None
    parallel_tool_calls: bool | None = None

    # What concerns OpenAI's own bookkeeping: taken, without effect; metadata is given back.
    user: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @field_validator(*NEUTRAL)
    @classmethod
    def _only_neutral(cls, given: Any, info: Any) -> Any:
        if given is not None and given not in NEUTRAL[info.field_name]:
            why = _WHY.get(info.field_name, "leave it out")
            raise ValueError(f"is not supported by this gateway: {why}")
        return given

    @model_validator(mode="after")
    def _calls_are_answered(self) -> Self:
        """Every output is of a call before it: model servers refuse others without saying why."""
        called: set[str] = set()
        for item in self.input:
            if isinstance(item, FunctionCallItem):
                called.add(item.call_id)
            elif isinstance(item, FunctionOutputItem) and item.call_id not in called:
                raise ValueError(
                    f"input has a function_call_output for {item.call_id!r} and no function_call "
                    "before it: nothing is stored here, so send the call too"
                )
        return self

    def echoed(self) -> dict[str, Any]:
        """What a response says of its request."""
        given = {"format": {"type": "text"}}
        if self.text is not None:
            given |= self.text.model_dump(exclude_none=True, by_alias=True)
        choice = self.tool_choice
        return {
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata or {},
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": self.temperature,
            "text": given,
            "tool_choice": choice.model_dump()
            if isinstance(choice, ChosenFunction)
            else choice or "auto",
            "tools": [tool.model_dump() for tool in self.tools or ()],
            "top_p": None,
            "truncation": "disabled",
            "user": self.user,
        }
