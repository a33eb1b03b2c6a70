"""kill -9 of worker, beat and server while each of the three agents is at work: one result.

The moments are chosen, not timed: a model that does not answer yet, a lock on the table that is
written next, a Redis that takes nothing. The agents run side by side, so a kill hits all three.
"""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
import redis

from rotina import Rotina
from rotina.database import open_pool
from rotina.runs import Registry, Upload
from rotina.settings import load_settings
from rotina.triggers import ScheduleStore
from tests.acceptance.door import Door, Event
from tests.acceptance.ledger import check_result, rows
from tests.acceptance.scripts import TICKET, document
from tests.acceptance.stack import PROJECT, Stack

AGENTS = ("invoice_intake", "ticket_triage", "support_desk")
COMPLAINT = "O liquidificador chegou quebrado."
REQUEST = "Quero abrir um chamado: a torradeira não liga."

Post = Callable[[], tuple[int, Any]]
"""A request to the server: status and run."""


class Office:
    """Worker, beat and server of the three agents, and the model that they all wait for."""

    def __init__(self, stack: Stack, database_url: str, folder: Path) -> None:
        self.stack, self.database_url, self._folder = stack, database_url, folder
        folder.mkdir()
        stack.environment = {**stack.environment, "HELD_MODEL": str(folder)}
        stack.environment = {
            **stack.environment,
            "OPENAI_BASE_URL": stack.model("tests.acceptance.scripts:held"),
            "ROTINA_MODEL": "scripted",
            "ROTINA_EMBEDDING_MODEL": "scripted",
        }

    @contextmanager
    def all_asking(self) -> Iterator[None]:
        """Inside, every agent has asked the model; it answers at the end. Call `hold` before."""
        asked = [self._folder / f"{agent}.asked" for agent in AGENTS]
        self.stack.wait_for("all to ask the model", lambda: all(path.exists() for path in asked))
        yield
        self.release()

    def hold(self) -> None:
        """From now on the model answers nobody."""
        (self._folder / "hold").touch()

    def release(self) -> None:
        """The model answers again."""
        (self._folder / "hold").unlink()

    @contextmanager
    def locked(self, tables: str, *, writers: int) -> Iterator[Callable[[], None]]:
        """Nobody can write to the tables; what is yielded waits until so many try to."""
        waiting = "select from pg_locks where not granted and relation = any(%s::regclass[])"
        names = [name.strip() for name in tables.split(",")]
        with psycopg.connect(self.database_url) as connection:
            connection.execute(f"lock table {tables} in share row exclusive mode".encode())
            yield lambda: self.stack.wait_for(
                f"{writers} writers of {tables}",
                lambda: connection.execute(waiting, (names,)).rowcount >= writers,
            )

    def wait_until(self, ended: int) -> None:
        query = "select from rotina.run where state in ('succeeded', 'failed')"
        self.stack.wait_for(f"{ended} runs", lambda: len(rows(self.database_url, query)) == ended)

    def check(self, runs: int, tickets: list[str], said: list[str]) -> None:
        """Every run ended once and well, and each agent did once what it does."""
        url = self.database_url
        found = rows(url, "select id, workflow, state, error, result from rotina.run order by id")
        assert [(run["state"], run["error"]) for run in found] == [("succeeded", None)] * runs
        assert {run["workflow"] for run in found} == set(AGENTS)
        ends = rows(
            url, "select run_id from rotina.run_event where kind in ('succeeded', 'failed')"
        )
        assert sorted(row["run_id"] for row in ends) == sorted(run["id"] for run in found)
        [intake] = [run for run in found if run["workflow"] == "invoice_intake"]
        check_result(intake["result"])
        [invoice] = rows(url, "select number from invoice_register")
        assert invoice["number"] == "INV-0003"
        opened = rows(url, "select message from ticket order by message")
        assert [row["message"] for row in opened] == sorted(tickets)
        talk = rows(url, "select role, text from rotina.message order by id")
        assert [line["role"] for line in talk] == ["user", "assistant"] * len(said)
        assert [line["text"] for line in talk[::2]] == said


@pytest.fixture
def office(processes: Stack, database_url: str, tmp_path: Path) -> Office:
    return Office(processes, database_url, tmp_path / "office")


@pytest.fixture
def rotina(office: Office, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A program beside the office's processes."""
    for name, value in office.stack.environment.items():
        monkeypatch.setenv(name, value)
    with Rotina.sync(settings=load_settings(PROJECT)) as opened:
        yield opened


def test_the_worker_is_killed_while_it_asks_and_while_it_writes(
    office: Office, rotina: Any, database_url: str
) -> None:
    stack = office.stack
    office.hold()
    stack.worker()
    thread = rotina.open_thread("support_desk", customer="ana@example.com").id
    upload = Upload("invoice.txt", document(3).encode())
    rotina.start("invoice_intake", file=upload)
    rotina.start("ticket_triage", {"message": COMPLAINT})
    rotina.start("support_desk", {"thread": str(thread), "text": REQUEST})
    with office.all_asking():
        stack.kill("worker-io")
    with office.locked("ticket, invoice_register", writers=3) as wait_for_writers:
        stack.worker()
        office.wait_until(1)
        rotina.start("support_desk", {"thread": str(thread), "text": "sim, por favor"})
        wait_for_writers()
        stack.kill("worker-io")
    stack.worker()
    office.wait_until(4)
    office.check(4, [COMPLAINT, str(TICKET["message"])], [REQUEST, "sim, por favor"])
    attempts = rows(database_url, "select attempts from rotina.run order by id")
    for run, fewest in zip(attempts, (3, 3, 2, 2), strict=True):
        assert run["attempts"] >= fewest, "a kill did not hit its run: the test shows nothing"
    done = rows(database_url, "select data from rotina.message order by id desc limit 1")
    assert done[0]["data"]["status"] == "done"


def test_beat_is_killed_after_it_asked_while_it_fires_and_while_results_are_written(
    office: Office, rotina: Any, database_url: str
) -> None:
    """Beat asks, and workers fire: in the middle of that both are killed."""
    stack = office.stack
    stack.rotina("beat", "beat")
    thread = rotina.open_thread("support_desk").id
    inputs: dict[str, dict[str, Any]] = {
        "invoice_intake": {"document": stored(database_url)},
        "ticket_triage": {"message": COMPLAINT},
        "support_desk": {"thread": str(thread), "text": REQUEST},
    }
    asyncio.run(make_due(database_url, inputs))
    stack.wait_for("beat to ask", lambda: "Sending due task sweep" in stack.log("beat"))
    again(stack, "beat")
    with office.locked("rotina.schedule_fire", writers=1) as wait_for_writers:
        stack.worker()
        wait_for_writers()
        assert len(rows(database_url, "select from rotina.run")) == 1, "accepted, not recorded"
        stack.kill("worker-io")
        again(stack, "beat")
    results = "invoice_register, ticket, rotina.message"
    with office.locked(results, writers=3) as wait_for_writers:
        stack.worker()
        wait_for_writers()
        stack.kill("worker-io")
        again(stack, "beat")
    stack.worker()
    office.wait_until(3)
    office.check(3, [COMPLAINT], [REQUEST])
    fired = rows(database_url, "select run_id, error from rotina.schedule_fire")
    runs = rows(database_url, "select id from rotina.run")
    assert sorted(fire["run_id"] for fire in fired) == sorted(run["id"] for run in runs)


async def make_due(database_url: str, inputs: Mapping[str, Mapping[str, Any]]) -> None:
    """A schedule for each agent, which is due now."""
    registry = Registry.load(["workflows"], PROJECT)
    async with open_pool(database_url, size=2) as pool:
        schedules = ScheduleStore(pool, registry, tenant="default")
        for agent, value in inputs.items():
            await schedules.add(agent, agent, value, cron="0 0 1 1 *")
        async with pool.connection() as connection:
            await connection.execute("update rotina.schedule set next_fire_at = now()")


def stored(database_url: str) -> dict[str, str]:
    """How an input names a file that is in the database since an earlier run."""
    content = document(3).encode()
    digest = hashlib.sha256(content).hexdigest()
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """insert into rotina.file (tenant, sha256, size, content)
               values ('default', %s, %s, %s)""",
            (digest, len(content), content),
        )
    return {"sha256": digest, "name": "invoice.txt"}


def again(stack: Stack, name: str) -> None:
    """kill -9, and another one."""
    stack.kill(name)
    stack.rotina(name, name)


def test_the_server_is_killed_before_and_after_it_accepts_and_while_clients_listen(
    office: Office, database_url: str, redis_url: str
) -> None:
    """A client that has no answer sends the same request again, with the same key."""
    stack = office.stack
    office.hold()
    door = Door(stack)
    key = door.key()
    posts = requests(door, key)
    with office.locked("rotina.run", writers=3) as wait_for_writers:
        unanswered = send(posts)
        wait_for_writers()
        stack.kill("server")
    assert_no_answer(unanswered)
    assert rows(database_url, "select from rotina.run") == []

    reopen(door)
    with redis.Redis.from_url(redis_url) as client:
        # The run is committed, then its hint waits for Redis: the client has no answer yet.
        client.client_pause(60_000, all=False)
        unanswered = send(posts)
        stack.wait_for("commits", lambda: len(rows(database_url, "select from rotina.run")) == 3)
        stack.kill("server")
        client.client_unpause()
    assert_no_answer(unanswered)

    stack.worker()
    reopen(door)
    accepted = answers(posts)
    heard: dict[str, list[Event]] = {agent: [] for agent in posts}
    with office.all_asking():
        listeners = listen(door, key, accepted, heard)
        stack.wait_for("events", lambda: all(len(events) > 1 for events in heard.values()))
        stack.kill("server")
        for listener in listeners:
            listener.join()
        reopen(door)
        assert answers(posts) == accepted
    for listener in listen(door, key, accepted, heard):
        listener.join()
    office.check(3, [COMPLAINT], [REQUEST])
    for agent, run in accepted.items():
        timeline = rows(
            database_url,
            f"select id, kind from rotina.run_event where run_id = '{run}' order by id",
        )
        assert heard[agent] == [(row["id"], row["kind"]) for row in timeline]


def requests(door: Door, key: str) -> dict[str, Post]:
    """One request for each agent, each with its idempotency key."""
    status, thread = door.ask(key, "POST", "/v1/threads", {"workflow": "support_desk"})
    assert status == 201
    triage = {"workflow": "ticket_triage", "input": {"message": COMPLAINT}}
    messages, named = f"/v1/threads/{thread['id']}/messages", {"Idempotency-Key": "once"}
    return {
        "invoice_intake": lambda: door.upload(key, 3, "once"),
        "ticket_triage": lambda: door.ask(key, "POST", "/v1/runs", triage, **named),
        "support_desk": lambda: door.ask(key, "POST", messages, {"text": REQUEST}, **named),
    }


def send(posts: Mapping[str, Post]) -> list[Future[tuple[int, Any]]]:
    """Send all requests at once, without waiting for answers."""
    pool = ThreadPoolExecutor(len(posts))
    sent = [pool.submit(post) for post in posts.values()]
    pool.shutdown(wait=False)
    return sent


def assert_no_answer(sent: list[Future[tuple[int, Any]]]) -> None:
    for one in sent:
        assert isinstance(one.exception(timeout=60), (OSError, aiohttp.ClientError))


def answers(posts: Mapping[str, Post]) -> dict[str, str]:
    """The run that each request names; it was accepted before."""
    answered = {agent: post() for agent, post in posts.items()}
    assert {status for status, _ in answered.values()} == {200}
    return {agent: run["id"] for agent, (_, run) in answered.items()}


def reopen(door: Door) -> None:
    """Another server at the same address, which every client knows."""
    Door(door.stack, port=door.port)


def listen(
    door: Door, key: str, runs: Mapping[str, str], heard: Mapping[str, list[Event]]
) -> list[threading.Thread]:
    """Follow each run behind what was heard of it, until its stream ends or breaks."""

    def follow(agent: str) -> None:
        after = max((number for number, _ in heard[agent]), default=0)
        try:
            for event in door.follow(key, runs[agent], after=after):
                heard[agent].append(event)
        except (OSError, HTTPException):
            return

    threads = [threading.Thread(target=follow, args=(agent,)) for agent in runs]
    for thread in threads:
        thread.start()
    return threads
