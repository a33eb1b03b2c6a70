"""What a model server says of itself: its models, their contexts, its count of tokens."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from yarl import URL

from rotina.errors import ModelError, ModelMissingError, ModelOutputError
from rotina.gateway.failure import Endpoint, refusal
from rotina.gateway.http import Server, Sessions
from rotina.gateway.provider import RefusedError
from rotina.gateway.tokens import TokenCount
from rotina.settings import OPENAI_URL, Deployment

_CONTEXTS = ("max_model_len", "context_length", "context_window", "max_context_length")
"""What vLLM and SGLang, OpenRouter, Groq, and Mistral call it."""


@dataclass(frozen=True)
class Offer:
    """A model that a server offers."""

    model: str
    context: int | None
    """Tokens of prompt and answer, where the server says it."""


async def discover(name: str, deployment: Deployment) -> list[Offer]:
    """The models of a server, by GET `{base_url}/models`; `deployment.model` is not looked at.

    Raises a `ModelError`: also for a server that has no such list.
    """
    async with _server(name, deployment) as server:
        listed = await _read(server, "/models")
        entries = listed.get("data")
        if not isinstance(entries, list):
            raise ModelOutputError(
                f"{server.endpoint} answered GET /models with no list of models: name the model "
                "yourself, and let base_url end in /v1"
            )
        found = [entry for entry in entries if isinstance(entry, dict) and entry.get("id")]
        return [Offer(str(entry["id"]), await _context(server, entry)) for entry in found]


async def count_at_server(name: str, deployment: Deployment, text: str) -> TokenCount:
    """Tokens of a text by the server's own `/tokenize`, as llama.cpp and vLLM have it.

    Raises `ModelMissingError` where the server has none, or another `ModelError`.
    """
    # llama.cpp reads `content` and `add_special`, vLLM `prompt` and `add_special_tokens`.
    asked = {
        "model": deployment.model,
        "content": text,
        "add_special": False,
        "prompt": text,
        "add_special_tokens": False,
    }
    async with _server(name, deployment) as server:
        found = await _read(server.root(), "/tokenize", json.dumps(asked).encode())
        tokens = found.get("tokens")
        if not isinstance(tokens, list):
            raise ModelMissingError(
                f"{server.endpoint} has no /tokenize that answers with tokens: count by its "
                "`tokenizer`, or take the estimate"
            )
    return TokenCount(len(tokens), exact=True, method="the server's /tokenize")


@asynccontextmanager
async def _server(name: str, deployment: Deployment) -> AsyncIterator[Server]:
    base = deployment.base_url.get_secret_value() if deployment.base_url else OPENAI_URL
    sessions = Sessions()
    try:
        yield Server(Endpoint(name, URL(base), deployment.secret()), sessions)
    finally:
        await sessions.close()


async def _read(server: Server, path: str, body: bytes | None = None) -> dict[str, Any]:
    asking = server.get(path) if body is None else server.post(path, body)
    try:
        async with asking as response:
            if response.status != 200:  # noqa: PLR2004
                content = await server.read_error(response)
                raise refusal(response.status, None, content, server.endpoint)
            content = await server.read(response)
    except RefusedError as refused:
        raise refused.error from None
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ModelOutputError(
            f"{server.endpoint} answered {path} with no JSON object: is it a model server, and "
            "does base_url end in /v1?"
        )
    return found


async def _context(server: Server, entry: Mapping[str, Any]) -> int | None:
    told = next((entry[key] for key in _CONTEXTS if _is_size(entry.get(key))), None)
    meta = entry.get("meta")
    if told is not None or not isinstance(meta, dict):
        return told
    # llama.cpp serves less than what the model was trained for where it was told so.
    try:
        served = await _read(server.root(), "/props")
    except ModelError:
        served = {}
    generation = served.get("default_generation_settings")
    size = generation.get("n_ctx") if isinstance(generation, dict) else None
    trained = meta.get("n_ctx_train")
    return next((each for each in (size, trained) if _is_size(each)), None)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and value > 0
