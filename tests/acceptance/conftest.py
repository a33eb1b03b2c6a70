"""Fixtures of acceptance tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.stack import Stack, stack


@pytest.fixture
def processes(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Stack]:
    """Nothing runs yet: the test starts what it needs."""
    with stack(database_url, redis_url, tmp_path) as running:
        yield running


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
