"""Thousands of runs under a kill -9 every two seconds: a model, a receiver and a table each.

CHAOS_RUNS sets how many (2,000), CHAOS_SEED the moments and the victims.
"""

import os
import time
from collections import Counter

import psycopg
import pytest

from tests.acceptance.ledger import rows
from tests.chaos.scene import Scene
from tests.chaos.test_deploys import WORKERS, prepare

IN_FLIGHT = 50
"""Runs of one worker."""


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_kills_among_thousands(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    survive(scene, monkeypatch, int(os.environ.get("CHAOS_RUNS", "2000")), kill_every=2.0)


def test_a_kill_among_two_hundred(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    survive(scene, monkeypatch, 200, kill_every=1.0, most_kills=1)


def survive(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    runs: int,
    *,
    kill_every: float,
    most_kills: int | None = None,
) -> None:
    """All accepted runs end once, each paid and booked once, whoever is killed."""
    stack = scene.stack
    asked = scene.folder / "asked.jsonl"
    model = stack.model("tests.chaos.flows:model", delay=0.2, log=asked)
    stack.start("receiver", "-m", "tests.chaos.receiver")
    stack.wait_for("the receiver", lambda: "http://" in stack.log("receiver"))
    prepare(
        scene, monkeypatch, OPENAI_BASE_URL=model, ROTINA_MODEL="scripted",
        ROTINA_IO_CONCURRENCY=str(IN_FLIGHT), ROTINA_MAX_ATTEMPTS="100",
    )  # fmt: skip
    with psycopg.connect(scene.url) as connection:
        connection.execute("create table payment (number integer not null)")
    stack.rotina("beat", "beat")
    scene.start_workers(*WORKERS)
    receiver = stack.log("receiver").splitlines()[0]
    begun, killed, kills = time.monotonic(), time.monotonic(), 0
    stack.start("client", "-m", "tests.chaos.starting", str(runs), receiver)
    while (ended := _ended(scene.url)) < runs:
        scene.pause(0.1, 0.3)
        due = time.monotonic() - killed > kill_every and kills != most_kills
        if due and ended:
            victim = scene.moments.choice(WORKERS)
            stack.kill(victim)
            stack.rotina(victim, "worker", "io")
            killed, kills = time.monotonic(), kills + 1
    check(scene, runs)
    again = len(asked.read_text().splitlines()) - runs
    repeated = stack.log("receiver").count("again ")
    attempts = sum(row["attempts"] for row in rows(scene.url, "select attempts from rotina.run"))
    print(
        f"seed {scene.seed}: {runs} runs, {kills} kills, {time.monotonic() - begun:.0f} s, "
        f"{attempts} attempts, {again} model calls and {repeated} requests made again, "
        "0 lost, 0 doubled"
    )
    assert again <= kills * IN_FLIGHT, "only what was under way is asked again"


def check(scene: Scene, runs: int) -> None:
    """What the client was told, the ledger, the receiver and the table agree."""
    told = [line.split() for line in scene.stack.log("client").splitlines()]
    yes = {int(line[2]): line[1] for line in told if line[0] == "yes"}
    assert len(yes) == runs
    found = rows(scene.url, "select id, state, result, input, error from rotina.run")
    assert {row["input"]["number"]: str(row["id"]) for row in found} == yes
    assert len(found) == runs
    assert {row["state"] for row in found} == {"succeeded"}
    for row in found:
        number = row["input"]["number"]
        said = f"I heard payment {number}"
        assert row["result"] == {"number": number, "said": said, "paid": 200}
    ends = rows(scene.url, "select run_id from rotina.run_event where kind = 'succeeded'")
    assert max(Counter(row["run_id"] for row in ends).values()) == 1
    paid = [line.split() for line in scene.stack.log("receiver").splitlines()]
    assert sorted(int(line[2]) for line in paid if line[0] == "paid") == list(range(runs))
    booked = rows(scene.url, "select number from payment")
    assert sorted(row["number"] for row in booked) == list(range(runs))


def _ended(url: str) -> int:
    query = "select count(*) as n from rotina.run where finished_at is not null"
    return int(rows(url, query)[0]["n"])
