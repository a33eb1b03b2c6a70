"""What was said in a call, where the settings have the ledger keep it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rotina.gateway.answer import ChatRequest
from rotina.gateway.ledger import Content

Policy = Literal["off", "redacted", "full"]


def content_of(
    policy: Policy,
    request: ChatRequest | None,
    answer: str,
    tool_calls: Sequence[Mapping[str, Any]] = (),
) -> Content | None:
    """The texts as the policy has them kept; None for `off`, and where nothing was asked."""
    if policy == "off" or request is None:
        return None
    asked = json.dumps(vars(request), default=str, ensure_ascii=False)
    told = answer
    if tool_calls:
        told += json.dumps({"tool_calls": list(tool_calls)}, ensure_ascii=False)
    if policy == "full":
        return Content(request=_clean(asked), answer=_clean(told), redacted=False)
    from rotina.gateway.guards import redact  # noqa: PLC0415 - heavy, and off by default

    return Content(request=_clean(redact(asked)), answer=_clean(redact(told)), redacted=True)


def _clean(text: str) -> str:
    """Without what PostgreSQL cannot store: NUL, also as JSON writes it, and halves of pairs."""
    text = text.replace("\x00", "").replace("\\u0000", "")
    return text.encode("utf-8", errors="replace").decode()
