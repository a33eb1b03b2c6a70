"""`rotina serve` as a process beside real workers: used, stopped and killed."""

import asyncio
import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import psutil

from tests.acceptance.ledger import check_result, rows
from tests.acceptance.scripts import document
from tests.acceptance.stack import Stack

LISTENS = re.compile(r"serves at (http://\S+)")


class Door:
    """A server process and a key for it."""

    def __init__(self, stack: Stack, name: str = "server", port: int = 0) -> None:
        self.stack, self.name = stack, name
        seen = len(LISTENS.findall(stack.log(name)))
        self.process = stack.rotina(name, "serve", "--port", str(port))
        stack.wait_for("the server", lambda: len(LISTENS.findall(stack.log(name))) > seen)
        self.url = LISTENS.findall(stack.log(name))[-1]
        self.port = int(self.url.rpartition(":")[2])

    def key(self, tenant: str = "default") -> str:
        made = self.stack.run("keys", "create", "acceptance", "--tenant", tenant)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def ask(
        self, key: str, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        content = None if body is None else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers}
        request = urllib.request.Request(self.url + path, content, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


def upload(door: Door, key: str, index: int, name: str) -> dict[str, Any]:
    """Start an intake as any HTTP client does, with a form."""
    return asyncio.run(_upload(door, key, index, name))


async def _upload(door: Door, key: str, index: int, name: str) -> dict[str, Any]:
    form = aiohttp.FormData({"workflow": "invoice_intake"})
    content = document(index).encode()
    form.add_field("file", content, filename="invoice.txt", content_type="text/plain")
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": name}
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.post(f"{door.url}/v1/runs", data=form, headers=headers) as response,
    ):
        run = await response.json()
        assert isinstance(run, dict)
        return run


def follow(door: Door, key: str, run_id: str) -> Iterator[str]:
    """The kinds of a run's events, until the stream ends."""
    headers = {"Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{door.url}/v1/runs/{run_id}/events", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        for line in response:
            if line.startswith(b"event: "):
                yield line.decode().removeprefix("event: ").strip()


def test_an_invoice_over_http_with_a_real_worker(
    scripted: Stack, database_url: str, tmp_path: Path
) -> None:
    door = Door(scripted)
    assert "keys create" in scripted.log("server"), "without a key it says how to make one"
    key = door.key()
    scripted.worker()
    run = upload(door, key, 3, "invoice 3")
    kinds = list(follow(door, key, run["id"]))
    assert (kinds[0], kinds[-1]) == ("accepted", "succeeded")
    status, ended = door.ask(key, "GET", f"/v1/runs/{run['id']}")
    assert (status, ended["state"]) == (200, "succeeded")
    check_result(ended["result"])
    assert upload(door, key, 3, "invoice 3")["id"] == run["id"]
    path = tmp_path / "invoice.txt"
    path.write_text(document(3))
    again = scripted.run("run", "invoice_intake", str(path), "--key", "invoice 3", "--detach")
    assert again.stdout.strip() == run["id"], "the same key through another door is the same run"
    stranger = door.key("globex")
    assert door.ask(stranger, "GET", f"/v1/runs/{run['id']}")[0] == 404
    answer = {"model": "smart", "messages": [{"role": "user", "content": document(1)}]}
    status, said = door.ask(stranger, "POST", "/v1/chat/completions", answer)
    assert (status, json.loads(said["choices"][0]["message"]["content"])["number"]) == (
        *(200, "INV-0001"),
    )
    calls = rows(database_url, "select tenant, run_id from rotina.model_call order by tenant")
    assert [(row["tenant"], row["run_id"] is None) for row in calls] == [
        *(("default", False), ("globex", True)),
    ]
    assert key.split("_", 2)[2] not in scripted.log("server")


def test_sigterm_ends_streams_and_finishes_requests(scripted: Stack) -> None:
    door = Door(scripted)
    model_port = int(urlsplit(scripted.environment["OPENAI_BASE_URL"]).port or 0)
    key = door.key()
    _, run = door.ask(key, "POST", "/v1/runs", {"workflow": "extract", "input": _extract()})
    kinds: list[str] = []
    answers: list[int] = []
    reader = threading.Thread(target=lambda: kinds.extend(follow(door, key, run["id"])))
    question = {"model": "smart", "messages": [{"role": "user", "content": document(1)}]}
    asking = threading.Thread(
        target=lambda: answers.append(door.ask(key, "POST", "/v1/chat/completions", question)[0])
    )
    reader.start()
    scripted.wait_for("the stream", lambda: "/events" in scripted.log("server"))
    asking.start()
    scripted.wait_for("the model call", lambda: _is_connected(door, model_port))
    assert scripted.terminate("server") == 0
    reader.join(10)
    asking.join(10)
    assert kinds == ["accepted"], "the stream ended, the run did not"
    assert answers == [200], "a request under way is finished"
    assert "Traceback" not in scripted.log("server")


def _is_connected(door: Door, port: int) -> bool:
    connections = psutil.Process(door.process.pid).net_connections()
    return any(each.raddr and each.raddr.port == port for each in connections)


def _extract() -> dict[str, Any]:
    reference = {"sha256": "0" * 64, "name": "none.txt"}
    return {"document": reference, "schema": {"type": "object"}}


def test_kills_of_the_server_lose_and_double_nothing(scripted: Stack, database_url: str) -> None:
    """A client that repeats with its key while the server dies under it: one run, one result."""
    door = Door(scripted)
    key = door.key()
    scripted.worker()
    accepted: dict[int, str] = {}
    for index in range(6):
        sender = threading.Thread(target=_send_until_accepted, args=(door, key, index, accepted))
        sender.start()
        if index % 2:
            time.sleep(0.02 * index)
            os.kill(door.process.pid, signal.SIGKILL)
            scripted.kill("server")
            door.process = Door(scripted, port=door.port).process
        sender.join(120)
    scripted.wait_for(
        "all runs to end",
        lambda: all(door.ask(key, "GET", f"/v1/runs/{run}")[1]["state"] == "succeeded"
                    for run in accepted.values()),
    )  # fmt: skip
    runs = rows(database_url, "select id, idempotency_key from rotina.run")
    assert sorted(str(row["id"]) for row in runs) == sorted(accepted.values())
    numbers = rows(database_url, "select number from invoice_register order by number")
    assert [row["number"] for row in numbers] == [f"INV-{index:04d}" for index in range(6)]


def _send_until_accepted(door: Door, key: str, index: int, accepted: dict[int, str]) -> None:
    while index not in accepted:
        try:
            accepted[index] = upload(door, key, index, f"invoice {index}")["id"]
        except (aiohttp.ClientError, OSError):
            time.sleep(0.1)
