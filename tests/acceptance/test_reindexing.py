"""`rotina kb reindex` with real workers: killed in the middle, interrupted, waited for."""

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.ledger import rows
from tests.acceptance.stack import Stack
from tests.scripted_model import Request

RULES = 900
BATCH = 256
BEFORE = 2 * BATCH
"""Texts that the new model is given before it answers no more."""
_given: list[str] = []


async def held(request: Request) -> None:
    """The model `wide` answers only its first batches until there is a file `go`."""
    if request.body.get("model") != "wide" or request.body["input"] == ["?"]:
        return
    _given.extend(request.body["input"])
    while len(_given) > BEFORE and not (Path(os.environ["HELD_MODEL"]) / "go").exists():
        await asyncio.sleep(0.02)


@pytest.fixture
def filled(processes: Stack, tmp_path: Path) -> Stack:
    """A collection of 900 chunks, an io worker, and a route to a model that waits."""
    processes.environment = {**processes.environment, "HELD_MODEL": str(tmp_path)}
    url = processes.model("tests.acceptance.test_reindexing:held", log=tmp_path / "requests")
    deployments = {
        "one": {"model": "narrow", "base_url": url},
        "two": {"model": "wide", "base_url": url, "timeout": 300},
    }
    routes = {"embed": {"deployments": ["one"]}, "better": {"deployments": ["two"]}}
    processes.environment = {
        **processes.environment,
        "ROTINA_DEPLOYMENTS": json.dumps(deployments),
        "ROTINA_ROUTES": json.dumps(routes),
    }
    assert processes.run("kb", "create", "help", "--chunk-limit", "100").returncode == 0
    path = tmp_path / "rules.txt"
    rule = "Regra {0}: o reembolso da compra {0} leva {0} dias úteis, e a entrega é grátis."
    path.write_text("\n\n".join(rule.format(n) for n in range(RULES)))
    processes.rotina("beat", "beat")
    processes.worker()
    done = processes.run("kb", "add", "help", str(path))
    assert done.returncode == 0, done.stderr
    return processes


def vectors(url: str, state: str) -> int:
    with psycopg.connect(url) as connection:
        connection.execute("select set_config('rotina.tenant', 'default', false)")
        row = connection.execute(
            "select count(*) from rotina.embedding e join rotina.space s on s.id = e.space_id "
            "where s.state = %s",
            (state,),
        ).fetchone()
    assert row is not None
    return int(row[0])


def answers(stack: Stack) -> None:
    done = stack.run("kb", "search", "help", "reembolso da compra 7", "-k", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["document"] == "rules.txt"


def embedded(folder: Path) -> list[str]:
    """Chunks that the new model was given."""
    asked = [json.loads(line)["body"] for line in (folder / "requests").read_text().splitlines()]
    texts = [text for body in asked if body.get("model") == "wide" for text in body["input"]]
    return [text for text in texts if text.startswith("Regra")]


@pytest.mark.usefixtures("replayed")
def test_a_worker_killed_in_the_middle(filled: Stack, database_url: str, tmp_path: Path) -> None:
    """It goes on where it stood; no chunk is without a vector, and search answers all the time."""
    filled.worker("worker-cpu", "cpu")
    command = filled.rotina(
        "reindexing", "kb", "reindex", "help", "--route", "better", "--keep", "--json"
    )
    filled.wait_for(
        "some vectors", lambda: vectors(database_url, "building") == BEFORE, timeout=120
    )
    answers(filled)
    filled.kill("worker-cpu")
    answers(filled)
    assert vectors(database_url, "building") == BEFORE, "what was made is kept"
    (tmp_path / "go").touch()
    filled.worker("worker-cpu", "cpu")
    while command.poll() is None:
        answers(filled)
    assert command.wait() == 0, filled.log("reindexing")
    told = json.loads(filled.log("reindexing").splitlines()[-1])["reindexed"]
    assert told == {
        "collection": "help", "route": "better", "model": "scripted", "chunks": RULES,
        "unchanged": False,
    }  # fmt: skip
    assert vectors(database_url, "current") == vectors(database_url, "ready") == RULES
    answers(filled)
    (run,) = rows(
        database_url, "select attempts from rotina.run where workflow = 'knowledge_reindex'"
    )
    assert run["attempts"] > 1, "the kill missed: the test shows nothing"
    texts = embedded(tmp_path)
    assert len(set(texts)) == RULES
    assert len(texts) <= RULES + BATCH, "only what was under way was embedded again"
    again = filled.run("kb", "reindex", "help", "--route", "better")
    assert (
        f"help: {RULES} chunks embedded by route 'better', model 'scripted' already" in again.stdout
    )


def test_who_waits_may_leave(filled: Stack, database_url: str, tmp_path: Path) -> None:
    """Without a cpu worker nothing goes on; the run stays, and another command waits for it."""
    (tmp_path / "go").touch()
    reindex = ("kb", "reindex", "help", "--route", "better")
    late = filled.run(*reindex, "--timeout", "1")
    assert late.returncode == 1
    state = "select id, state from rotina.run where workflow = 'knowledge_reindex' order by id"
    (run,) = rows(database_url, state)
    assert f"not done within 1 s. The run goes on: `rotina show {run['id']}`" in late.stderr
    command = filled.rotina("reindexing", *reindex)
    filled.wait_for("a second run", lambda: "help: run " in filled.log("reindexing"))
    command.send_signal(signal.SIGINT)
    try:
        assert command.wait(30) == 1
    except subprocess.TimeoutExpired:
        pytest.fail(filled.log("reindexing"))
    assert "The run goes on: `rotina show" in filled.log("reindexing")
    filled.kill("reindexing")
    assert {each["state"] for each in rows(database_url, state)} == {"queued"}
    filled.worker("worker-cpu", "cpu")
    done = filled.run(*reindex)
    assert f"{RULES} chunks embedded by route 'better', model 'scripted'" in done.stdout, (
        done.stderr
    )
    assert {each["state"] for each in rows(database_url, state)} == {"succeeded"}
    assert len(embedded(tmp_path)) == RULES, "one after the other, and nothing twice"
    missing = filled.run("kb", "reindex", "help", "--route", "nope")
    assert missing.returncode == 1
    assert "SettingsError: No route 'nope'" in missing.stderr
