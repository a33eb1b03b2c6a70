"""Whole exchanges in the form that providers document: what is asked goes out in exactly that
form, and what is answered is read as it is meant.

Files: tests/exchanges/PROVIDER/*.json; `source` is the page about the form. They are written by
hand after it, shortened and with other values; none was recorded from a service, which tests do not
call. Where a library adds empty fields of its own to a request, they stand in the file.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from rotina.errors import ModelError
from rotina.gateway import Gateway, RetryPolicy
from rotina.settings import Deployment, Route, Settings
from tests.dialects import DIALECTS, KEY, frame
from tests.scripted_model import Behaviour, Request, ScriptedModel

FOLDER = Path(__file__).resolve().parents[1] / "exchanges"
FILES = sorted(FOLDER.glob("*/*.json"))
DIALECT = {dialect.provider: dialect for dialect in DIALECTS}


def served(response: dict[str, Any]) -> Behaviour:
    async def behave(http: web.Request, request: Request) -> web.StreamResponse:
        kind, body = _body(response)
        headers = {"Content-Type": kind, **response.get("headers", {})}
        return web.Response(body=body, status=response.get("status", 200), headers=headers)

    return Behaviour(behave)


def _body(response: dict[str, Any]) -> tuple[str, bytes]:
    if "events" in response:
        told = (each if isinstance(each, str) else json.dumps(each) for each in response["events"])
        return "text/event-stream", b"".join(f"data: {each}\n\n".encode() for each in told)
    if "named_events" in response:
        named = [(each["type"], json.dumps(each)) for each in response["named_events"]]
        text = "".join(f"event: {name}\ndata: {data}\n\n" for name, data in named)
        return "text/event-stream", text.encode()
    if "lines" in response:
        lines = [json.dumps(each) + "\n" for each in response["lines"]]
        return "application/x-ndjson", "".join(lines).encode()
    if "frames" in response:
        frames = [frame("event", kind, body) for kind, body in response["frames"]]
        return "application/vnd.amazon.eventstream", b"".join(frames)
    return "application/json", json.dumps(response["body"]).encode()


def test_every_provider_has_exchanges() -> None:
    assert {file.parent.name for file in FILES} == set(DIALECT)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
async def test_an_exchange(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = json.loads(file.read_text(encoding="utf-8"))
    dialect = DIALECT[file.parent.name]
    for name, value in dialect.environment.items():
        monkeypatch.setenv(name, value)
    async with ScriptedModel(served(exchange["response"])) as model:
        given = {"options": {"region": "us-east-1"}} if dialect.provider == "bedrock" else {}
        deployment = Deployment(
            provider=dialect.provider,
            base_url=SecretStr(model.base_url.removesuffix("/v1") + dialect.suffix),
            api_key=None if dialect.environment else SecretStr(KEY),
            **{**given, **exchange["deployment"]},
        )
        settings = Settings(
            deployments={"one": deployment}, routes={"smart": Route(deployments=["one"])}
        )
        async with Gateway(settings, retry=RetryPolicy(attempts=1)) as gateway:
            found = await _ask(gateway, exchange)
    assert found == {"calls": [], "data": None, **exchange["answer"]}
    (request,) = model.requests
    expected = exchange["request"]
    assert request.path == expected["path"]
    assert expected.get("query", {}).items() <= dict(request.query).items()
    assert expected.get("headers", {}).items() <= dict(request.headers).items()
    assert request.body == expected["body"]


async def _ask(gateway: Gateway, exchange: dict[str, Any]) -> dict[str, Any]:
    try:
        if exchange.get("stream"):
            return await _stream(gateway, exchange["call"])
        answer = await gateway.chat(**exchange["call"])
    except ModelError as error:
        return {"calls": [], "data": None, "error": type(error).__name__}
    wanted = exchange["answer"].get("calls", [])
    calls = [_call(call["id"], call["function"]) for call in answer.tool_calls]
    return {
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "model": answer.model,
        "usage": answer.usage.model_dump(exclude_none=True),
        "data": answer.data,
        "calls": [_as_told(call, one) for call, one in zip(calls, wanted, strict=True)],
    }


async def _stream(gateway: Gateway, call: dict[str, Any]) -> dict[str, Any]:
    chunks = [chunk async for chunk in gateway.stream(**call)]
    pieces = [piece for chunk in chunks for piece in chunk.tool_calls]
    whole: dict[Any, dict[str, str]] = {}
    for piece in pieces:
        one = whole.setdefault(piece["index"], {"id": "", "name": "", "arguments": ""})
        one["id"] = piece.get("id") or one["id"]
        one["name"] += piece["function"].get("name") or ""
        one["arguments"] += piece["function"].get("arguments") or ""
    usage = next((chunk.usage for chunk in reversed(chunks) if chunk.usage), None)
    return {
        "text": "".join(chunk.text for chunk in chunks),
        "finish_reason": next(c.finish_reason for c in reversed(chunks) if c.finish_reason),
        "model": next(chunk.model for chunk in reversed(chunks) if chunk.model),
        "usage": usage.model_dump(exclude_none=True) if usage else {},
        "data": None,
        "calls": [_call(one["id"], one) for one in whole.values()],
    }


def _call(call_id: str, function: dict[str, str]) -> dict[str, Any]:
    arguments = json.loads(function["arguments"])
    return {"id": call_id, "name": function["name"], "arguments": arguments}


def _as_told(call: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Where a provider gives a call no id, the library makes one up."""
    return {name: value for name, value in call.items() if name in told}
