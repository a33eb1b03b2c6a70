"""What is particular to one provider: its settings, addresses, options and oddities."""

import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from rotina.errors import (
    ModelAuthError,
    ModelMissingError,
    ModelOutputError,
    ModelRateLimitedError,
    ModelRequestError,
    SettingsError,
)
from rotina.gateway import Gateway, RetryPolicy
from rotina.settings import Deployment, Route, Settings
from tests.dialects import DIALECTS, KEY, Said
from tests.scripted_model import ScriptedModel, raw, status

DIALECT = {dialect.provider: dialect for dialect in DIALECTS}
ONCE = RetryPolicy(attempts=1)
ASK: Any = [{"role": "user", "content": "How much?"}]


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *("ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "AZURE_OPENAI_API_KEY"),
        *("OLLAMA_API_KEY", "OLLAMA_HOST", "AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE"),
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"),
    ):
        monkeypatch.delenv(name, raising=False)
    # No file in a home folder, no metadata server.
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def gateway(provider: str, server: ScriptedModel | None = None, /, **more: Any) -> Gateway:
    root = "http://127.0.0.1:9" if server is None else server.base_url.removesuffix("/v1")
    given = {
        "provider": provider,
        "model": "tiny",
        "base_url": SecretStr(root + DIALECT[provider].suffix),
        "api_key": SecretStr(KEY),
        **more,
    }
    routes = {name: Route(deployments=["one"]) for name in ("smart", "embed")}
    settings = Settings(deployments={"one": Deployment(**given)}, routes=routes)
    return Gateway(settings, retry=ONCE)


@pytest.mark.parametrize(
    ("provider", "module"),
    [
        ("anthropic", "langchain_anthropic"),
        ("google", "langchain_google_genai"),
        ("bedrock", "langchain_aws"),
        ("ollama", "langchain_ollama"),
    ],
)
async def test_a_missing_extra_says_what_to_install(
    provider: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"{module}.utils", raising=False)
    async with gateway(provider) as opened:
        with pytest.raises(SettingsError, match=rf"pip install 'rotina\[{provider}\]'"):
            await opened.chat(ASK)


@pytest.mark.parametrize(
    ("provider", "variable"),
    [
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("google", "GOOGLE_API_KEY"),
        ("azure", "AZURE_OPENAI_API_KEY"),
    ],
)
async def test_a_key_may_be_in_the_providers_variable(
    provider: str, variable: str, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.script = DIALECT[provider].says(Said())
    async with gateway(provider, model, api_key=None) as opened:
        with pytest.raises(SettingsError, match=f"export {variable}"):
            await opened.chat(ASK)
        monkeypatch.setenv(variable, KEY)
        assert (await opened.chat(ASK)).text == "It is 42."


def test_options_are_checked_when_the_gateway_is_made() -> None:
    with pytest.raises(SettingsError, match=r"one\.options\.apiversion is not an option.*api_ver"):
        gateway("azure", options={"apiversion": "2024-10-21"})
    with pytest.raises(SettingsError, match=r"it has: rerank_logits, rerank_tei"):
        gateway("openai", options={"region": "eu"})
    with pytest.raises(SettingsError, match=r"options\.num_ctx is '8k': give it a int"):
        gateway("ollama", options={"num_ctx": "8k"})


async def test_azures_addresses(model: ScriptedModel) -> None:
    model.script = DIALECT["azure"].says(Said())
    async with gateway("azure", model) as undated:
        await undated.chat(ASK)
    async with gateway("azure", model, options={"api_version": "2024-10-21"}) as dated:
        await dated.chat(ASK)
    one, other = model.requests
    assert (one.path, one.query) == ("/openai/v1/chat/completions", {})
    assert other.path == "/openai/deployments/tiny/chat/completions"
    assert other.query == {"api-version": "2024-10-21"}
    assert "Authorization" not in other.headers
    async with gateway("azure", base_url=None) as nowhere:
        with pytest.raises(SettingsError, match=r"https://RESOURCE\.openai\.azure\.com"):
            await nowhere.chat(ASK)


async def test_google_says_in_the_body_what_others_say_in_the_status(
    model: ScriptedModel,
) -> None:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    error = {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}
    model.script = status(400, {"error": {**error, "details": [info]}})
    async with gateway("google", model) as opened:
        with pytest.raises(ModelAuthError, match="GOOGLE_API_KEY"):
            await opened.chat(ASK)
        # The wait of a 429 would end after the deadline, so it is not begun.
        delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "31s"}
        error = {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED"}
        model.script = status(429, {"error": {**error, "details": [delay]}})
        patient = RetryPolicy(attempts=3)
        settings = opened._lanes.settings
        async with Gateway(settings, retry=patient) as retrying:
            with pytest.raises(ModelRateLimitedError):
                await retrying.chat(ASK, timeout=20)
    assert len(model.requests) == 2


async def test_google_is_told_how_much_to_think(model: ScriptedModel) -> None:
    model.script = DIALECT["google"].says(Said())
    options = {"thinking_budget": 128}
    async with gateway("google", model, model="gemini-2.5-flash", options=options) as opened:
        await opened.chat(ASK)
    config = model.requests[0].body["generationConfig"]
    # The library sends the field under its other name; the API takes both.
    assert config["thinkingConfig"] == {"thinking_budget": 128}


async def test_google_blocks_prompts_without_a_candidate(model: ScriptedModel) -> None:
    model.script = raw(b'{"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}')
    async with gateway("google", model) as opened:
        with pytest.raises(ModelOutputError, match="content filter"):
            await opened.chat(ASK)


async def test_ollama_is_told_how_much_context_to_make_room_for(model: ScriptedModel) -> None:
    model.script = DIALECT["ollama"].says(Said())
    async with gateway("ollama", model, context=16384, api_key=None) as opened:
        await opened.chat(ASK, max_tokens=5)
    options = {"num_ctx": 32768, "keep_alive": "10m", "think": False}
    async with gateway("ollama", model, options=options) as tuned:
        await tuned.chat(ASK, temperature=None)
        with pytest.raises(ModelRequestError, match="cannot be made to call"):
            await tuned.chat(ASK, tools=[{"type": "function"}], tool_choice="required")
    one, other = model.requests
    assert one.body["options"] == {"num_ctx": 16384, "temperature": 0.0, "num_predict": 5}
    assert "Authorization" not in one.headers
    assert other.body["options"] == {"num_ctx": 32768}
    assert (other.body["keep_alive"], other.body["think"]) == ("10m", False)


N = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def test_what_a_model_does_not_take_is_not_sent(
    model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the libraries' tables of models: no temperature, and no tool that must be called."""
    for name, value in DIALECT["bedrock"].environment.items():
        monkeypatch.setenv(name, value)
    for provider, name in (
        ("anthropic", "claude-sonnet-5-5"),
        ("bedrock", "anthropic.claude-sonnet-5-5"),
    ):
        model.script = DIALECT[provider].says(Said(['{"n":', " 3}"]))
        aws = {"options": {"region": "us-east-1"}, "api_key": None}
        more = aws if provider == "bedrock" else {}
        async with gateway(provider, model, model=name, **more) as opened:
            assert (await opened.chat(ASK, schema=N)).data == {"n": 3}
            chunks = [chunk.text async for chunk in opened.stream(ASK, schema=N)]
            assert "".join(chunks) == '{"n": 3}'
        body = model.requests[-1].body
        assert "temperature" not in str(body)
        assert "tools" not in str(body)
        assert "json_schema" in str(body)


async def test_ollama_embeds(model: ScriptedModel) -> None:
    model.script = raw(b'{"model":"tiny","embeddings":[[1,0],[0.5,2]],"prompt_eval_count":6}')
    async with gateway("ollama", model) as opened:
        found = await opened.embed(["um", "two"])
        assert (found.vectors, found.usage.prompt_tokens) == ([[1, 0], [0.5, 2]], 6)
        model.script = DIALECT["ollama"].fails(404)
        with pytest.raises(ModelMissingError, match="not found"):
            await opened.embed(["um"])
    assert model.requests[0].body["input"] == ["um", "two"]
    assert model.requests[0].body["truncate"] is False


async def test_bedrock_needs_a_region_and_credentials(model: ScriptedModel) -> None:
    async with gateway("bedrock", model, api_key=None) as nowhere:
        with pytest.raises(SettingsError, match="has no region"):
            await nowhere.chat(ASK)
    region = {"region": "us-east-1"}
    async with gateway("bedrock", model, api_key=None, options=region) as nobody:
        with pytest.raises(ModelAuthError, match="AWS's usual credentials"):
            await nobody.chat(ASK)
    async with gateway("bedrock", model, options=region) as open_line:
        with pytest.raises(ModelRequestError, match="HTTPS"):
            await open_line.chat(ASK)
    arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/x"
    async with gateway("bedrock", model, model=arn, options=region) as unknown:
        with pytest.raises(SettingsError, match="base_model"):
            await unknown.chat(ASK)
    assert model.requests == []


async def test_bedrock_inference_profiles(
    model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in DIALECT["bedrock"].environment.items():
        monkeypatch.setenv(name, value)
    model.script = DIALECT["bedrock"].says(Said())
    arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/x"
    options = {"region": "us-east-1", "base_model": "anthropic.claude-sonnet-4-5-20250929-v1:0"}
    async with gateway("bedrock", model, model=arn, api_key=None, options=options) as opened:
        assert (await opened.chat(ASK)).text == "It is 42."
    assert model.requests[0].path == f"/model/{arn}/converse"


@pytest.mark.parametrize("provider", ["anthropic", "azure", "google", "bedrock"])
async def test_there_are_no_embeddings_but_azures(provider: str, model: ScriptedModel) -> None:
    options = {"options": {"region": "us-east-1"}} if provider == "bedrock" else {}
    async with gateway(provider, model, **options) as opened:
        if provider == "azure":
            assert len((await opened.embed(["um"])).vectors) == 1
            return
        with pytest.raises(ModelRequestError, match="no embeddings for 1 texts"):
            await opened.embed(["um"])
