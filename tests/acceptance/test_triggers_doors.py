"""Runs that queues and schedules start, with real workers, beats and kills."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from celery import Celery

from tests.acceptance.ledger import check_result, rows, start_runs, write_documents
from tests.acceptance.stack import Stack

STREAM = "rotina:start"
NOTES = """
from datetime import datetime
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

from rotina.runs import Workflow


class Note(BaseModel):
    text: str
    fire_time: datetime | None = None


class Shout(BaseModel):
    shout: str


class State(TypedDict, total=False):
    text: str
    fire_time: str | None
    shout: str


def build() -> StateGraph[State]:
    graph = StateGraph(State)
    graph.add_node("shout", lambda state: {"shout": state["text"].upper()})
    graph.add_edge(START, "shout")
    graph.add_edge("shout", END)
    return graph


SHOUT = Workflow(name="shout", input=Note, output=Shout, build=build)
"""
NOTE = {"text": "atenção"}
SHOUTED = {"shout": "ATENÇÃO"}


@pytest.fixture
def notes(processes: Stack, tmp_path: Path) -> Stack:
    """A stack with one more workflow, which needs no model."""
    package = tmp_path / "notes"
    package.mkdir()
    (package / "__init__.py").write_text(NOTES)
    processes.environment = {
        **processes.environment,
        "PYTHONPATH": str(tmp_path),
        "ROTINA_WORKFLOWS": '["workflows", "notes"]',
    }
    return processes


def send(redis_url: str, fields: Mapping[str, Any], *arguments: Any, queue: str = "io") -> str:
    """As a Celery app that knows nothing of Rotina but its broker's address."""
    app = Celery("somebody", broker=redis_url, set_as_current=False)
    with app, app.connection_for_write() as connection:
        sent = app.send_task(
            "rotina.start", args=arguments, kwargs=fields, queue=queue, connection=connection
        )
        return str(sent.id)


def add(redis_url: str, fields: Mapping[str, str]) -> str:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        return str(client.xadd(STREAM, dict(fields)))


def make_due(database_url: str, name: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "update rotina.schedule set next_fire_at = date_trunc('minute', now()) where name = %s",
            (name,),
        )


def ended(database_url: str) -> list[Any]:
    return rows(database_url, "select * from rotina.run where finished_at is not null order by id")


def test_each_door_gives_the_same_result_and_the_same_key_the_same_run(
    notes: Stack, database_url: str, redis_url: str
) -> None:
    notes.rotina("beat", "beat")
    notes.worker()
    task = send(redis_url, {"workflow": "shout", "input": NOTE})
    entry = add(redis_url, {"workflow": "shout", "input": json.dumps(NOTE)})
    added = notes.run(
        *("schedule", "add", "lembrete", "shout", "--cron", "0 8 * * *"),
        *("--zone", "America/Sao_Paulo", "--input", json.dumps(NOTE)),
    )
    assert added.returncode == 0, added.stderr
    make_due(database_url, "lembrete")
    notes.wait_for("three runs", lambda: len(ended(database_url)) == 3)
    found = ended(database_url)
    assert [run["result"] for run in found] == [SHOUTED] * 3
    keys = {run["idempotency_key"].split(":2")[0] for run in found}
    assert keys == {task, "schedule:lembrete", f"stream:rotina:start:{entry}".split(":2")[0]}
    # The same key through the command line, Celery (twice) and the stream.
    known = notes.run("run", "shout", "--input", json.dumps(NOTE), "--key", "pedido-7", "--json")
    for _ in range(2):
        send(redis_url, {"workflow": "shout", "input": NOTE, "key": "pedido-7"})
    add(redis_url, {"workflow": "shout", "input": json.dumps(NOTE), "key": "pedido-7"})
    add(redis_url, {"workflow": "shout", "input": '{"text": "fim"}', "key": "last"})
    send(redis_url, {"workflow": "shout", "input": {"text": "fim"}, "key": "last"})
    notes.wait_for("the last one", lambda: len(ended(database_url)) == 5)
    notes.wait_for("empty queues", lambda: queues_are_empty(redis_url))
    assert len(ended(database_url)) == 5
    same = [run for run in ended(database_url) if run["idempotency_key"] == "pedido-7"]
    assert [str(run["id"]) for run in same] == [json.loads(known.stdout)["id"]]
    fires = notes.run("schedule", "fires", "lembrete", "--json")
    fired = json.loads(fires.stdout)
    scheduled = next(run for run in found if run["idempotency_key"].startswith("schedule:"))
    assert fired["run_id"] == str(scheduled["id"])
    assert scheduled["input"]["fire_time"].endswith("-03:00")
    assert rows(database_url, "select * from rotina.rejected") == []


def queues_are_empty(redis_url: str) -> bool:
    with redis.Redis.from_url(redis_url) as client:
        return not any([client.llen("io"), client.hlen("unacked"), client.xlen(STREAM)])


def test_messages_that_are_no_run_are_kept_and_told(
    notes: Stack, database_url: str, redis_url: str
) -> None:
    notes.worker()
    bad = send(redis_url, {"workflow": "gone", "input": {}})
    send(redis_url, {"workflow": "shout", "input": {"text": 3}})
    send(redis_url, {"workflow": "shout", "input": NOTE, "task": "x"})
    send(redis_url, {}, "shout", NOTE)
    entry = add(redis_url, {"workflow": "shout", "input": "{"})
    good = send(redis_url, {"workflow": "shout", "input": NOTE})
    notes.wait_for("the good one", lambda: len(ended(database_url)) == 1)
    notes.wait_for("empty queues", lambda: queues_are_empty(redis_url))
    assert [run["idempotency_key"] for run in ended(database_url)] == [good]
    shown = notes.run("rejected", "--json")
    kept = {one["reference"]: one for one in map(json.loads, shown.stdout.splitlines())}
    assert len(kept) == 5, notes.log("worker-io")
    assert "No workflow 'gone'. Registered: " in kept[bad]["reason"]
    assert (kept[entry]["source"], "input" in kept[entry]["reason"]) == (f"stream:{STREAM}", True)
    assert json.loads(kept[entry]["payload"]) == {"workflow": "shout", "input": "{"}
    assert "No workflow 'gone'" in notes.run("rejected").stdout
    assert f"refused celery {bad}: " in notes.log("worker-io")


def test_a_message_waits_while_the_database_is_away(
    notes: Stack, database_url: str, redis_url: str
) -> None:
    notes.worker()
    server, name = database_url.rsplit("/", 1)

    def allow(*, connections: bool) -> None:
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(
                f"alter database {name} allow_connections {str(connections).lower()}".encode()
            )
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,)
            )

    allow(connections=False)
    try:
        send(redis_url, {"workflow": "shout", "input": NOTE})
        add(redis_url, {"workflow": "shout", "input": json.dumps(NOTE)})
        notes.wait_for(
            "both to be handed back",
            lambda: (
                "goes back to the queue" in notes.log("worker-io")
                and "stream rotina:start: again in" in notes.log("worker-io")
            ),
        )
    finally:
        allow(connections=True)
    notes.wait_for("both runs", lambda: len(ended(database_url)) == 2)
    assert [run["result"] for run in ended(database_url)] == [SHOUTED] * 2
    assert rows(database_url, "select * from rotina.rejected") == []


@pytest.mark.parametrize("kind", ["io", "cpu"])
def test_kill_9_after_a_message_was_received_loses_nothing(
    notes: Stack, database_url: str, redis_url: str, kind: str
) -> None:
    """A lock on the ledger holds the message between receipt and acceptance; then kill -9."""
    if kind == "io":
        notes.worker()
    else:
        notes.worker("worker-cpu", "cpu")
        with redis.Redis.from_url(redis_url) as client:
            assert not client.exists(STREAM), "a cpu worker reads no stream"
    with psycopg.connect(database_url) as blocking:
        blocking.execute("lock table rotina.run in share mode")
        task = send(redis_url, {"workflow": "shout", "input": NOTE}, queue=kind)
        if kind == "io":
            add(redis_url, {"workflow": "shout", "input": json.dumps(NOTE)})
        waiting = (
            "select pid from pg_stat_activity where datname = current_database() "
            "and wait_event_type = 'Lock' and query like '%insert into rotina.run%'"
        )
        expected = 2 if kind == "io" else 1
        notes.wait_for("acceptance to wait", lambda: len(rows(database_url, waiting)) >= expected)
        notes.kill(f"worker-{kind}")
        blocking.rollback()
    make_visible(redis_url)
    notes.worker()
    if kind == "cpu":
        notes.worker("worker-cpu", "cpu")
    notes.wait_for("every run", lambda: len(ended(database_url)) == expected, timeout=90)
    notes.wait_for("empty queues", lambda: queues_are_empty(redis_url), timeout=90)
    found = ended(database_url)
    assert len(found) == expected
    assert [run["result"] for run in found] == [SHOUTED] * expected
    assert task in {run["idempotency_key"] for run in found}


def make_visible(redis_url: str) -> None:
    """Let the broker's visibility time-out (a minute) pass for what the dead worker held."""
    with redis.Redis.from_url(redis_url) as client:
        held = client.zrange("unacked_index", 0, -1)
        assert held, "the message was acknowledged before its run was accepted"
        client.zadd("unacked_index", dict.fromkeys(held, time.time() - 3600))


def test_two_beats_and_a_killed_one_fire_each_time_once(
    notes: Stack, database_url: str, tmp_path: Path
) -> None:
    notes.environment = {**notes.environment, "ROTINA_DATA_DIR": str(tmp_path / "a")}
    notes.rotina("beat", "beat")
    notes.environment = {**notes.environment, "ROTINA_DATA_DIR": str(tmp_path / "b")}
    notes.rotina("beat-2", "beat")
    notes.worker()
    notes.worker("worker-2")
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """insert into rotina.schedule
                   (id, tenant, name, workflow, input, cron, time_zone, catch_up, next_fire_at)
               select gen_random_uuid(), 'default', 'nota-' || n, 'shout',
                      jsonb_build_object('text', 'nota ' || n), '0 0 1 1 *', 'UTC', 'latest', now()
               from generate_series(0, 5) n"""
        )
    notes.kill("beat")
    notes.rotina("beat", "beat")
    notes.wait_for("six runs", lambda: len(ended(database_url)) == 6)
    logs = ("beat", "beat-2")
    notes.wait_for(
        "both beats to send", lambda: all("Sending due task sweep" in notes.log(n) for n in logs)
    )
    shouted = sorted(run["result"]["shout"] for run in ended(database_url))
    assert shouted == [f"NOTA {index}" for index in range(6)]
    assert (
        len(rows(database_url, "select * from rotina.schedule_fire where run_id is not null")) == 6
    )
    assert len(ended(database_url)) == 6


def test_a_file_that_is_stored_can_be_read_through_every_door(
    scripted: Stack, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    scripted.worker()
    start_runs(scripted, write_documents(tmp_path, 1))
    scripted.wait_for("the first run", lambda: len(ended(database_url)) == 1)
    value = ended(database_url)[0]["input"]
    send(redis_url, {"workflow": "invoice_intake", "input": value})
    add(redis_url, {"workflow": "invoice_intake", "input": json.dumps(value)})
    scripted.wait_for("both runs", lambda: len(ended(database_url)) == 3)
    results = [run["result"] for run in ended(database_url)]
    check_result(results[0])
    assert results[1:] == results[:1] * 2
