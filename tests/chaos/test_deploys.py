"""Workers are replaced under load, by newer code and because a run ruins them."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from rotina import Rotina
from tests.acceptance.ledger import rows
from tests.chaos.faults import DRIVEN
from tests.chaos.flows import STEPS
from tests.chaos.scene import Scene

WORKERS = ("worker-a", "worker-b")


def prepare(scene: Scene, monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    """The chaos workflows instead of the project's, here and in every process."""
    scene.change(ROTINA_WORKFLOWS='["tests.chaos.flows"]', **environment)
    for name, value in scene.stack.environment.items():
        monkeypatch.setenv(name, value)


def start(inputs: list[dict[str, Any]]) -> None:
    with Rotina.sync() as rotina:
        for value in inputs:
            rotina.start("stepping", value)


def ended(scene: Scene) -> list[dict[str, Any]]:
    return rows(
        scene.url,
        "select input, state, result, error, attempts, version from rotina.run "
        "where finished_at is not null",
    )


def replace_workers(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    runs: int,
    deploys: int,
    workers: Sequence[str] = WORKERS,
) -> None:
    """Each deploy ends a worker with SIGTERM in the middle of its runs; newer code comes."""
    prepare(scene, monkeypatch, ROTINA_IO_CONCURRENCY="20", CHAOS_VERSION="1")
    scene.stack.rotina("beat", "beat")
    scene.start_workers(*workers)
    start([{"number": number} for number in range(runs)])
    for deploy in range(deploys):
        victim = workers[deploy % len(workers)]
        driven = DRIVEN.format(pid=scene.stack.process(victim).pid)
        scene.stack.wait_for(f"{victim} to be busy", lambda: bool(rows(scene.url, driven)))  # noqa: B023
        scene.pause(0.1, 0.6)
        assert scene.stack.terminate(victim) == 0
        scene.change(CHAOS_VERSION=str(deploy + 2))
        scene.stack.worker(victim)
    scene.stack.wait_for("all to end", lambda: len(ended(scene)) == runs, 180)
    found = ended(scene)
    assert {row["state"] for row in found} == {"succeeded"}, [row["error"] for row in found]
    assert sorted(row["result"]["number"] for row in found) == list(range(runs))
    paths = [row["result"]["path"] for row in found]
    assert all(len(path) == STEPS and path == sorted(path) for path in paths), "newer code goes on"
    assert {row["attempts"] for row in found} == {1}, "a deploy is no attempt"
    assert any(len(set(path)) > 1 for path in paths), "some runs were under way"


def poison(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, good: int, bad: int, attempts: int = 5
) -> None:
    """Runs that kill their worker each time end failed; those next to them do not."""
    prepare(scene, monkeypatch, ROTINA_IO_CONCURRENCY="20", ROTINA_MAX_ATTEMPTS=str(attempts))
    scene.stack.rotina("beat", "beat")
    inputs: list[dict[str, Any]] = [{"number": number} for number in range(good)]
    inputs += [{"number": good + number, "poison": "kill"} for number in range(bad)]
    inputs += [{"number": good + bad, "poison": "hog"}]
    scene.moments.shuffle(inputs)
    start(inputs)
    scene.stack.worker("worker-a")
    kills = 0
    while len(ended(scene)) < len(inputs):
        process = scene.stack.process("worker-a")
        if process.poll() is not None:
            kills += 1
            scene.stack.kill("worker-a")
            scene.stack.worker("worker-a")
        scene.pause(0.1, 0.2)
    found = ended(scene)
    told = Counter((row["input"]["poison"], row["state"]) for row in found)
    assert told == {("", "succeeded"): good, ("kill", "failed"): bad, ("hog", "failed"): 1}
    errors = {row["input"]["poison"]: row["error"]["type"] for row in found if row["error"]}
    assert errors == {"kill": "WorkerLostError", "hog": "MemoryError"}, json.dumps(errors)
    assert all(row["attempts"] == attempts for row in found if row["input"]["poison"] == "kill")
    print(f"seed {scene.seed}: {good} good runs, {bad} that kill, {kills} workers lost")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sigterm_under_load_with_newer_code(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_workers(scene, monkeypatch, runs=400, deploys=6)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_poison_among_good_runs(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(scene, monkeypatch, good=60, bad=3)


def test_one_deploy(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_workers(scene, monkeypatch, runs=60, deploys=1, workers=WORKERS[:1])


def test_one_that_kills_its_worker(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(scene, monkeypatch, good=6, bad=1, attempts=2)
