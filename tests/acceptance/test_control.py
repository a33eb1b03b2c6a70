"""Runs under way with real workers: cancelled in a model call, paused, retried, woken."""

import json
from pathlib import Path

import pytest

from rotina import Rotina
from tests.acceptance.ledger import check_results, rows, start_runs, write_documents
from tests.acceptance.stack import Stack

SPLIT = "select run_id from rotina.run_event where kind = 'node' and data->>'node' = 'split'"
"""Runs that ask the model now, or have asked."""


@pytest.fixture
def slow(processes: Stack) -> Stack:
    """A stack whose model takes a minute to answer."""
    return _with_model(processes, delay=60.0)


def _with_model(stack: Stack, delay: float) -> Stack:
    url = stack.model("tests.acceptance.scripts:invoice", delay=delay)
    stack.environment = {
        **stack.environment, "OPENAI_BASE_URL": url, "ROTINA_MODEL": "scripted",
    }  # fmt: skip
    return stack


def test_a_run_is_cancelled_in_the_middle_of_a_model_call(
    slow: Stack, database_url: str, tmp_path: Path
) -> None:
    slow.worker()
    start_runs(slow, write_documents(tmp_path, 1))
    slow.wait_for("the run to ask the model", lambda: len(rows(database_url, SPLIT)) == 1)
    (run,) = rows(database_url, "select id from rotina.run")
    done = slow.run("cancel", str(run["id"])[:13], "--reason", "wrong file", "--by", "ana")
    assert done.returncode == 0, done.stderr
    ended = "select state from rotina.run where finished_at is not null"
    slow.wait_for("the run to end", lambda: bool(rows(database_url, ended)), timeout=20)
    (found,) = rows(database_url, ended)
    assert found["state"] == "cancelled"
    (call,) = rows(database_url, "select outcome, latency_ms from rotina.model_call")
    assert call["outcome"] == "CancelledError", "the request to the model was given up"
    assert rows(database_url, "select from invoice_register") == []
    shown = slow.run("show", str(run["id"]))
    assert "wrong file" in shown.stdout
    again = slow.run("cancel", str(run["id"]))
    assert again.returncode == 1
    assert again.stderr.startswith("RunStateError: ")
    assert "is cancelled and cannot cancel" in again.stderr


def test_a_cancelled_run_is_retried_to_its_end(
    scripted: Stack, database_url: str, tmp_path: Path
) -> None:
    start_runs(scripted, write_documents(tmp_path, 1))
    (run,) = rows(database_url, "select id from rotina.run")
    assert scripted.run("pause", str(run["id"])).stdout.split()[1] == "queued"
    assert scripted.run("resume", str(run["id"])).returncode == 0
    assert scripted.run("cancel", str(run["id"])).stdout.split()[1] == "cancelled"
    assert scripted.run("retry", str(run["id"])).stdout.split()[1] == "queued"
    scripted.worker()
    state = "select state from rotina.run"
    scripted.wait_for(
        "the run to end", lambda: rows(database_url, state)[0]["state"] == "succeeded"
    )
    check_results(database_url, 1)


def test_a_killed_worker_does_not_ask_the_model_again(
    processes: Stack, database_url: str, tmp_path: Path
) -> None:
    """The answer is recorded before the node goes on; the next worker finds it there."""
    log = tmp_path / "asked.jsonl"
    processes.start(
        "model",
        *("-m", "tests.scripted_model", "--port", "0", "--delay", "0.1"),
        *("--script", "tests.acceptance.scripts:invoice", "--log", str(log)),
    )
    processes.wait_for("the model server", lambda: "http://" in processes.log("model"))
    url = next(line for line in processes.log("model").splitlines() if line.startswith("http://"))
    processes.environment = {
        **processes.environment, "OPENAI_BASE_URL": url, "ROTINA_MODEL": "scripted",
    }  # fmt: skip
    processes.worker()
    start_runs(processes, write_documents(tmp_path, 3))
    told = "select run_id from rotina.recorded where kind = 'chat'"
    processes.wait_for("an answer to be recorded", lambda: len(rows(database_url, told)) > 0)
    processes.kill("worker-io")
    answered = {row["run_id"] for row in rows(database_url, told)}
    processes.worker()
    ended = "select count(*) as n from rotina.run where finished_at is not null"
    processes.wait_for("all runs to end", lambda: rows(database_url, ended)[0]["n"] == 3)
    check_results(database_url, 3)
    calls = rows(
        database_url,
        "select run_id, count(*) as n from rotina.model_call where outcome = 'ok' group by 1",
    )
    assert all(row["n"] == 1 for row in calls if row["run_id"] in answered), calls
    asked = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(asked) <= 3 + 3 - len(answered)


def test_a_signal_from_the_command_line_is_kept(
    processes: Stack, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = processes.run("signal", "paid", "order-1", '{"amount": 7}')
    assert sent.returncode == 0, sent.stderr
    assert "kept for the first" in sent.stdout
    (kept,) = rows(database_url, "select name, key, payload, taken_at from rotina.signal")
    assert kept == {"name": "paid", "key": "order-1", "payload": {"amount": 7}, "taken_at": None}
    for name, value in processes.environment.items():
        monkeypatch.setenv(name, value)
    with Rotina.sync() as rotina:
        assert rotina.signal("paid", "order-2") == 0
    assert len(rows(database_url, "select from rotina.signal")) == 2
    refused = processes.run("signal", "paid", "order-1", "no JSON")
    assert refused.returncode == 1
    assert "JSON" in refused.stderr
