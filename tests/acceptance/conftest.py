"""Fixtures of acceptance tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.ledger import rows
from tests.acceptance.stack import Stack, stack
from tests.conftest import forget_settings

FIRST_START = 400.0
"""Seconds, downloads included."""


@pytest.fixture
def processes(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Stack]:
    """Nothing runs yet: the test starts what it needs."""
    with stack(database_url, redis_url, tmp_path) as running:
        yield running


@pytest.fixture
def replayed(processes: Stack, database_url: str) -> Iterator[None]:
    """Afterwards every kind of run that has succeeded is replayed, with no model to ask."""
    yield
    newest = (
        "select distinct on (workflow) id, tenant from rotina.run "
        "where state = 'succeeded' and workflow <> 'knowledge_ingest' order by workflow, id desc"
    )
    for row in rows(database_url, newest):
        processes.environment = {**processes.environment, "ROTINA_TENANT": row["tenant"]}
        done = processes.run("replay", str(row["id"]))
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def scripted(processes: Stack) -> Stack:
    """A stack whose model reads the scripted invoices, a third of a second each."""
    url = processes.model("tests.acceptance.scripts:invoice", delay=0.3)
    processes.environment = {
        **processes.environment,
        "OPENAI_BASE_URL": url,
        "ROTINA_MODEL": "scripted",
    }
    return processes


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`rotina up` with nothing brought: real servers and models, workers, beat and server.

    The chat model is the smallest that can do it: what it says may be wrong, what is proven is not.
    """
    folder = tmp_path_factory.mktemp("embedded")
    environment = {
        "ROTINA_DATA_DIR": str(folder / "data"),
        "ROTINA_EMBEDDED_MODEL": "qwen2.5-0.5b",
    }
    running = Stack(environment, folder)
    with pytest.MonkeyPatch.context() as patch:
        forget_settings(patch)
        started = running.run("up", "--detach", timeout=FIRST_START)
    assert started.returncode == 0, started.stdout + started.stderr
    yield running
    assert running.run("down").returncode == 0
