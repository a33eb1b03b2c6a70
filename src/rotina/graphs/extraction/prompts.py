"""Prompts of extraction. The system prompt and the examples are the same for every document of
an extraction, so a server's prefix cache pays for them once."""

import json
from typing import Any

from rotina.gateway import Message
from rotina.graphs.extraction.schema import JsonSchema, empty_value, field_guide

INSTRUCTIONS = """\
You extract data from one document and answer with one line of compact JSON.
Copy each value letter by letter as the document writes it, numbers and dates too: \
never convert, translate, calculate or complete. Leave out currency signs and units.
What the document does not state is null; a list without entries is []."""


def compact(value: Any) -> str:
    """JSON without white space: fewer tokens to generate."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def system_prompt(schema: JsonSchema, instructions: str) -> str:
    """The constant part: rules, fields, and the empty answer as the shape to follow."""
    guide = "\n".join(field_guide(schema))
    parts = [INSTRUCTIONS, instructions.strip()]
    if guide:
        parts.append(f"Fields:\n{guide}")
    parts.append(f"Shape: {compact(empty_value(schema))}")
    return "\n".join(part for part in parts if part)


def messages(
    system: str, examples: tuple[tuple[str, dict[str, Any]], ...], text: str
) -> list[Message]:
    """The whole conversation for one piece of a document."""
    conversation: list[Message] = [{"role": "system", "content": system}]
    for document, answer in examples:
        conversation.append({"role": "user", "content": document})
        conversation.append({"role": "assistant", "content": compact(answer)})
    conversation.append({"role": "user", "content": text})
    return conversation
