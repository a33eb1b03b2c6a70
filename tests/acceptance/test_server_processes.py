"""`rotina serve` as a process beside real workers: used and stopped."""

import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from tests.acceptance.door import Door
from tests.acceptance.ledger import check_result, rows
from tests.acceptance.scripts import document
from tests.acceptance.stack import Stack


def test_an_invoice_over_http_with_a_real_worker(
    scripted: Stack, database_url: str, tmp_path: Path
) -> None:
    door = Door(scripted)
    assert "keys create" in scripted.log("server"), "without a key it says how to make one"
    key = door.key()
    scripted.worker()
    _, run = door.upload(key, 3, "invoice 3")
    kinds = [kind for _, kind in door.follow(key, run["id"])]
    assert (kinds[0], kinds[-1]) == ("accepted", "succeeded")
    status, ended = door.ask(key, "GET", f"/v1/runs/{run['id']}")
    assert (status, ended["state"]) == (200, "succeeded")
    check_result(ended["result"])
    status, again = door.upload(key, 3, "invoice 3")
    assert (status, again["id"]) == (200, run["id"])
    path = tmp_path / "invoice.txt"
    path.write_text(document(3))
    known = scripted.run("run", "invoice_intake", str(path), "--key", "invoice 3", "--detach")
    assert known.stdout.strip() == run["id"], "the same key through another door is the same run"
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
    reader = threading.Thread(
        target=lambda: kinds.extend(kind for _, kind in door.follow(key, run["id"]))
    )
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
