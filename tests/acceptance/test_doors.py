"""One message through every door, on real servers and models: one result; with one key, one run."""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from celery import Celery

from rotina import Rotina
from rotina.settings import Settings, load_settings
from tests.acceptance.stack import PROJECT, Stack

WORKFLOW = "ticket_triage"
INPUT = {"message": "O liquidificador chegou quebrado e com vidro solto na caixa."}
KEY = "one-key-for-all"

pytestmark = [
    pytest.mark.model,
    pytest.mark.timeout(900),
    # One process starts the embedded servers and models, for every test that needs them.
    pytest.mark.xdist_group("embedded"),
]


@pytest.fixture
def settings(embedded: Stack, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What `rotina up` offers to programs."""
    for name, value in embedded.environment.items():
        monkeypatch.setenv(name, value)
    return load_settings(PROJECT)


@pytest.fixture
def server(embedded: Stack) -> tuple[str, str]:
    """The server's URL and an API key for it."""
    offered = json.loads(
        (Path(embedded.environment["ROTINA_DATA_DIR"]) / "services.json").read_text()
    )
    made = embedded.run("keys", "create", "doors")
    assert made.returncode == 0, made.stderr
    return offered["server_url"], made.stdout.strip()


def by_shell(embedded: Stack, key: str) -> None:
    done = embedded.run("run", WORKFLOW, "--input", json.dumps(INPUT), "--key", key)
    assert done.returncode == 0, done.stdout + done.stderr


def by_program(settings: Settings, key: str) -> None:
    async def start() -> None:
        async with Rotina(settings=settings) as rotina:
            run = await rotina.start(WORKFLOW, INPUT, key=key)
            kinds = [event.kind async for event in rotina.stream(run.id)]
            assert kinds[0] == "accepted"
            assert kinds[-1] == "succeeded"

    asyncio.run(start())


def by_sync_program(settings: Settings, key: str) -> None:
    with Rotina.sync(settings=settings) as rotina:
        rotina.result(rotina.start(WORKFLOW, INPUT, key=key).id, timeout=120)


def by_http(server: tuple[str, str], key: str) -> None:
    with Rotina.sync(server[0], api_key=server[1]) as rotina:
        rotina.result(rotina.start(WORKFLOW, INPUT, key=key).id, timeout=120)


def by_curl(server: tuple[str, str], key: str) -> None:
    headers = [f"Authorization: Bearer {server[1]}", f"Idempotency-Key: {key}"]
    body = json.dumps({"workflow": WORKFLOW, "input": INPUT})
    arguments = [part for header in headers for part in ("-H", header)]
    subprocess.run(
        ["curl", "-sSf", *arguments, "-H", "Content-Type: application/json", "-d", body,
         f"{server[0]}/v1/runs"],
        check=True, capture_output=True,
    )  # fmt: skip


def by_celery(settings: Settings, key: str) -> None:
    app = Celery("somebody", broker=settings.require_redis_url(), set_as_current=False)
    with app, app.connection_for_write() as connection:
        app.send_task(
            "rotina.start",
            kwargs={"workflow": WORKFLOW, "input": INPUT, "key": key},
            queue="io",
            connection=connection,
        )


def by_stream(settings: Settings, key: str) -> None:
    with redis.Redis.from_url(settings.require_redis_url()) as client:
        client.xadd("rotina:start", {"workflow": WORKFLOW, "input": json.dumps(INPUT), "key": key})


def by_schedule(embedded: Stack, settings: Settings, name: str) -> None:
    added = embedded.run(
        *("schedule", "add", name, WORKFLOW, "--cron", "0 8 * * *"),
        *("--input", json.dumps(INPUT)),
    )
    assert added.returncode == 0, added.stderr
    with psycopg.connect(settings.require_database_url()) as connection:
        connection.execute(
            "update rotina.schedule set next_fire_at = now() where name = %s", (name,)
        )


def test_every_door_leads_to_the_same_result(
    embedded: Stack, settings: Settings, server: tuple[str, str]
) -> None:
    by_shell(embedded, "shell")
    by_program(settings, "program")
    by_sync_program(settings, "sync")
    by_http(server, "http")
    by_curl(server, "curl")
    by_celery(settings, "celery")
    by_stream(settings, "stream")
    by_schedule(embedded, settings, "doors")
    keys = ("shell", "program", "sync", "http", "curl", "celery", "stream")
    wanted = "idempotency_key = any(%s) or idempotency_key like 'schedule:doors:%%'"
    rows = ended(settings, wanted, len(keys) + 1, (list(keys),))
    shown = [_plain(row["result"]) for row in rows]
    assert shown[0]["outcome"] == "person"
    assert shown[0]["language"] == "pt"
    assert shown.count(shown[0]) == len(keys) + 1
    with psycopg.connect(settings.require_database_url()) as connection:
        tickets = connection.execute(
            "select count(*), count(distinct run_id) from ticket where run_id = any(%s)",
            ([row["id"] for row in rows],),
        ).fetchone()
    assert tickets == (len(rows), len(rows))


def test_one_key_is_one_run_whatever_the_door(
    embedded: Stack, settings: Settings, server: tuple[str, str]
) -> None:
    doors: list[Callable[[], None]] = [
        lambda: by_stream(settings, KEY),
        lambda: by_celery(settings, KEY),
        lambda: by_http(server, KEY),
        lambda: by_shell(embedded, KEY),
        lambda: by_program(settings, KEY),
        lambda: by_sync_program(settings, KEY),
        lambda: by_curl(server, KEY),
    ]
    for door in doors:
        door()
    rows = ended(settings, "idempotency_key = %s", 1, (KEY,))
    time.sleep(1.0)  # for a second run that must not come
    assert len(ended(settings, "idempotency_key = %s", 1, (KEY,))) == 1
    assert rows[0]["attempts"] == 1


def ended(
    settings: Settings, where: str, count: int, values: tuple[Any, ...]
) -> list[dict[str, Any]]:
    """The runs once `count` of them have ended."""
    deadline = time.monotonic() + 240
    query = f"select id, state, result, attempts from rotina.run where {where}"
    while True:
        with psycopg.connect(
            settings.require_database_url(), row_factory=psycopg.rows.dict_row
        ) as connection:
            rows = connection.execute(query.encode(), values).fetchall()
        done = [row for row in rows if row["state"] in {"succeeded", "failed"}]
        if len(done) >= count:
            assert all(row["state"] == "succeeded" for row in done), rows
            return done
        assert time.monotonic() < deadline, rows
        time.sleep(0.2)


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    """The result without the ticket's number, which is each run's own."""
    return {name: value for name, value in result.items() if name != "ticket"}
