"""`rotina models` and `rotina tokens`."""

import asyncio
import contextlib
import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from pydantic import ValidationError

from rotina.cli.models import models
from rotina.cli.tokens import tokens
from rotina.embedded.doctor import _old_prices
from rotina.settings import Deployment, Price, Settings, load_settings
from tests.scripted_model import Request, ScriptedModel, chat, scores, status, unused_port

PROJECT = """
[deployments.gpu]
model = "qwen"
base_url = "http://user:hidden@gpu.internal:8000/v1?key=hidden"
api_key = "hidden"
tags = ["gpu", "eu"]
price = { input = 0.5, output = 1.5 }

[deployments.api]
provider = "anthropic"
model = "claude"

[routes.smart]
deployments = ["gpu", "api"]
strategy = "weighted"
weights = { gpu = 3 }
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "ROTINA_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rotina.toml").write_text("")
    return tmp_path


def test_deployments_and_routes_are_listed_without_secrets(project: Path) -> None:
    (project / "rotina.toml").write_text(PROJECT)
    found = CliRunner().invoke(models, catch_exceptions=False)
    assert found.output.splitlines() == [
        "gpu  qwen  gpu.internal  8192 tokens  $0.5/$1.5  [eu, gpu]",
        "api  claude  anthropic  8192 tokens  price unknown",
        "route smart: gpu, api (weighted)",
    ]
    told = CliRunner().invoke(models, ["--json"], catch_exceptions=False).output
    assert json.loads(told)["deployments"]["gpu"]["price"] == {"input": 0.5, "output": 1.5}
    assert "hidden" not in found.output + told


def test_a_project_without_a_model_is_told_what_to_do(project: Path) -> None:
    found = CliRunner().invoke(models, catch_exceptions=False)
    assert "rotina up" in found.output


GPU = """# where we compute
[deployments.old]   # first
model = "qwen"
base_url = "http://old.internal/v1"

[routes.smart]
deployments = ["old"]  # the order counts
"""


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model


async def invoke(*arguments: str) -> Result:
    """In a thread: the server needs this one's event loop."""
    return await asyncio.to_thread(CliRunner().invoke, models, list(arguments))


def failure(found: Result) -> str:
    assert found.exit_code != 0
    return f"{type(found.exception).__name__}: {found.exception}{found.output}"


async def test_a_model_is_added_with_comments_and_order_kept(
    project: Path, server: ScriptedModel
) -> None:
    (project / "rotina.toml").write_text(GPU)
    found = await invoke(
        *("add", "new", "--base-url", server.base_url, "--context", "4096"),
        *("--price-in", "0.5", "--price-out", "1.5", "--route", "smart", "--route", "fast"),
    )
    assert found.exit_code == 0, found.output
    assert "declared new (scripted)" in found.output
    written = (project / "rotina.toml").read_text()
    for kept in ("# where we compute", "[deployments.old]   # first", "# the order counts"):
        assert kept in written
    assert written.index("deployments.old") < written.index("deployments.new")
    settings = load_settings(project)
    new = settings.deployments["new"]
    assert (new.model, new.context) == ("scripted", 4096)
    assert new.price is not None
    assert new.price.date == dt.datetime.now(tz=dt.UTC).date()
    assert settings.routes["smart"].deployments == ["old", "new"]
    assert settings.routes["fast"].deployments == ["new"]
    assert [request.path for request in server.requests] == ["/v1/chat/completions"]


async def test_a_model_is_added_to_pyproject(project: Path, server: ScriptedModel) -> None:
    (project / "rotina.toml").unlink()
    path = project / "pyproject.toml"
    path.write_text(
        '[project]\nname = "x"\n\n[tool.rotina]\nworkflows = []  # none\n\n[tool.ruff]\n'
    )
    path.chmod(0o640)
    found = await invoke("add", "new", "--base-url", server.base_url, "--route", "smart")
    assert found.exit_code == 0, found.output
    assert load_settings(project).routes["smart"].deployments == ["new"]
    written = path.read_text()
    assert "workflows = []  # none" in written
    assert "[tool.rotina.deployments.new]" in written
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in project.iterdir()] == ["pyproject.toml"], "nothing left over"


async def test_a_project_without_a_file_gets_one(project: Path, server: ScriptedModel) -> None:
    (project / "rotina.toml").unlink()
    found = await invoke("add", "new", "--base-url", server.base_url, "--no-test")
    assert found.exit_code == 0, found.output
    assert "no route leads to it" in found.output
    assert load_settings(project).deployments["new"].model == "scripted"
    assert not server.requests


async def test_a_name_is_taken_only_on_request(project: Path, server: ScriptedModel) -> None:
    (project / "rotina.toml").write_text(GPU)
    told = failure(await invoke("add", "old", "--base-url", server.base_url))
    assert "SettingsError" in told
    assert "--replace" in told
    assert (project / "rotina.toml").read_text() == GPU
    assert (await invoke("add", "old", "--base-url", server.base_url, "--replace")).exit_code == 0
    settings = load_settings(project)
    assert settings.deployments["old"].model == "scripted"
    assert settings.routes["smart"].deployments == ["old"]


async def test_what_fails_its_call_is_not_declared(project: Path, server: ScriptedModel) -> None:
    server.script = status(401)
    told = failure(await invoke("add", "new", "--base-url", server.base_url, "--route", "smart"))
    assert "ModelAuthError" in told
    assert (project / "rotina.toml").read_text() == ""


async def test_settings_that_would_be_invalid_are_not_written(
    project: Path, server: ScriptedModel
) -> None:
    text = GPU.replace('"]', '"]\nstrategy = "cheapest"').replace(
        '/v1"', '/v1"\nprice = { input = 1, output = 1 }'
    )
    (project / "rotina.toml").write_text(text)
    told = failure(await invoke("add", "new", "--base-url", server.base_url, "--route", "smart"))
    assert "price of 'new' is unknown" in told
    assert (project / "rotina.toml").read_text() == text


@pytest.mark.parametrize(
    "text",
    [
        'deployments.a = { model = "m" }\nroutes.smart.deployments = ["a"]\n',
        '[deployments]\na = { model = "m" }\n[routes]\nsmart = { deployments = ["a"] }\n',
        'deployments = { a = { model = "m" } }\nroutes = { smart = { deployments = ["a"] } }\n',
        '[routes.smart]\ndeployments = [\n  "a", # one\n]\n[deployments.a]\nmodel = "m"\n',
    ],
)
async def test_every_way_to_write_a_table_is_added_to_or_left_alone(
    project: Path, server: ScriptedModel, text: str
) -> None:
    path = project / "rotina.toml"
    path.write_text(text)
    found = await invoke(
        "add", "ão", "--base-url", server.base_url, "--no-test", "--route", "smart"
    )
    if found.exit_code == 0:
        settings = load_settings(project)
        assert set(settings.deployments) == {"a", "ão"}
        assert settings.routes["smart"].deployments == ["a", "ão"]
    else:
        assert "declare the deployment yourself" in failure(found)
        assert path.read_text() == text


async def test_an_embedding_model_is_tried_as_one(project: Path, server: ScriptedModel) -> None:
    found = await invoke("add", "vectors", "--base-url", server.base_url, "--route", "embed")
    assert found.exit_code == 0, found.output
    assert "gives 16 dimensions" in found.output
    assert [request.path for request in server.requests] == ["/v1/embeddings"]
    assert load_settings(project).routes["embed"].deployments == ["vectors"]


@pytest.mark.parametrize(("form", "path"), [("v1", "/v1/rerank"), ("tei", "/rerank")])
async def test_a_reranker_is_tried_as_one(
    project: Path, server: ScriptedModel, form: str, path: str
) -> None:
    url = server.base_url
    found = await invoke("add", "cross", "--base-url", url, "--reranker", form, "--route", "rank")
    assert found.exit_code == 0, found.output
    assert "gives scores" in found.output
    assert [request.path for request in server.requests] == [path]
    settings = load_settings(project)
    assert settings.deployments["cross"].capabilities == frozenset({"rerank"})
    assert settings.routes["rank"].deployments == ["cross"]
    found = await invoke("test", "cross")
    assert found.exit_code == 0, found.output
    assert [request.path for request in server.requests] == [path] * 2, "and for nothing else"
    server.script = scores(-2.5, 4.25)
    found = await invoke("test", "cross", "--json")
    assert "scores -2.5 and 4.25 (logits: the option rerank_logits" in found.output
    server.script = status(501)
    found = await invoke("test", "cross")
    assert (found.exit_code, "FAILED rerank" in " ".join(found.output.split())) == (1, True)


async def test_what_does_not_chat_may_rerank(project: Path, server: ScriptedModel) -> None:
    one = f'[deployments.one]\nmodel = "m"\nbase_url = "{server.base_url}"\n'
    (project / "rotina.toml").write_text(one)
    server.script = lambda request: None if "rerank" in request.path else status(400)
    found = await invoke("test")
    assert found.exit_code == 0, found.output
    marks = [line.split()[:2] for line in found.output.splitlines()[1:]]
    assert marks == [["no", "chat"], ["no", "embeddings"], ["ok", "rerank"]]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--price-in", "1"], "belong together"),
        (["--provider", "anthropic"], "name the model"),
        (["--api-key-env", "NOT_SET_ANYWHERE", "--model", "m"], "NOT_SET_ANYWHERE, which is not"),
        (["--base-url", "gpu.internal", "--model", "m"], "is not a URL"),
        (["--route", "smart", "--context", "10"], "10"),
    ],
)
async def test_options_that_make_no_deployment_are_refused(
    project: Path, options: list[str], told: str
) -> None:
    assert told in failure(await invoke("add", "new", *options))
    assert (project / "rotina.toml").read_text() == ""


@contextlib.asynccontextmanager
async def listing(*entries: dict[str, Any], props: Any = None) -> AsyncIterator[str]:
    """A server with these models and, above /v1, llama.cpp's /props and /tokenize."""
    app = web.Application()

    async def tokenize(request: web.Request) -> web.Response:
        return web.json_response({"tokens": list(range(len((await request.json())["content"])))})

    async def listed(request: web.Request) -> web.Response:
        return web.json_response({"data": list(entries)})

    async def properties(request: web.Request) -> web.Response:
        return web.json_response(props, status=404 if props is None else 200)

    app.router.add_get("/v1/models", listed)
    app.router.add_get("/props", properties)
    app.router.add_post("/tokenize", tokenize)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def test_contexts_are_what_servers_say(project: Path) -> None:
    vllm = {"id": "vllm", "max_model_len": 32768}
    async with listing(vllm, {"id": "silent"}) as url:
        found = await invoke("discover", url)
        assert found.output.splitlines() == ["vllm  32768 tokens", "silent  context unknown"]
        told = failure(await invoke("add", "new", "--base-url", url))
        assert "--model" in told
        assert "vllm (32768 tokens), silent (context unknown)" in told
        assert (
            await invoke("add", "new", "--base-url", url, "--model", "vllm", "--no-test")
        ).exit_code == 0
    assert load_settings(project).deployments["new"].context == 32768
    llama = {"id": "llama", "meta": {"n_ctx_train": 131072}}
    async with listing(llama, props={"default_generation_settings": {"n_ctx": 4096}}) as url:
        found = await invoke("discover", url, "--json")
        assert json.loads(found.output) == [{"model": "llama", "context": 4096}]
    async with listing(llama) as url:
        assert "llama  131072 tokens" in (await invoke("discover", url)).output
    async with listing() as url:
        assert (await invoke("discover", url)).output == "it offers no model\n"
        assert "offers no model" in failure(await invoke("add", "other", "--base-url", url))


async def test_a_server_that_is_none_is_told(project: Path) -> None:
    nobody = f"http://127.0.0.1:{unused_port()}/v1"
    assert "ModelUnreachableError" in failure(await invoke("discover", nobody))
    async with listing() as url:
        told = failure(await invoke("discover", url.removesuffix("/v1")))
        assert "ModelMissingError" in told


CAN = 'capabilities = ["tools", "json_schema", "embeddings"]\n'


async def test_a_deployment_is_tested(project: Path, server: ScriptedModel) -> None:
    one = f'[deployments.one]\nmodel = "m"\nbase_url = "{server.base_url}"\n'
    (project / "rotina.toml").write_text(one)
    found = await invoke("test")
    assert found.exit_code == 0, found.output
    lines = [line.split()[:2] for line in found.output.splitlines()[1:]]
    assert lines == [
        *(["ok", "chat"], ["ok", "stream"], ["ok", "json_schema"], ["no", "tools"]),
        ["ok", "embeddings"],
    ]
    (project / "rotina.toml").write_text(one + CAN)
    found = await invoke("test", "one", "--json")
    assert found.exit_code == 1
    told = json.loads(found.output)
    assert told["failed"] == ["tools"]
    assert told["probes"]["chat"]["prompt_tokens"] > 0
    assert "called no tool" in told["probes"]["tools"]["detail"]

    def calling(request: Request) -> Any:
        call = {"name": "get_weather", "arguments": '{"city": "Lisboa"}'}
        tool = {"id": "1", "type": "function", "function": call}
        tools = request.body.get("tools")
        return chat(None, tool_calls=[tool], finish_reason="tool_calls") if tools else None

    server.script = calling
    found = await invoke("test", "one")
    assert found.exit_code == 0, found.output
    assert "get_weather(city)" in found.output


async def test_a_deployment_that_does_nothing_fails(project: Path, server: ScriptedModel) -> None:
    (project / "rotina.toml").write_text(
        f'[deployments.one]\nmodel = "m"\nbase_url = "{server.base_url}"\napi_key = "hidden"\n'
    )
    server.script = status(404)
    found = await invoke("test")
    assert found.exit_code == 1
    assert "FAILED chat" in found.output
    assert "hidden" not in found.output
    assert "No deployment 'two'" in failure(await invoke("test", "two"))


async def test_an_embedding_model_needs_no_chat(project: Path, server: ScriptedModel) -> None:
    (project / "rotina.toml").write_text(
        f'[deployments.one]\nmodel = "m"\nbase_url = "{server.base_url}"\n'
        'capabilities = ["embeddings"]\n'
    )

    def only_embeds(request: Request) -> Any:
        return None if request.path.endswith("embeddings") else status(400)

    server.script = only_embeds
    found = await invoke("test")
    assert found.exit_code == 0, found.output
    assert "16 dimensions" in found.output


async def test_tokens_are_counted(project: Path, server: ScriptedModel) -> None:
    (project / "rotina.toml").write_text(
        '[deployments.api]\nmodel = "gpt-4o"\n'
        f'[deployments.own]\nmodel = "own"\nbase_url = "{server.base_url}"\n'
        '[routes.fast]\ndeployments = ["own"]\n'
    )
    text = "A rápida raposa castanha salta sobre o cão preguiçoso."
    run = CliRunner().invoke
    found = json.loads(run(tokens, [text, "--json"], catch_exceptions=False).output)
    assert [(row["for"], row["tokens"], row["exact"]) for row in found[:2]] == [
        ("OpenAI", 16, True),
        ("OpenAI", 19, True),
    ]
    assert [(row["for"], row["exact"]) for row in found[2:]] == [
        ("others", False), ("api", True), ("own", False),
    ]  # fmt: skip
    assert json.loads(run(tokens, ["-", "--json"], input=text).output) == found
    (project / "texto.txt").write_text(text, encoding="utf-8")
    shown = run(tokens, ["--file", "texto.txt"], catch_exceptions=False).output
    assert shown.startswith("54 characters, 57 bytes\n")
    assert "about: estimate" in shown
    assert run(tokens, []).exit_code == 2
    assert run(tokens, [text, "--file", "texto.txt"]).exit_code == 2
    assert run(tokens, [""]).output.startswith("0 characters, 0 bytes")
    (project / "image.bin").write_bytes(b"\xff\xfe\x00")
    assert "no UTF-8" in run(tokens, ["--file", "image.bin"]).output
    assert "No route" in str(run(tokens, [text, "--route", "x"]).exception)


async def test_a_route_counts_at_its_server(project: Path, server: ScriptedModel) -> None:
    async with listing() as url:
        (project / "rotina.toml").write_text(
            f'[deployments.llama]\nmodel = "m"\nbase_url = "{url}"\n'
            f'[deployments.other]\nmodel = "m"\nbase_url = "http://127.0.0.1:{unused_port()}/v1"\n'
            '[routes.fast]\ndeployments = ["llama", "other"]\n'
        )
        found = await asyncio.to_thread(
            CliRunner().invoke, tokens, ["pão", "--route", "fast", "--json"]
        )
    llama, other = json.loads(found.output)
    assert (llama["tokens"], llama["exact"]) == (3, True)
    assert not other["exact"]
    assert "ModelUnreachableError" in other["method"]


def test_an_old_price_is_a_warning() -> None:
    old = Price(input=1, output=1, date=dt.date(2020, 1, 31))
    new = Price(input=1, output=1, date=dt.datetime.now(tz=dt.UTC).date())
    prices = {"old": old, "new": new, "undated": Price(input=1, output=1), "none": None}
    deployments = {name: Deployment(model="m", price=price) for name, price in prices.items()}
    (found,) = _old_prices(Settings(deployments=deployments))
    assert (found.status, found.detail) == ("warning", "was read on 2020-01-31")


def test_capabilities_decide_how_a_schema_is_asked_for() -> None:
    def wire(**fields: Any) -> str:
        return Deployment(model="m", **fields).structured_output

    assert wire() == "json_schema"
    assert wire(capabilities=["tools"]) == "prompt"
    assert wire(capabilities=["json_schema"]) == "json_schema"
    assert wire(capabilities=["json_schema"], structured_output="prompt") == "prompt"
    with pytest.raises(ValidationError, match="among the capabilities"):
        wire(capabilities=[], structured_output="json_schema")
