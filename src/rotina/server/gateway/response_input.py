"""From a Responses request to what the gateway takes: messages and parameters."""

from collections.abc import Iterable, Sequence
from typing import Any, assert_never, cast

from rotina.gateway import Message
from rotina.server.gateway.response_forms import (
    ChosenFunction,
    FunctionCallItem,
    FunctionOutputItem,
    FunctionTool,
    ImagePart,
    Item,
    JsonObject,
    JsonSchema,
    MessageItem,
    Part,
    RefusalPart,
    ResponseRequest,
    TextPart,
)


def messages_of(wanted: ResponseRequest) -> list[Message]:
    """The conversation; the instructions are its first system message."""
    found: list[dict[str, Any]] = []
    if wanted.instructions:
        found.append({"role": "system", "content": wanted.instructions})
    for item in wanted.input:
        _add(found, item)
    return cast("list[Message]", found)


def parameters_of(wanted: ResponseRequest) -> dict[str, Any]:
    """What the gateway's `chat` and `stream` take beside messages and route."""
    choice: Any = wanted.tool_choice
    if isinstance(choice, ChosenFunction):
        choice = {"type": "function", "function": {"name": choice.name}}
    return {
        "max_tokens": wanted.max_output_tokens,
        "temperature": wanted.temperature,
        "tools": [_tool(tool) for tool in wanted.tools or ()],
        "tool_choice": choice,
        **_contract(wanted),
    }


def _contract(wanted: ResponseRequest) -> dict[str, Any]:
    match wanted.text and wanted.text.format:
        case JsonSchema(json_schema=schema, name=name):
            return {"schema": schema, "schema_name": name}
        case JsonObject():
            return {"schema": {"type": "object"}}
        case _:
            return {}


def _tool(tool: FunctionTool) -> dict[str, Any]:
    return {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}


def _add(found: list[dict[str, Any]], item: Item) -> None:
    match item:
        case MessageItem():
            # Only OpenAI's own newer models know the role `developer`, and read `system` the same.
            role = "system" if item.role == "developer" else item.role
            found.append({"role": role, "content": _content(item.content)})
        case FunctionCallItem():
            function = {"name": item.name, "arguments": item.arguments}
            call = {"id": item.call_id, "type": "function", "function": function}
            # Calls of one answer are one message in the other protocol, its text included.
            if not found or found[-1]["role"] != "assistant":
                found.append({"role": "assistant", "content": None})
            found[-1].setdefault("tool_calls", []).append(call)
        case FunctionOutputItem():
            text = _joined(item.output)
            found.append({"role": "tool", "tool_call_id": item.call_id, "content": text})
        case _:
            assert_never(item)


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    if any(isinstance(part, ImagePart) for part in parts):
        return [_part(part) for part in parts]
    return _joined(parts)


def _joined(parts: Iterable[Part]) -> str:
    return "".join(part["text"] for part in map(_part, parts))


def _part(part: Part) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case RefusalPart():
            return {"type": "text", "text": part.refusal}
        case ImagePart():
            image = {"url": part.image_url}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case _:
            assert_never(part)
