"""The prompt that finds out what a customer wants. All before the last message is constant."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rotina.gateway import Message
from rotina.graphs.answering.prompts import conversation_so_far
from rotina.graphs.support.state import Pending
from rotina.graphs.support.support import Support

HISTORY_CHARACTERS = 1200

_SYSTEM = """\
You read a customer's last message and decide what happens next, in one line of compact JSON.
{"action":"answer","question":"..."}: a question about products, rules, times or prices; write it \
so that it stands alone, in the customer's language.
{"action":"person"}: the customer asks for a human being, complains or is upset.
{"action":"talk"}: a greeting, thanks or goodbye without a request."""
_CONSENT = """\
{"action":"confirm"} or {"action":"decline"}: only when a yes or no is awaited and this is it."""
_COPY = "Copy arguments letter by letter from the customer's messages; what is not there is null."


def decision_schema(support: Support, *, pending: bool) -> dict[str, Any]:
    """One of the actions, each with its own fields."""
    options = [_option("answer", {"question": {"type": "string"}}), _option("person", {})]
    options.append(_option("talk", {}))
    options += [_option(tool.name, {"arguments": tool.wire}) for tool in support.tools]
    if pending:
        options += [_option("confirm", {}), _option("decline", {})]
    return {"anyOf": options}


def messages(
    support: Support, text: str, history: Sequence[Message], pending: Pending | None
) -> list[Message]:
    """The conversation that asks for a decision."""
    conversation: list[Message] = [{"role": "system", "content": _system(support)}]
    for said, decision in support.examples:
        conversation.append({"role": "user", "content": _task(said, [], None)})
        conversation.append({"role": "assistant", "content": compact(decision)})
    conversation.append({"role": "user", "content": _task(text, history, pending)})
    return conversation


def compact(value: Any) -> str:
    """JSON without white space: fewer tokens to generate."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _system(support: Support) -> str:
    lines = [support.persona.strip(), _SYSTEM]
    for tool in support.tools:
        empty = dict.fromkeys(tool.arguments.model_fields)
        shape = compact({"action": tool.name, "arguments": empty})
        lines.append(f"{shape}: {tool.description}")
    lines += [_CONSENT, _COPY if support.tools else ""]
    return "\n".join(line for line in lines if line)


def _task(text: str, history: Sequence[Message], pending: Pending | None) -> str:
    earlier = conversation_so_far(history, HISTORY_CHARACTERS)
    before = f"Conversation so far:\n{earlier}\n\n" if earlier else ""
    awaited = f"A yes or no is awaited to: {pending['asked']}\n" if pending else ""
    return f"{before}{awaited}Last message: {' '.join(text.split())}"


def _option(action: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"action": {"const": action}, **fields},
        "required": ["action", *fields],
        "additionalProperties": False,
    }
