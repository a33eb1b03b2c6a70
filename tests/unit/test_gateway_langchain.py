"""The LangChain faces, asynchronous and synchronous, against the scripted server."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests
from pydantic import BaseModel, SecretStr, field_validator

from rotina.errors import ModelOutputError
from rotina.gateway import Gateway, MemoryLedger
from rotina.gateway.langchain import RotinaChatModel, RotinaEmbeddings, open_gateway
from rotina.settings import Deployment, Route, Settings
from tests.scripted_model import ScriptedModel, chat, vector


class Invoice(BaseModel):
    """An invoice."""

    number: str
    total: float


@tool
def look_up(number: str) -> str:
    """Find an invoice."""
    return number


def settings_for(base_url: str) -> Settings:
    deployment = Deployment(model="tiny", base_url=SecretStr(base_url))
    routes = {name: Route(deployments=["one"]) for name in ("smart", "embed")}
    return Settings(deployments={"one": deployment}, routes=routes)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as opened:
        yield opened


@pytest.fixture
async def gateway(server: ScriptedModel) -> AsyncIterator[Gateway]:
    async with Gateway(settings_for(server.base_url)) as opened:
        yield opened


async def test_a_conversation(server: ScriptedModel, gateway: Gateway) -> None:
    model = RotinaChatModel(gateway=gateway, max_tokens=50)
    call: Any = {"id": "c1", "name": "look_up", "args": {"number": "7"}, "type": "tool_call"}
    answer = await model.ainvoke(
        [
            SystemMessage("Be brief."),
            HumanMessage("Find 7."),
            AIMessage("", tool_calls=[call]),
            ToolMessage("found", tool_call_id="c1"),
        ],
        stop=["END"],
    )
    assert answer.content == "You said: found"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] == 8
    assert answer.response_metadata["model_name"] == "scripted"
    assert answer.response_metadata["deployment"] == "one"
    body = server.requests[0].body
    assert [message["role"] for message in body["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert body["messages"][2]["tool_calls"][0]["function"]["name"] == "look_up"
    assert (body["max_tokens"], body["stop"]) == (50, ["END"])


async def test_a_stream_adds_up(gateway: Gateway) -> None:
    model = RotinaChatModel(gateway=gateway)
    whole: Any = None
    async for chunk in model.astream("one two"):
        whole = chunk if whole is None else whole + chunk
    assert whole.content == "You said: one two"
    assert whole.usage_metadata["output_tokens"] == 4
    assert whole.response_metadata["finish_reason"] == "stop"


async def test_tools_are_bound_and_called(server: ScriptedModel, gateway: Gateway) -> None:
    wanted = {
        "id": "c1",
        "type": "function",
        "function": {"name": "look_up", "arguments": '{"number": "7"}'},
    }
    broken = {**wanted, "function": {"name": "look_up", "arguments": "{"}}
    server.script = chat(None, finish_reason="tool_calls", tool_calls=[wanted, broken])
    bound = RotinaChatModel(gateway=gateway).bind_tools([look_up], tool_choice="any")
    answer = await bound.ainvoke("Find 7.")
    assert [(c["name"], c["args"]) for c in answer.tool_calls] == [("look_up", {"number": "7"})]
    assert len(answer.invalid_tool_calls) == 1
    body = server.requests[0].body
    assert body["tools"][0]["function"]["name"] == "look_up"
    assert body["tool_choice"] == "required"
    server.script = chat(None, finish_reason="tool_calls", tool_calls=[wanted])
    whole: Any = None
    async for chunk in bound.astream("Find 7."):
        whole = chunk if whole is None else whole + chunk
    assert whole.tool_calls[0]["args"] == {"number": "7"}


async def test_structured_output_grows_in_a_stream(server: ScriptedModel, gateway: Gateway) -> None:
    server.script = {"number": "N 7", "total": 3}
    asked = RotinaChatModel(gateway=gateway).with_structured_output(Invoice.model_json_schema())
    grown = [value async for value in asked.astream("x")]
    assert {"number": "N"} in grown
    assert grown[-1] == {"number": "N 7", "total": 3}


async def test_a_models_own_validators_are_part_of_structured_output(
    server: ScriptedModel, gateway: Gateway
) -> None:
    class Total(BaseModel):
        total: float

        @field_validator("total")
        @classmethod
        def _is_paid(cls, total: float) -> float:
            if total <= 0:
                raise ValueError("nobody pays nothing")
            return total

    server.script = [{"total": 0}, {"total": 3}]
    found = await RotinaChatModel(gateway=gateway).with_structured_output(Total).ainvoke("x")
    assert found == Total(total=3)
    assert "nobody pays nothing" in server.requests[1].last_message


async def test_structured_output(server: ScriptedModel, gateway: Gateway) -> None:
    model = RotinaChatModel(gateway=gateway)
    server.script = {"number": "7", "total": 3}
    assert await model.with_structured_output(Invoice).ainvoke("x") == Invoice(number="7", total=3)
    wanted = server.requests[0].body["response_format"]["json_schema"]
    assert wanted["name"] == "Invoice"
    plain = model.with_structured_output(Invoice.model_json_schema())
    assert await plain.ainvoke("x") == {"number": "7", "total": 3}
    both: Any = await model.with_structured_output(Invoice, include_raw=True).ainvoke("x")
    assert both["parsed"] == Invoice(number="7", total=3)
    assert both["raw"].content.startswith("{")
    server.script = {"number": "7"}
    with pytest.raises(ModelOutputError, match="'total' is a required property"):
        await model.with_structured_output(Invoice).ainvoke("x")


async def test_embeddings(gateway: Gateway) -> None:
    embeddings = RotinaEmbeddings(gateway)
    assert await embeddings.aembed_documents(["a", "b"]) == [vector("a"), vector("b")]
    assert await embeddings.aembed_query("a") == vector("a")


async def test_the_sync_face_works_in_an_executor(gateway: Gateway) -> None:
    model = RotinaChatModel(gateway=gateway)
    answer = await asyncio.to_thread(model.invoke, "hi")
    assert answer.content == "You said: hi"
    with pytest.raises(RuntimeError, match="use the async method"):
        model.invoke("hi")


@contextmanager
def loop_in_thread() -> Iterator[Any]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def opened() -> Iterator[tuple[Gateway, MemoryLedger]]:
    """A gateway on a loop of its own, as a program without a loop has it, and its server."""
    ledger, server = MemoryLedger(), ScriptedModel()
    with loop_in_thread() as run:
        run(server.__aenter__())
        with open_gateway(Gateway(settings_for(server.base_url), ledger)) as gateway:
            yield gateway, ledger
        run(server.__aexit__(None, None, None))


def test_the_sync_face_without_a_loop(opened: tuple[Gateway, MemoryLedger]) -> None:
    gateway, ledger = opened
    model = RotinaChatModel(gateway=gateway)
    assert model.invoke("hi").content == "You said: hi"
    assert "".join(str(chunk.content) for chunk in model.stream("a b")) == "You said: a b"
    for _ in model.stream("left early"):
        break
    assert RotinaEmbeddings(gateway).embed_query("a") == vector("a")
    assert RotinaEmbeddings(gateway).embed_documents(["a"]) == [vector("a")]
    # The row of whoever gave up is written behind its back.
    assert [call.outcome for call in ledger.calls][:2] == ["ok", "ok"]


def test_another_loop_than_the_gateways(opened: tuple[Gateway, MemoryLedger]) -> None:
    model = RotinaChatModel(gateway=opened[0])

    async def ask() -> tuple[Any, str]:
        pieces = [str(chunk.content) async for chunk in model.astream("a b")]
        return (await model.ainvoke("hi")).content, "".join(pieces)

    assert asyncio.run(ask()) == ("You said: hi", "You said: a b")


def test_a_closed_gateway_says_so() -> None:
    model = RotinaChatModel(gateway=Gateway(settings_for("http://127.0.0.1:9")))
    with pytest.raises(RuntimeError, match="not open"):
        model.invoke("hi")


class TestStandard(ChatModelUnitTests):
    """LangChain's own unit tests of a chat model."""

    @property
    def chat_model_class(self) -> type[RotinaChatModel]:
        return RotinaChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"gateway": Gateway(settings_for("http://127.0.0.1:9"))}


class TestStandardEmbeddings(EmbeddingsUnitTests):
    """LangChain's own unit tests of embeddings."""

    @property
    def embeddings_class(self) -> type[RotinaEmbeddings]:
        return RotinaEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"gateway": Gateway(settings_for("http://127.0.0.1:9"))}


class TestEmbeddingsOnAnotherThread(EmbeddingsIntegrationTests):
    """LangChain's integration tests of embeddings, from threads that are not the gateway's."""

    @pytest.fixture
    def model(self, opened: tuple[Gateway, MemoryLedger]) -> Embeddings:
        return RotinaEmbeddings(opened[0])

    @property
    def embeddings_class(self) -> type[RotinaEmbeddings]:
        return RotinaEmbeddings


async def test_a_prompt_is_shortened_where_the_chain_allows_it(server: ScriptedModel) -> None:
    settings = settings_for(server.base_url)
    small = {"context": 256, "tokenizer": "o200k_base"}
    deployments = {name: one.model_copy(update=small) for name, one in settings.deployments.items()}
    async with Gateway(settings.model_copy(update={"deployments": deployments})) as gateway:
        model = RotinaChatModel(gateway=gateway).bind(truncate="oldest")
        talk = [HumanMessage("Conte tudo. " * 99), AIMessage("Não."), HumanMessage("Por quê?")]
        await model.ainvoke(talk)
    assert server.requests[0].prompt == "Por quê?"
