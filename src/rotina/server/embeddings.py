"""The gateway in OpenAI's protocol: `/v1/embeddings`."""

import array
import base64
import sys
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from rotina.server.access import PROTECTION, TenantClient
from rotina.server.completion_forms import openai_problems
from rotina.server.models import check_model
from rotina.server.streaming import while_connected

router = APIRouter(prefix="/v1/embeddings", tags=["gateway"], dependencies=PROTECTION)

MAX_TEXTS = 2048
"""As many as OpenAI takes in one request."""

Text = Annotated[str, Field(min_length=1)]


class EmbeddingRequest(BaseModel):
    """Texts, not tokens: the models behind a route have different ones."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, description="a route, or a deployment's model")
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


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


@router.post("", responses=openai_problems(400, 404, 413, 415, 429, 502, 504))
async def embed(wanted: EmbeddingRequest, request: Request, client: TenantClient) -> EmbeddingList:
    """One vector for each text."""
    check_model(request.app.state.settings, wanted.model)
    texts = [wanted.input] if isinstance(wanted.input, str) else wanted.input
    found = await while_connected(request, client.gateway.embed(texts, route=wanted.model))
    tokens = found.usage.prompt_tokens
    encode = _base64 if wanted.encoding_format == "base64" else _plain
    return EmbeddingList(
        data=[
            EmbeddingData(index=index, embedding=encode(vector))
            for index, vector in enumerate(found.vectors)
        ],
        model=found.model,
        usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _plain(vector: list[float]) -> list[float] | str:
    return vector


def _base64(vector: list[float]) -> list[float] | str:
    numbers = array.array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()
