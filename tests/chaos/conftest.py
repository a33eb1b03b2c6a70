"""The fixtures of the chaos tests."""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rotina.database import migrate
from tests.acceptance.conftest import processes, scripted
from tests.acceptance.stack import Stack
from tests.chaos.scene import Scene
from tests.chaos.servers import Server, own_postgres, own_valkey
from tests.conftest import PROJECT

__all__ = ["processes", "scripted"]

SLICE_SEED = 7


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """CHAOS_SEED; without it another one each time, but always the same one for a short slice."""
    slow = request.node.get_closest_marker("slow") is not None
    default = time.time_ns() % 10_000 if slow else SLICE_SEED
    return int(os.environ.get("CHAOS_SEED", str(default)))


@pytest.fixture
def scene(processes: Stack, database_url: str, tmp_path: Path, seed: int) -> Scene:
    """Nothing works yet, on the session's servers."""
    return Scene(processes, database_url, tmp_path, seed, random.Random(seed))


@pytest.fixture
def broker(scene: Scene, tmp_path: Path) -> Iterator[Server]:
    """The scene's own Valkey."""
    with own_valkey(tmp_path / "valkey") as server:
        scene.change(REDIS_URL=server.url)
        yield server
        scene.stack.stop()


@pytest.fixture
def database(scene: Scene, tmp_path: Path) -> Iterator[Server]:
    """The scene's own PostgreSQL, migrated."""
    with own_postgres(tmp_path / "postgres") as server:
        asyncio.run(migrate(server.url, [PROJECT / "workflows" / "migrations"]))
        scene.change(DATABASE_URL=server.url)
        scene.url = server.url
        yield server
        scene.stack.stop()
