"""The embedding server's wire behaviour, with an encoder that needs no weights."""

import base64
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import aiohttp
import numpy as np
import pytest
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from rotina.embedded.embedding_server import DIMENSIONS, Encoder, Endpoint, application

if TYPE_CHECKING:
    from rotina.embedded.embedding_server import Vector

KEY = {"Authorization": "Bearer secret"}


class LengthEncoder(Encoder):
    """A vector that holds the text's length."""

    def __init__(self) -> None:
        pass

    def encode(self, texts: Sequence[str]) -> "list[Vector]":
        return [np.full(DIMENSIONS, len(text), dtype=np.float32) for text in texts]


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A session at the server's address."""
    endpoint = Endpoint(LengthEncoder(), "tiny", threads=1)
    async with (
        TestServer(application(endpoint, SecretStr("secret"))) as server,
        aiohttp.ClientSession(server.make_url("/"), headers=KEY) as session,
    ):
        yield session


async def test_vectors_come_in_the_order_of_the_texts(client: aiohttp.ClientSession) -> None:
    body = {"model": "tiny", "input": ["a", "bbb"]}
    async with client.post("v1/embeddings", json=body) as answer:
        found = await answer.json()

    assert [entry["index"] for entry in found["data"]] == [0, 1]
    assert [entry["embedding"][0] for entry in found["data"]] == [1.0, 3.0]
    assert {len(entry["embedding"]) for entry in found["data"]} == {512}


async def test_base64_holds_little_endian_float32(client: aiohttp.ClientSession) -> None:
    body = {"model": "tiny", "input": "four", "encoding_format": "base64"}
    async with client.post("v1/embeddings", json=body) as answer:
        found = await answer.json()

    vector = np.frombuffer(base64.b64decode(found["data"][0]["embedding"]), dtype="<f4")
    assert vector.tolist() == [4.0] * 512


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"model": "tiny", "input": []}, 400, "none of them empty"),
        ({"model": "tiny", "input": ["a", " "]}, 400, "none of them empty"),
        ({"model": "tiny", "input": ["a"] * 2049}, 400, "at most 2048"),
        ({"model": "tiny", "input": [1, 2]}, 400, "input"),
        ({"model": "tiny", "input": "a", "dimensions": 256}, 400, "dimensions"),
        ({"model": "other", "input": "a"}, 404, "'tiny' is"),
    ],
)
async def test_refusals_say_why(
    client: aiohttp.ClientSession, body: dict[str, object], status: int, message: str
) -> None:
    async with client.post("v1/embeddings", json=body) as answer:
        assert answer.status == status
        assert message in (await answer.json())["error"]["message"]


async def test_health_needs_no_key_and_the_rest_does(client: aiohttp.ClientSession) -> None:
    none = {"Authorization": "Bearer wrong"}
    async with client.get("health", headers=none) as answer:
        assert answer.status == 200
    async with client.get("v1/models", headers=none) as answer:
        assert answer.status == 401
    async with client.get("v1/models") as answer:
        assert [entry["id"] for entry in (await answer.json())["data"]] == ["tiny"]
