"""A PostgreSQL that stops at once, or lets nobody in: no is an answer, a false yes is not."""

import pytest

from tests.chaos.faults import restart_database, starve_database
from tests.chaos.scene import Scene
from tests.chaos.servers import Server

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
