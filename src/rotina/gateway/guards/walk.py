"""The texts of a request or an answer: each is given to a function and replaced by its result."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from rotina.gateway.answer import Message

Change = Callable[[str], str]


def in_message(message: Message, change: Change) -> Message:
    """Its content, texts among its content parts, and arguments of its tool calls."""
    changed: dict[str, Any] = {**message}
    content = message.get("content")
    if isinstance(content, str):
        changed["content"] = in_text(content, change)
    elif content is not None:
        changed["content"] = [_in_part(part, change) for part in content]
    if message.get("tool_calls"):
        changed["tool_calls"] = in_calls(message["tool_calls"], change)
    return cast("Message", changed)


def in_calls(calls: Iterable[Mapping[str, Any]], change: Change) -> list[dict[str, Any]]:
    """The arguments of tool calls, which are JSON."""
    changed = []
    for call in calls:
        function = call.get("function")
        if isinstance(function, Mapping) and isinstance(function.get("arguments"), str):
            arguments = in_json(function["arguments"], change)
            changed.append({**call, "function": {**function, "arguments": arguments}})
        else:
            changed.append(dict(call))
    return changed


def in_text(text: str, change: Change) -> str:
    """A text; where it is a JSON object or array, what stands in that, so that it stays JSON."""
    return in_json(text, change) if text.lstrip()[:1] in {"{", "["} else change(text)


def in_json(text: str, change: Change) -> str:
    """The strings, whole numbers and keys of a JSON text; of another text, the whole.

    A value is shown with its name before it, which may say what it is. What nothing changes stays
    as it is written.
    """
    try:
        value = json.loads(text)
        changed = _in_value(value, change)
    except (ValueError, RecursionError):
        return change(text)
    return text if changed == value else json.dumps(changed, ensure_ascii=False)


def _in_value(value: Any, change: Change) -> Any:
    if isinstance(value, str):
        return in_text(value, change)
    if isinstance(value, dict):
        return {change(key): _named(key, each, change) for key, each in value.items()}
    if isinstance(value, list):
        return [_in_value(each, change) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        # A number of eleven digits may be a CPF.
        changed = change(str(value))
        return value if changed == str(value) else changed
    return value


def _named(name: str, value: Any, change: Change) -> Any:
    plain = isinstance(value, str | int) and not isinstance(value, bool)
    if not plain or (isinstance(value, str) and value.lstrip()[:1] in {"{", "["}):
        return _in_value(value, change)
    before = f"{name}: "
    shown = f"{before}{value}"
    changed = change(shown)
    if changed == shown:
        return value
    # The name itself may have been changed as well.
    return (
        changed.removeprefix(before) if changed.startswith(before) else changed.split(": ", 1)[-1]
    )


def _in_part(part: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """A content part: its text, and what stands in the parts of a tool's result within it."""
    return {key: _in_field(key, value, change) for key, value in part.items()}


def _in_field(key: str, value: Any, change: Change) -> Any:
    if key in {"text", "content"} and isinstance(value, str):
        return in_text(value, change)
    if key == "content" and isinstance(value, list):
        return [_in_part(each, change) if isinstance(each, dict) else each for each in value]
    return _in_value(value, change) if key == "input" else value
