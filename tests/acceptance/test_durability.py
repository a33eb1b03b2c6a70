"""Real workers, a real broker, kill -9: every run ends once, with the right result."""

import json
import random
import time
from pathlib import Path

from celery import Celery

from tests.acceptance.ledger import (
    all_ended,
    check_result,
    check_results,
    rows,
    start_runs,
    write_documents,
)
from tests.acceptance.scripts import document
from tests.acceptance.stack import Stack


def test_a_worker_that_does_not_consume_starts_again(
    scripted: Stack, database_url: str, tmp_path: Path
) -> None:
    """Connected, alive and deaf: as after a reconnection that lost its subscription."""
    scripted.environment = {**scripted.environment, "ROTINA_STUCK_SECONDS": "3"}
    scripted.worker()
    with Celery(broker=scripted.environment["REDIS_URL"]) as app:
        app.control.cancel_consumer("io", reply=True, timeout=5)
    start_runs(scripted, write_documents(tmp_path, 2))
    scripted.wait_for("all runs to end", lambda: all_ended(database_url, 2))
    check_results(database_url, 2)
    log = scripted.log("worker-io")
    assert "this worker, with free hands, takes none" in log
    assert log.count(" ready.") == 2, "the same process, started again"


def test_a_worker_that_drains_leaves_messages_on_purpose(
    processes: Stack, database_url: str, tmp_path: Path
) -> None:
    url = processes.model("tests.acceptance.scripts:invoice", delay=8)
    processes.environment = {
        **processes.environment,
        "OPENAI_BASE_URL": url,
        "ROTINA_MODEL": "scripted",
        "ROTINA_STUCK_SECONDS": "1",
    }
    processes.worker()
    first, *others = write_documents(tmp_path, 3)
    start_runs(processes, [first])
    running = "select id from rotina.run where state = 'running'"
    processes.wait_for("the run to be driven", lambda: len(rows(database_url, running)) == 1)
    worker = processes.process("worker-io")
    worker.terminate()
    start_runs(processes, others)
    assert worker.wait(60) == 0, "it ends, and does not start again"
    assert "starts again" not in processes.log("worker-io")
    assert rows(database_url, running) == []


def test_three_kills_among_twenty_documents(
    scripted: Stack, database_url: str, tmp_path: Path
) -> None:
    moments = random.Random(20_250_301)
    scripted.environment = {**scripted.environment, "ROTINA_IO_CONCURRENCY": "4"}
    scripted.rotina("beat", "beat")
    scripted.worker()
    start_runs(scripted, write_documents(tmp_path))
    for _ in range(3):
        time.sleep(moments.uniform(0.3, 1.5))
        scripted.kill("worker-io")
        scripted.worker()
    scripted.wait_for("all runs to end", lambda: all_ended(database_url), timeout=150)
    check_results(database_url)
    attempts = [row["attempts"] for row in rows(database_url, "select attempts from rotina.run")]
    assert max(attempts) > 1, "no kill hit a run: the test shows nothing"


def test_a_broker_that_forgets_everything(
    scripted: Stack, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """Runs are accepted while no worker lives, and Redis loses every hint."""
    import redis

    start_runs(scripted, write_documents(tmp_path, 3))
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("io") == 3
        client.flushall()
    scripted.rotina("beat", "beat")
    scripted.worker()
    scripted.wait_for("all runs to end", lambda: all_ended(database_url, 3))
    check_results(database_url, 3)


def test_sigterm_hands_runs_back_and_the_next_worker_goes_on(
    processes: Stack, database_url: str, tmp_path: Path
) -> None:
    url = processes.model("tests.acceptance.scripts:invoice", delay=2.0)
    processes.environment = {
        **processes.environment, "OPENAI_BASE_URL": url, "ROTINA_MODEL": "scripted",
    }  # fmt: skip
    processes.worker()
    start_runs(processes, write_documents(tmp_path, 3))
    kinds = "select kind from rotina.run_event where kind = 'node' and data->>'node' = 'split'"
    processes.wait_for("the runs to ask the model", lambda: len(rows(database_url, kinds)) == 3)
    assert processes.terminate("worker-io") == 0
    states = rows(database_url, "select state, attempts, lease_token from rotina.run")
    assert [row["state"] for row in states] == ["queued"] * 3
    assert {row["attempts"] for row in states} == {0}, "draining is not a failed attempt"
    assert rows(database_url, "select id from rotina.worker") == []
    asked = rows(database_url, "select run_id from rotina.model_call")
    assert len(asked) == 3
    processes.rotina("beat", "beat")
    processes.worker()
    processes.wait_for("all runs to end", lambda: all_ended(database_url, 3))
    check_results(database_url, 3)
    asked = rows(database_url, "select run_id from rotina.model_call")
    assert len(asked) == 3, "the answer was checkpointed: nothing is paid twice"


def test_the_command_line_tells_what_happened(scripted: Stack, tmp_path: Path) -> None:
    scripted.worker()
    (good,) = write_documents(tmp_path, 1)
    empty = tmp_path / "empty.txt"
    empty.touch()
    done = scripted.run("run", "invoice_intake", good, str(empty), "--json")
    assert done.returncode == 1, "one of them failed"
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    check_result(first["result"])
    assert first["state"] == "succeeded"
    assert (second["state"], second["error"]["type"]) == ("failed", "EmptyDocumentError")
    listed = scripted.run("runs", "--json")
    assert [json.loads(line)["id"] for line in listed.stdout.splitlines()] == [
        second["id"], first["id"],
    ]  # fmt: skip
    shown = scripted.run("show", first["id"])
    for part in ("INV-0000", "proven", "succeeded", "extract", "1 model calls", "cost unknown"):
        assert part in shown.stdout, shown.stdout
    again = scripted.run("show", first["id"], "--json")
    assert json.loads(again.stdout)["model_calls"][0]["node"] == "extract"
    missing = scripted.run("show", "ffffffff")
    assert (missing.returncode, "no run whose id" in missing.stderr) == (1, True)


def test_an_idempotency_key_on_the_command_line(scripted: Stack, tmp_path: Path) -> None:
    (path,) = write_documents(tmp_path, 1)
    first = scripted.run("run", "invoice_intake", path, "--key", "k", "--detach")
    again = scripted.run("run", "invoice_intake", path, "--key", "k", "--detach")
    assert first.stdout == again.stdout
    Path(path).write_text(document(7))
    other = scripted.run("run", "invoice_intake", path, "--key", "k", "--detach")
    assert other.returncode == 1
    assert "IdempotencyConflictError" in other.stderr


def test_a_dead_model_server_ends_the_run_with_a_clear_error(
    processes: Stack, tmp_path: Path
) -> None:
    processes.environment = {
        **processes.environment,
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
        "ROTINA_MODEL": "gone",
        "ROTINA_MAX_ATTEMPTS": "2",
    }
    processes.rotina("beat", "beat")
    processes.worker()
    (path,) = write_documents(tmp_path, 1)
    done = processes.run("run", "invoice_intake", path, "--json")
    ended = json.loads(done.stdout)
    assert (ended["state"], ended["attempts"]) == ("failed", 2)
    assert ended["error"]["type"] == "ModelUnreachableError"
    assert ended["error"]["node"] == "extract"


def test_a_cpu_worker_drives_runs_of_its_queue(scripted: Stack, tmp_path: Path) -> None:
    """A prefork worker opens its own loop in the child that Celery forked."""
    package = tmp_path / "heavy"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from dataclasses import replace\n"
        "from workflows.invoice_intake import INVOICE_INTAKE\n"
        "HEAVY = replace(INVOICE_INTAKE, name='heavy', queue='cpu')\n"
    )
    scripted.environment = {
        **scripted.environment,
        "PYTHONPATH": str(tmp_path),
        "ROTINA_WORKFLOWS": '["workflows", "heavy"]',
    }
    scripted.worker("worker-cpu", "cpu")
    (path,) = write_documents(tmp_path, 1)
    done = scripted.run("run", "heavy", path, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    check_result(json.loads(done.stdout)["result"])
    assert scripted.terminate("worker-cpu") == 0
