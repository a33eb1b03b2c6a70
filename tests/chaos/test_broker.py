"""A broker that forgets everything, dies, or has no memory left, while runs are accepted."""

import pytest

from tests.chaos.faults import crash_broker, fill_broker, flush_broker
from tests.chaos.scene import Scene
from tests.chaos.servers import Server

RUNS = 60
WORKERS = ("worker-a", "worker-b")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_forgets_everything(scene: Scene, broker: Server) -> None:
    scene.work(*WORKERS, concurrency=2, delay=1.5)
    scene.accept(RUNS, pause=0.2)
    flush_broker(scene, broker, 4)
    scene.finish(faults=4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_is_killed_and_comes_back(scene: Scene, broker: Server) -> None:
    scene.work(*WORKERS, concurrency=20, delay=1.0)
    scene.accept(RUNS, pause=0.4)
    crash_broker(scene, broker, 4)
    scene.finish(faults=4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_is_killed_while_workers_hold_hints(scene: Scene, broker: Server) -> None:
    scene.work(*WORKERS, concurrency=2, delay=2.0)
    scene.accept(RUNS, pause=0.3)
    crash_broker(scene, broker, 4, busy=True)
    scene.finish(faults=4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_has_no_memory_left(scene: Scene, broker: Server) -> None:
    scene.work(*WORKERS, concurrency=20, delay=1.0)
    scene.accept(RUNS, pause=0.4)
    fill_broker(scene, broker, 4)
    scene.finish(faults=4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_has_no_memory_left_and_hints_wait(scene: Scene, broker: Server) -> None:
    scene.work(*WORKERS, concurrency=2, delay=2.0)
    scene.accept(RUNS, pause=0.3)
    fill_broker(scene, broker, 4, busy=True)
    scene.finish(faults=4)
