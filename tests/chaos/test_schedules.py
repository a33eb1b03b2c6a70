"""Two beats and three workers fire the same schedules, while workers die: one run a time."""

from datetime import timedelta
from itertools import pairwise

import psycopg
import pytest

from tests.acceptance.ledger import rows
from tests.chaos.scene import Scene

SCHEDULES = ("a", "b", "c")
WORKERS = ("worker-a", "worker-b", "worker-c")
KILLS = 4
MINUTES = 20
"""How much further back each round begins; `catch_up: all` makes up for 100 times."""
REWIND = """
update rotina.schedule set next_fire_at = date_trunc('minute', now()) - interval '{minutes} minutes'
"""
FIRED = """
select schedule_id, fire_time, run_id, schedule_fire.error, idempotency_key
from rotina.schedule_fire left join rotina.run on run.id = run_id
order by schedule_id, fire_time
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_run_for_each_time(scene: Scene) -> None:
    """The schedules are set back further and further, and each time a worker dies in the firing."""
    scene.change(ROTINA_MAX_ATTEMPTS="100")
    for name in SCHEDULES:
        daily = ("daily_digest", "--cron", "* * * * *", "--catch-up", "all")
        assert scene.stack.run("schedule", "add", name, *daily).returncode == 0
    _start(scene)
    for kill in range(KILLS):
        _kill_while_firing(scene, MINUTES * (kill + 1))
    _set_back(scene, MINUTES * KILLS)
    scene.stack.wait_for("all times to be fired", lambda: _nothing_is_due(scene), 120)
    for name in SCHEDULES:  # what is fired from now on is not counted
        assert scene.stack.run("schedule", "pause", name).returncode == 0
    scene.stack.wait_for("all runs to end", lambda: _all_ended(scene), 240)
    _check(scene)


def _start(scene: Scene) -> None:
    """A second beat needs a scratch pad of its own."""
    scene.stack.rotina("beat-a", "beat")
    before = scene.stack.environment
    scene.change(ROTINA_DATA_DIR=str(scene.folder / "beat-b"))
    scene.stack.rotina("beat-b", "beat")
    scene.stack.environment = before
    scene.start_workers(*WORKERS)


def _kill_while_firing(scene: Scene, minutes: int) -> None:
    """Runs are accepted one by one, and committed before their schedule moves on."""
    before = _accepted(scene)
    _set_back(scene, minutes)
    scene.stack.wait_for("the first run", lambda: _accepted(scene) > before)
    victim = scene.moments.choice(WORKERS)
    scene.stack.kill(victim)
    scene.stack.worker(victim)


def _set_back(scene: Scene, minutes: int) -> None:
    with psycopg.connect(scene.url) as connection:
        connection.execute(REWIND.format(minutes=minutes).encode())


def _accepted(scene: Scene) -> int:
    return len(rows(scene.url, "select id from rotina.run"))


def _nothing_is_due(scene: Scene) -> bool:
    return not rows(scene.url, "select id from rotina.schedule where next_fire_at <= now()")


def _all_ended(scene: Scene) -> bool:
    return not rows(scene.url, "select id from rotina.run where finished_at is null")


def _check(scene: Scene) -> None:
    """Each minute of the time that was fired is there, has one run, and that one ended once."""
    fired = rows(scene.url, FIRED)
    assert [row for row in fired if row["error"]] == []
    for schedule in {row["schedule_id"] for row in fired}:
        times = [row["fire_time"] for row in fired if row["schedule_id"] == schedule]
        assert len(times) > MINUTES * KILLS
        gaps = {later - time for time, later in pairwise(times)}
        assert gaps == {timedelta(minutes=1)}
    runs = rows(scene.url, "select id, state from rotina.run order by id")
    assert {row["state"] for row in runs} == {"succeeded"}
    assert len({row["idempotency_key"] for row in fired}) == len(runs)
    ids = [row["id"] for row in runs]
    assert sorted(row["run_id"] for row in fired) == ids
    ends = "select run_id from rotina.run_event where kind in ('succeeded', 'failed', 'cancelled')"
    assert sorted(row["run_id"] for row in rows(scene.url, ends)) == ids
    print(f"seed {scene.seed}: {len(runs)} runs, {KILLS} kills, 0 lost, 0 doubled")
