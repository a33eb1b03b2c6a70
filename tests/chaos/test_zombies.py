"""A worker that stands still until its lease has run out, and then goes on as if nothing was."""

import pytest

from tests.chaos.faults import freeze_worker
from tests.chaos.scene import Scene


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_worker_that_comes_back(scene: Scene) -> None:
    """At the end it is the only one: what is accepted then shows that it works on."""
    scene.work("worker-a", "worker-b", concurrency=4, delay=1.0)
    scene.accept(50, pause=0.5)
    freeze_worker(scene, "worker-a", 3)
    scene.stack.wait_for("all to be accepted", scene.all_accepted)
    scene.stack.terminate("worker-b")
    scene.accept(10, pause=0.1)
    scene.finish(faults=3)
