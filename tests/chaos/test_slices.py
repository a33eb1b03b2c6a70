"""One fault of each kind among twelve runs: what the slow tests do at length."""

from tests.chaos.faults import flush_broker, freeze_worker, restart_database
from tests.chaos.scene import Scene
from tests.chaos.servers import Server

RUNS = 12


def test_the_broker_forgets_everything(scene: Scene, broker: Server) -> None:
    scene.work("worker-a", concurrency=2, delay=0.3)
    scene.accept(RUNS, pause=0.05)
    flush_broker(scene, broker, 1)
    scene.stack.wait_for("all to be accepted", scene.all_accepted)
    scene.finish(faults=1)


def test_the_database_restarts_at_once(scene: Scene, database: Server) -> None:
    scene.work("worker-a", concurrency=4, delay=0.3)
    scene.accept(RUNS, pause=0.1)
    restart_database(scene, database, "worker-a", 1)
    scene.stack.wait_for("all to be accepted", scene.all_accepted)
    scene.finish(faults=1)


def test_a_worker_stands_still(scene: Scene) -> None:
    scene.work("worker-a", "worker-b", concurrency=3, delay=0.6)
    scene.accept(RUNS - 2, pause=0.1)
    freeze_worker(scene, "worker-a", 1)
    scene.stack.terminate("worker-b")
    scene.accept(2, pause=0.05)
    scene.finish(faults=1)
