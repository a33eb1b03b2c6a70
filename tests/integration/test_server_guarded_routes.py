"""Routes with guards over HTTP, driven by the unchanged `openai` client."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import psycopg
import pytest
from openai.types.chat import ChatCompletionMessageParam

from rotina.settings import GuardTable, Settings
from tests.scripted_model import ScriptedModel
from tests.serving import Served, make_settings, served

CPF, KEY = "529.982.247-25", "ghp_" + "a1B2" * 9
QUESTION: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": f"Olá, meu CPF é {CPF}."},
]


def guarded(settings: Settings) -> Settings:
    """`smart` with two guards."""
    smart = settings.routes["smart"].model_copy(update={"guards": ["keys", "customers"]})
    guards = {
        "keys": GuardTable(kind="secrets", action="refuse", on=frozenset({"input"})),
        "customers": GuardTable(kind="pii", action="restore"),
    }
    return settings.model_copy(
        update={"routes": {**settings.routes, "smart": smart}, "guards": guards}
    )


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as running:
        yield running


@pytest.fixture
async def server(database_url: str, redis_url: str, model: ScriptedModel) -> AsyncIterator[Served]:
    settings = guarded(make_settings(database_url, redis_url, model.base_url))
    async with served(settings) as running:
        yield running


@pytest.fixture
async def client(server: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    key = await server.key("acme")
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key) as opened:
        yield opened


def outcomes(database_url: str) -> list[Any]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select outcome from rotina.model_call order by id").fetchall()
    return [row[0] for row in rows]


async def test_a_value_stays_in_the_house(
    client: openai.AsyncOpenAI, model: ScriptedModel, database_url: str
) -> None:
    answer = await client.chat.completions.create(model="smart", messages=QUESTION)
    assert answer.choices[0].message.content == f"You said: Olá, meu CPF é {CPF}."
    stream = await client.chat.completions.create(model="smart", messages=QUESTION, stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert "".join(pieces) == f"You said: Olá, meu CPF é {CPF}."
    assert len(pieces) > 3
    sent = [request.last_message for request in model.requests]
    assert sent == ["Olá, meu CPF é <CPF_1>."] * 2
    assert outcomes(database_url) == ["ok", "ok"]


async def test_a_refusal_is_the_callers_to_mend(
    client: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(
                model="smart", messages=[{"role": "user", "content": KEY}], stream=stream
            )
        assert caught.value.code == "guard"
        assert "Guard 'keys' refused the request: it holds a GitHub token" in str(caught.value)
        assert KEY not in str(caught.value)
    assert model.requests == []
