"""The gateway in OpenAI's protocol: `/v1/embeddings`."""

import array
import base64
import sys
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator

from rotina.server.gateway.exchange import Exchange
from rotina.server.gateway.models import check_model

MAX_TEXTS = 2048
"""As many as OpenAI takes in one request."""

Text = Annotated[str, Field(min_length=1)]


def _texts(given: Any) -> Any:
    """One text as a list of one. Raises `ValueError` for tokens."""
    if isinstance(given, list) and any(isinstance(each, int | list) for each in given):
        raise ValueError(
            "token arrays are not supported, because the models behind a route have different "
            "vocabularies: send texts (check_embedding_ctx_length=False in LangChain)"
        )
    return [given] if isinstance(given, str) else given


_TEXT = {"type": "string", "minLength": 1}
_INPUT = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": MAX_TEXTS}]}


class EmbeddingRequest(BaseModel):
    """Texts, not tokens: the models behind a route have different ones."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, description="a route, or a deployment's model")
    input: Annotated[
        list[Text],
        Field(min_length=1, max_length=MAX_TEXTS),
        BeforeValidator(_texts),
        WithJsonSchema(_INPUT),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, description="not supported")
    user: str | None = None

    @field_validator("dimensions")
    @classmethod
    def _has_its_own(cls, given: int | None) -> int | None:
        if given is not None:
            raise ValueError("is not supported: every model behind a route has its own; leave out")
        return given


class EmbeddingData(BaseModel):
    """The vector of one text."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    """Numbers, or little-endian 32-bit floats in base64."""


class EmbeddingUsage(BaseModel):
    """Tokens of one call; None where the model server did not say."""

    prompt_tokens: int | None
    total_tokens: int | None


class EmbeddingList(BaseModel):
    """One vector a text, in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[EmbeddingData]
    model: str
    usage: EmbeddingUsage


async def embed(exchange: Exchange) -> None:
    """One vector for each text."""
    wanted = await exchange.form(EmbeddingRequest)
    check_model(exchange.face.settings, wanted.model)
    found = await exchange.while_connected(exchange.gateway.embed(wanted.input, route=wanted.model))
    tokens = found.usage.prompt_tokens
    encode = _base64 if wanted.encoding_format == "base64" else _plain
    data = [
        {"object": "embedding", "index": index, "embedding": encode(vector)}
        for index, vector in enumerate(found.vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    await exchange.answer({"object": "list", "data": data, "model": found.model, "usage": usage})


def _plain(vector: list[float]) -> list[float] | str:
    return vector


def _base64(vector: list[float]) -> list[float] | str:
    numbers = array.array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()
