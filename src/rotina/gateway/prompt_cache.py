"""Prompt caches of providers: what of a prompt is the same in many calls, and how that is said.

Providers read a prompt's beginning from a cache when they saw the same beginning before. Some have
to be told where it ends (Anthropic, Bedrock), some take a key that brings calls to the machine that
has it (OpenAI), the others need nothing.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, cast

from rotina.gateway.answer import CachedRequest, ChatRequest, Message

Part = dict[str, Any]


def cached(request: ChatRequest, tenant: str) -> CachedRequest:
    """The request, with a key made of the tenant and of what stands before the conversation."""
    begins = [message for message in request.messages if message["role"] == "system"][:1]
    constant = json.dumps([tenant, request.tools, request.schema, begins], default=str)
    key = hashlib.blake2b(constant.encode(errors="replace"), digest_size=16).hexdigest()
    return CachedRequest(**{**vars(request), "cache_key": key})


def marked(
    messages: Sequence[Message], mark: Callable[[list[Part]], list[Part]]
) -> Sequence[Message]:
    """The messages with `mark` on the parts of those where the constant beginning ends: the system
    message, and the last one before the newest turn of the user."""
    found = list(messages)
    for index in _ends(messages):
        parts = found[index]["content"]
        parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else list(parts or ())
        found[index] = cast("Message", {**found[index], "content": mark(parts)})
    return found


def _ends(messages: Sequence[Message]) -> set[int]:
    # A mark stands on content: a message that only calls tools has none.
    said = [index for index, message in enumerate(messages) if message["content"]]
    systems = [index for index in said if messages[index]["role"] == "system"]
    newest = len(messages)
    while newest and messages[newest - 1]["role"] in {"user", "tool"}:
        newest -= 1
    before = [index for index in said if index < newest]
    return {*systems[-1:], *before[-1:]}
