"""Ollama's own API through `langchain-ollama` (the extra `rotina[ollama]`).

Its OpenAI endpoint (`provider = "openai"`) needs no extra, but cannot be told how much context to
make room for, and then cuts long prompts without saying so.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from yarl import URL

from rotina.errors import ModelError, ModelRequestError
from rotina.gateway.answer import ChatRequest, EmbeddingReply, Usage
from rotina.gateway.carrier import Carrier, httpx_transport
from rotina.gateway.failure import Endpoint, refusal
from rotina.gateway.http import Sessions
from rotina.gateway.langchain_provider import LangChainProvider
from rotina.gateway.providers import declared_key
from rotina.settings import Deployment

OPTIONS: Mapping[str, type] = {"num_ctx": int, "keep_alive": str, "think": bool}

_URL = "http://127.0.0.1:11434"


def open_provider(name: str, deployment: Deployment, sessions: Sessions) -> "OllamaProvider":
    """Raises `ImportError` without the extra; a server of one's own may want no key."""
    base_url = deployment.base_url.get_secret_value() if deployment.base_url else _URL
    key = declared_key(deployment, "OLLAMA_API_KEY")
    endpoint = Endpoint(name, URL(base_url), key, "OLLAMA_API_KEY")
    return OllamaProvider(endpoint, deployment, sessions)


class OllamaProvider(LangChainProvider):
    """A schema goes to the server, which constrains the output to it (`format`)."""

    FINISH_REASONS: ClassVar[Mapping[str, str]] = {}
    REASON_KEYS = ("done_reason",)

    def __init__(self, endpoint: Endpoint, deployment: Deployment, sessions: Sessions) -> None:
        model = _open(endpoint, deployment, sessions)
        super().__init__(endpoint, model)
        self._name = deployment.model
        # Asked for more than it has room for, Ollama drops the beginning of a prompt.
        self._context = deployment.options.get("num_ctx", deployment.context)

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        """POST /api/embed; a text that is too long is an error, not cut."""
        with self._errors():
            client: Any = self._model
            answer = await client._async_client.embed(  # noqa: SLF001 - LangChain's face tells no tokens
                self._name, list(texts), truncate=False, options={"num_ctx": self._context}
            )
        vectors = [list(vector) for vector in answer.embeddings]
        usage = Usage(prompt_tokens=answer.prompt_eval_count, completion_tokens=0)
        return EmbeddingReply(vectors, answer.model, usage)

    def _options(self, request: ChatRequest) -> dict[str, Any]:
        sampling = {"num_ctx": self._context, **self._sampling(request, "num_predict")}
        options: dict[str, Any] = {"options": sampling}
        if request.schema is not None:
            options["format"] = dict(request.schema)
        if request.tool_choice not in {None, "auto", "none"}:
            raise ModelRequestError(
                f"{self._endpoint} cannot be made to call a tool: leave tool_choice out, or ask "
                "for a schema"
            )
        if request.tools and request.tool_choice != "none":
            options["tools"] = [dict(tool) for tool in request.tools]
        return options

    def _library_error(self, error: Exception) -> ModelError | None:
        import ollama  # noqa: PLC0415 - an extra

        if not isinstance(error, ollama.ResponseError):
            return None
        # Inside a stream, whose status is 200.
        return refusal(500, None, str(error.error).encode(), self._endpoint)


def _open(endpoint: Endpoint, deployment: Deployment, sessions: Sessions) -> Any:
    import httpx  # noqa: PLC0415 - an extra
    from langchain_ollama import ChatOllama  # noqa: PLC0415 - an extra

    transport = httpx_transport(httpx, Carrier(endpoint, sessions))
    # The client would else take a key out of the environment by itself.
    authorization = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
    return ChatOllama(
        model=deployment.model,
        base_url=str(endpoint.url),
        client_kwargs={"headers": authorization, "trust_env": False},
        async_client_kwargs={"transport": transport},
        keep_alive=deployment.options.get("keep_alive"),
        reasoning=deployment.options.get("think"),
        cache=False,
    )
