"""The gateway's part of the OpenAPI document, written by hand: its endpoints are plain ASGI."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from rotina.server.gateway.chat_forms import ChatCompletion, ChatCompletionRequest, OpenAIError
from rotina.server.gateway.embeddings import EmbeddingList, EmbeddingRequest
from rotina.server.gateway.models import Model, ModelList
from rotina.server.gateway.reranking import RerankList, RerankRequest
from rotina.server.gateway.response_forms import ResponseRequest

_TEMPLATE = "#/components/schemas/{model}"
_TAKEN = (ChatCompletionRequest, ResponseRequest, EmbeddingRequest, RerankRequest)
_GIVEN = (ChatCompletion, EmbeddingList, RerankList, Model, ModelList, OpenAIError)
_FAILURES = (400, 401, 402, 403, 404, 413, 415, 429, 500, 502, 503, 504)


def add_gateway(document: dict[str, Any]) -> dict[str, Any]:
    """`document` with the gateway's paths and schemas."""
    _, schemas = models_json_schema(
        [(form, "validation") for form in _TAKEN] + [(form, "serialization") for form in _GIVEN],
        ref_template=_TEMPLATE,
    )
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas["$defs"])
    document["paths"] |= _paths()
    return document


def _paths() -> dict[str, Any]:
    name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "/v1/chat/completions": {
            "post": _operation(
                "One answer of a model, whole or streamed.",
                _content(ChatCompletion),
                ChatCompletionRequest,
                streams=True,
            )
        },
        "/v1/responses": {
            "post": _operation(
                "One answer of a model, whole or as events; nothing is stored.",
                {"application/json": {"schema": {"type": "object", "title": "Response"}}},
                ResponseRequest,
                streams=True,
            )
        },
        "/v1/embeddings": {
            "post": _operation(
                "One vector for each text.", _content(EmbeddingList), EmbeddingRequest
            )
        },
        "/v1/rerank": {
            "post": _operation(
                "Documents by their relevance to a query.", _content(RerankList), RerankRequest
            )
        },
        "/v1/models": {
            "get": _operation("Routes and models that `model` may name.", _content(ModelList))
        },
        "/v1/models/{model}": {
            "get": {**_operation("One of them.", _content(Model)), "parameters": [name]}
        },
        "/metrics": {
            "get": _operation(
                "What the gateway does, for Prometheus.",
                {"text/plain": {"schema": {"type": "string"}}},
            )
        },
    }


def _operation(
    summary: str,
    content: dict[str, Any],
    takes: type[BaseModel] | None = None,
    *,
    streams: bool = False,
) -> dict[str, Any]:
    if streams:
        content = {**content, "text/event-stream": {"schema": {"type": "string"}}}
    failed = {"content": _content(OpenAIError), "description": "an error in OpenAI's form"}
    operation: dict[str, Any] = {
        "tags": ["gateway"],
        "summary": summary,
        "security": [{"ApiKey": []}],
        "responses": {
            "200": {"description": "the answer", "content": content},
            **{str(status): failed for status in _FAILURES},
            "default": failed,
        },
    }
    if takes is not None:
        operation["requestBody"] = {"required": True, "content": _content(takes)}
    return operation


def _content(form: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _TEMPLATE.format(model=form.__name__)}}}
