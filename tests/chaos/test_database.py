"""A PostgreSQL that stops at once, or lets nobody in: no is an answer, a false yes is not."""

import asyncio
from pathlib import Path

import pytest

from rotina.database import migrate
from tests.chaos.faults import (
    fail_transactions,
    failed_transactions,
    fill_disk,
    restart_database,
    starve_database,
)
from tests.chaos.scene import Scene
from tests.chaos.servers import Server, own_postgres
from tests.conftest import PROJECT

RUNS = 60
WORKERS = ("worker-a", "worker-b")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_restarts_at_once(scene: Scene, database: Server) -> None:
    scene.work(*WORKERS, concurrency=4, delay=1.0)
    scene.accept(RUNS, pause=0.4)
    restart_database(scene, database, "worker-a", 5)
    scene.finish(faults=5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_lets_nobody_in(scene: Scene, database: Server) -> None:
    scene.work(*WORKERS, concurrency=4, delay=1.0)
    scene.accept(RUNS, pause=0.4)
    starve_database(scene, database, 2)
    scene.finish(faults=2)
    assert scene.refused(), "nobody was told no: the test shows nothing"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_disk_is_full(scene: Scene, tmp_path: Path) -> None:
    with own_postgres(tmp_path / "postgres", small=True) as database:
        asyncio.run(migrate(database.url, [PROJECT / "workflows" / "migrations"]))
        scene.change(DATABASE_URL=database.url)
        scene.url = database.url
        scene.work(*WORKERS, concurrency=4, delay=1.0)
        scene.accept(RUNS, pause=2.0)
        fill_disk(scene, database, 1)
        scene.finish(faults=1)
        scene.stack.stop()
    assert scene.refused(), "nobody was told no: the test shows nothing"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_transactions_fail_now_and_then(scene: Scene, database: Server) -> None:
    fail_transactions(scene, share=0.06)
    scene.work(*WORKERS, concurrency=10, delay=0.5)
    scene.accept(RUNS, pause=0.1)
    scene.finish(lambda: failed_transactions(scene))
    assert failed_transactions(scene) > RUNS / 4, "too few failed: the test shows nothing"


def test_some_transactions_fail(scene: Scene, database: Server) -> None:
    fail_transactions(scene, share=0.03)
    scene.work("worker-a", concurrency=10, delay=0.2)
    scene.accept(8, pause=0.05)
    scene.finish(lambda: failed_transactions(scene))
    assert failed_transactions(scene) > 0
