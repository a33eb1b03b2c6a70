"""Anthropic's API through `langchain-anthropic` (the extra `rotina[anthropic]`)."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from yarl import URL

from rotina.errors import ModelError
from rotina.gateway.answer import CachedRequest, ChatRequest, Message
from rotina.gateway.carrier import Carrier, httpx_transport
from rotina.gateway.failure import Endpoint, refusal
from rotina.gateway.http import Sessions
from rotina.gateway.langchain_provider import LangChainProvider, chosen_tool, plain_tools
from rotina.gateway.prompt_cache import Part, marked
from rotina.gateway.providers import required_key
from rotina.settings import Deployment

OPTIONS: Mapping[str, type] = {}

_URL = "https://api.anthropic.com"
_MAX_TOKENS = 8192
"""Anthropic requires a limit; an answer that reaches it is an error, not a success."""
_CACHE = {"cache_control": {"type": "ephemeral"}}
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "overloaded_error": 529,
}
"""Errors inside a stream, whose status is 200 (Anthropic's page "Errors")."""


def open_provider(name: str, deployment: Deployment, sessions: Sessions) -> "AnthropicProvider":
    """Raises `SettingsError` without a key, and `ImportError` without the extra."""
    key = required_key(name, deployment, "ANTHROPIC_API_KEY")
    base_url = deployment.base_url.get_secret_value() if deployment.base_url else _URL
    endpoint = Endpoint(name, URL(base_url), key, "ANTHROPIC_API_KEY")
    return AnthropicProvider(endpoint, _open(deployment.model, endpoint, sessions))


class AnthropicProvider(LangChainProvider):
    """A schema is a tool that the model must call, or where it cannot be made to, its format."""

    FINISH_REASONS: ClassVar[Mapping[str, str]] = {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "tool_use": "tool_calls",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "refusal": "content_filter",
    }
    REASON_KEYS = ("stop_reason", "finish_reason")

    def _options(self, request: ChatRequest) -> dict[str, Any]:
        options = self._sampling(request)
        if request.schema is not None and not self._schema_is_tool():
            form = {"type": "json_schema", "schema": dict(request.schema)}
            return options | {"output_config": {"format": form}}
        options |= _tool_options(request)
        if isinstance(request, CachedRequest) and options.get("tools"):
            # The last one stands for all that come before it.
            options["tools"][-1] |= _CACHE
        return options

    def _schema_is_tool(self) -> bool:
        return self._takes("tool_choice")

    def _wire_messages(self, request: ChatRequest) -> Sequence[Message]:
        if not isinstance(request, CachedRequest):
            return request.messages
        return marked(request.messages, _mark)

    def _library_error(self, error: Exception) -> ModelError | None:
        import anthropic  # noqa: PLC0415 - an extra

        if not isinstance(error, anthropic.APIStatusError):
            return None
        body = error.body if isinstance(error.body, dict) else {}
        kind = str((body.get("error") or {}).get("type"))
        return refusal(_STATUS.get(kind, 500), None, json.dumps(body).encode(), self._endpoint)


def _open(model: str, endpoint: Endpoint, sessions: Sessions) -> Any:
    import anthropic  # noqa: PLC0415 - an extra
    from langchain_anthropic import ChatAnthropic  # noqa: PLC0415 - an extra

    # Releases of the client are built on httpx or on its fork: its default client says which.
    library = sys.modules[anthropic.DefaultAsyncHttpxClient.__mro__[1].__module__.split(".")[0]]
    transport = httpx_transport(library, Carrier(endpoint, sessions))
    client = anthropic.AsyncAnthropic(
        api_key=endpoint.key,
        base_url=str(endpoint.url),
        max_retries=0,
        timeout=None,
        http_client=library.AsyncClient(transport=transport, timeout=None, trust_env=False),
    )
    settings: dict[str, Any] = {
        "model": model,
        "api_key": endpoint.key,
        "base_url": str(endpoint.url),
        "max_retries": 0,
        "max_tokens": _MAX_TOKENS,
        "cache": False,
    }
    chat_model = ChatAnthropic(**settings)
    # Its own client comes from a cache of the process: it would outlive the event loop that it
    # belongs to.
    chat_model.__dict__["_async_client"] = client
    return chat_model


def _mark(parts: list[Part]) -> list[Part]:
    return [*parts[:-1], {**parts[-1], **_CACHE}]


def _tool_options(request: ChatRequest) -> dict[str, Any]:
    """Tools in Anthropic's form, which `ChatAnthropic` sends as it is."""
    if request.schema is not None:
        tool = {"name": request.schema_name, "input_schema": dict(request.schema)}
        return {"tools": [tool], "tool_choice": {"type": "tool", "name": request.schema_name}}
    if not request.tools:
        return {}
    tools = [
        {
            "name": tool["name"],
            **({"description": tool["description"]} if tool["description"] else {}),
            "input_schema": tool["parameters"],
        }
        for tool in plain_tools(request)
    ]
    if request.tool_choice is None:
        return {"tools": tools}
    return {"tools": tools, "tool_choice": _choice(request)}


def _choice(request: ChatRequest) -> dict[str, Any]:
    name = chosen_tool(request)
    if name is not None:
        return {"type": "tool", "name": name}
    choice = str(request.tool_choice)
    return {"type": {"required": "any"}.get(choice, choice)}
