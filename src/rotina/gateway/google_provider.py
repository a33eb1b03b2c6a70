"""Google's Gemini API through `langchain-google-genai` (the extra `rotina[google]`)."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from yarl import URL

from rotina.errors import ModelError
from rotina.gateway.answer import ChatRequest
from rotina.gateway.carrier import Carrier, httpx_transport
from rotina.gateway.failure import Endpoint, refusal
from rotina.gateway.http import Sessions
from rotina.gateway.langchain_provider import LangChainProvider, chosen_tool, plain_tools
from rotina.gateway.providers import required_key
from rotina.settings import Deployment

OPTIONS: Mapping[str, type] = {"thinking_budget": int, "thinking_level": str}

_URL = "https://generativelanguage.googleapis.com"
_FILTERED = "content_filter"


def open_provider(name: str, deployment: Deployment, sessions: Sessions) -> "GoogleProvider":
    """Raises `SettingsError` without a key, and `ImportError` without the extra."""
    key = required_key(name, deployment, "GOOGLE_API_KEY")
    base_url = deployment.base_url.get_secret_value() if deployment.base_url else _URL
    endpoint = Endpoint(name, URL(base_url), key, "GOOGLE_API_KEY")
    return GoogleProvider(endpoint, _open(endpoint, deployment, sessions))


class GoogleProvider(LangChainProvider):
    """A schema goes to the server as it is (`responseJsonSchema`)."""

    FINISH_REASONS: ClassVar[Mapping[str, str]] = {
        "STOP": "stop",
        "MAX_TOKENS": "length",
        "SAFETY": _FILTERED,
        "RECITATION": _FILTERED,
        "BLOCKLIST": _FILTERED,
        "PROHIBITED_CONTENT": _FILTERED,
        "SPII": _FILTERED,
    }
    REASON_KEYS = ("finish_reason",)

    async def close(self) -> None:
        """Close the client's own transports, of which none was used."""
        model: Any = self._model
        await model.aclose()

    def _options(self, request: ChatRequest) -> dict[str, Any]:
        options = self._sampling(request, "max_output_tokens")
        if request.schema is not None:
            options["response_mime_type"] = "application/json"
            options["response_json_schema"] = dict(request.schema)
        if request.tools:
            options["tools"] = [_tools(request)]
            if request.tool_choice is not None:
                options["tool_choice"] = chosen_tool(request) or request.tool_choice
        return options

    def _reason(self, metadata: Mapping[str, Any], *, called: bool) -> str | None:
        feedback = metadata.get("prompt_feedback") or {}
        if feedback.get("block_reason"):
            return _FILTERED
        return super()._reason(metadata, called=called)

    def _library_error(self, error: Exception) -> ModelError | None:
        from google.genai.errors import APIError  # noqa: PLC0415 - an extra

        found = error if isinstance(error, APIError) else error.__cause__
        if not isinstance(found, APIError):
            return None
        # Inside a stream, whose status is 200.
        body = json.dumps(found.details, default=str).encode()
        return refusal(found.code or 500, None, body, self._endpoint)


def _open(endpoint: Endpoint, deployment: Deployment, sessions: Sessions) -> Any:
    import httpx  # noqa: PLC0415 - an extra
    from langchain_google_genai import ChatGoogleGenerativeAI  # noqa: PLC0415 - an extra

    transport = httpx_transport(httpx, Carrier(endpoint, sessions))
    settings: dict[str, Any] = {
        "model": deployment.model,
        "api_key": endpoint.key,
        "vertexai": False,
        "base_url": str(endpoint.url),
        "client_args": {"transport": transport, "trust_env": False},
        # Left to the server where a call leaves it out; else the library would choose one.
        "temperature": None,
        "max_retries": 1,
        "cache": False,
        **deployment.options,
    }
    return ChatGoogleGenerativeAI(**settings)


def _tools(request: ChatRequest) -> Any:
    """The tools with their schemas as they are: the library's own conversion loses keywords."""
    from google.genai import types  # noqa: PLC0415 - an extra

    return types.Tool(
        function_declarations=[
            types.FunctionDeclaration(
                name=tool["name"],
                description=tool["description"],
                parameters_json_schema=tool["parameters"],
            )
            for tool in plain_tools(request)
        ]
    )
