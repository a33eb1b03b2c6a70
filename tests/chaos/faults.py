"""What goes wrong, as often as asked: shared by the long tests and their short slices."""

import contextlib
import os
import signal
import time
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis

from tests.acceptance.ledger import rows
from tests.chaos.scene import Scene
from tests.chaos.servers import Server

DRIVEN = """
    select run.id from rotina.run join rotina.worker on worker.id = run.worker_id
    where run.state = 'running' and worker.name like '%:{pid}'
"""


def flush_broker(scene: Scene, broker: Server, times: int) -> None:
    """The broker forgets everything while runs wait in it."""
    for _ in range(times):
        scene.pause(0.2, 1.5)
        _wait_for_queue(scene, broker)
        with redis.Redis.from_url(broker.url) as client:
            client.flushall()


def crash_broker(scene: Scene, broker: Server, times: int, *, busy: bool = False) -> None:
    """The broker is killed; runs are accepted without it; it comes back.

    `busy`: workers have all hands full then, and hold hints that they have not begun with.
    """
    for _ in range(times):
        scene.pause(0.2, 1.5)
        if busy:
            _wait_for_queue(scene, broker)
        broker.crash(signal.SIGKILL)
        _wait_for_lost_hint(scene)
        scene.pause(0.0, 1.0)
        broker.start()


def fill_broker(scene: Scene, broker: Server, times: int, *, busy: bool = False) -> None:
    """The broker has no memory for one more message; runs are accepted; it has again.

    `busy`: hints wait in it then, and a worker that takes one cannot note there that it has it.
    """
    for _ in range(times):
        scene.pause(0.2, 1.5)
        if busy:
            _wait_for_queue(scene, broker)
        with redis.Redis.from_url(broker.url) as client:
            client.config_set("maxmemory", "1")
            _wait_for_lost_hint(scene)
            scene.pause(0.0, 3.0)
            client.config_set("maxmemory", "0")


def _wait_for_queue(scene: Scene, broker: Server) -> None:
    with redis.Redis.from_url(broker.url) as client:
        scene.stack.wait_for("hints in the queue", lambda: client.llen("io") != 0)


def _wait_for_lost_hint(scene: Scene) -> None:
    """Until a run was accepted that no queue was told of."""
    text = "was not told"
    seen = scene.told().count(text)
    scene.stack.wait_for("a run without a hint", lambda: scene.told().count(text) > seen)


def restart_database(scene: Scene, database: Server, worker: str, times: int) -> None:
    """PostgreSQL stops at once, as in a crash, while runs are driven; it recovers from its log."""
    for _ in range(times):
        scene.pause(0.5, 2.0)
        _wait_for_driven(scene)
        database.crash(signal.SIGQUIT)
        _wait_for_log(scene, worker, "not renewed")
        scene.pause(0.0, 3.0)
        database.start()


def starve_database(scene: Scene, database: Server, times: int) -> None:
    """Everybody loses the connection; nobody gets a new one, then two do, then all."""
    parts = urlsplit(database.url)
    elsewhere = urlunsplit(parts._replace(path="/postgres"))
    with psycopg.connect(elsewhere, autocommit=True) as connection:
        for _ in range(times):
            scene.pause(0.5, 2.0)
            _wait_for_driven(scene)
            refused = len(scene.refused())
            connection.execute("alter database rotina connection limit 0")
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'rotina'"
            )
            _wait_for_refusal(scene, refused)
            connection.execute("alter database rotina connection limit 2")
            scene.pause(1.0, 5.0)
            connection.execute("alter database rotina connection limit -1")


def fill_disk(scene: Scene, database: Server, times: int) -> None:
    """PostgreSQL has no room for one more row, nor for its log; then it has again."""
    assert database.files is not None
    filler = database.files / "filler"
    for _ in range(times):
        scene.pause(0.5, 2.0)
        _wait_for_driven(scene)
        refused = len(scene.refused())
        with filler.open("wb") as file, contextlib.suppress(OSError):
            while file.write(b"0" * 65536):
                file.flush()
        # What room it has in files of its own is used up by rows of no use.
        deadline = time.monotonic() + 60
        while len(scene.refused()) == refused and time.monotonic() < deadline:
            with contextlib.suppress(psycopg.Error):
                _write_junk(scene.url)
        _wait_for_refusal(scene, refused)
        filler.unlink()
        if database.process.poll() is not None:
            database.start()


def _write_junk(url: str) -> None:
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        connection.execute("create table if not exists junk (text text)")
        for _ in range(100):
            connection.execute(
                "insert into junk select repeat(md5(n::text), 60) from generate_series(1, 500) n"
            )


def fail_transactions(scene: Scene, share: float) -> None:
    """Make a share of the statements that write runs fail, as under strict isolation."""
    with psycopg.connect(scene.url) as connection:
        connection.execute("create sequence public.tripped")
        connection.execute("select nextval('public.tripped')")
        connection.execute("grant usage on sequence public.tripped to public")
        connection.execute(
            f"""
            create function trip() returns trigger language plpgsql as $$
            begin
                if random() < {share} then
                    perform nextval('public.tripped');  -- which no rollback takes back
                    raise exception 'tripped' using errcode = 'serialization_failure';
                end if;
                return new;
            end $$
            """.encode()
        )
        for table in ("run", "run_event", "checkpoint", "recorded", "effect"):
            connection.execute(
                f"create trigger trip before insert or update on rotina.{table} "
                "for each row execute function trip()".encode()
            )


def failed_transactions(scene: Scene) -> int:
    """How many have failed so far."""
    (found,) = rows(scene.url, "select last_value - 1 as n from public.tripped")
    return int(found["n"])


def _wait_for_refusal(scene: Scene, before: int) -> None:
    scene.stack.wait_for("an answer of no", lambda: len(scene.refused()) > before)


def _wait_for_driven(scene: Scene) -> None:
    running = "select id from rotina.run where state = 'running'"
    scene.stack.wait_for("a run that is driven", lambda: bool(rows(scene.url, running)))


def _wait_for_log(scene: Scene, name: str, text: str, seen: int | None = None) -> None:
    """Until a process has written `text` once more than `seen` times, or than so far."""
    before = scene.stack.log(name).count(text) if seen is None else seen
    scene.stack.wait_for(
        f"{name} to write {text!r}", lambda: scene.stack.log(name).count(text) > before
    )


def freeze_worker(scene: Scene, name: str, times: int) -> None:
    """A worker stands still until others have ended its runs, and wakes up in the middle."""
    text, taken = "was taken over", 0
    for _ in range(times):
        scene.pause(0.2, 1.5)
        runs = _freeze_driving(scene, name)
        _wait_for_end(scene, runs)
        seen = scene.stack.log(name).count(text)
        _signal(scene, name, signal.SIGCONT)
        _wait_for_log(scene, name, text, seen)
        taken += len(runs)
    lost = rows(scene.url, "select run_id from rotina.run_event where kind = 'worker_lost'")
    assert len(lost) >= taken > 0


def _freeze_driving(scene: Scene, name: str) -> list[str]:
    """Stop a worker in the middle of runs; returns them."""
    query = DRIVEN.format(pid=scene.stack.process(name).pid)
    while True:
        scene.stack.wait_for(f"{name} to drive a run", lambda: bool(rows(scene.url, query)))
        _signal(scene, name, signal.SIGSTOP)
        time.sleep(0.2)  # what PostgreSQL was told before is committed by then
        runs = [str(row["id"]) for row in rows(scene.url, query)]
        if runs:
            return runs
        _signal(scene, name, signal.SIGCONT)


def _wait_for_end(scene: Scene, runs: list[str]) -> None:
    ids = ", ".join(f"'{run}'" for run in runs)
    ended = f"select id from rotina.run where id in ({ids}) and finished_at is not null"
    scene.stack.wait_for(
        "others to end its runs", lambda: len(rows(scene.url, ended)) == len(runs), 180
    )


def _signal(scene: Scene, name: str, number: signal.Signals) -> None:
    os.killpg(scene.stack.process(name).pid, number)
