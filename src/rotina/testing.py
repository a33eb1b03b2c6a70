"""Tests made of runs: a run's record as a file, and its replay as an assertion.

A replay reaches neither a model nor a database: its gateway and its pool are never opened.
"""

import asyncio
import functools
from pathlib import Path

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg_pool import AsyncConnectionPool
from pydantic import ValidationError

from rotina.errors import InvalidInputError
from rotina.gateway import Gateway
from rotina.graphs.context import make_context
from rotina.knowledge.loading import Limits
from rotina.runs import Record, Registry, Replay, replay
from rotina.settings import Settings, load_settings

CASE = '''"""Run {id} of {workflow!r}, as it was recorded: what its graph asks and answers today."""

from pathlib import Path

from rotina.testing import assert_replays


def test_{name}() -> None:
    assert_replays(Path(__file__).with_suffix(".json"))
'''


async def replay_record(record: Record, settings: Settings) -> Replay:
    """Drive the run's graph again with the project's code of today.

    Raises `UnknownWorkflowError` when the project has no such workflow.
    """
    registry = Registry.load(settings.workflows, settings.project_dir)
    closed: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(open=False)
    context = functools.partial(
        make_context,
        closed,
        Gateway(settings.model_copy(update={"budgets": {}})),  # it asks nobody
        Limits.from_settings(settings),
    )
    return await replay(registry[record.run.workflow], record, context)


def assert_replays(path: Path) -> None:
    """Fail with the first divergence of the record at `path`, by the settings of its project.

    Raises `InvalidInputError` for a file that holds no record.
    """
    try:
        record = Record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InvalidInputError(
            f"{path} holds no record of a run: make it anew with `rotina test record` ({error})"
        ) from None
    found = asyncio.run(replay_record(record, load_settings(path.parent)))
    if found.divergence is not None:
        raise AssertionError(f"{record.run.workflow}: {found.divergence}")


def write_case(record: Record, folder: Path) -> Path:
    """Write a pytest case and, next to it, the record it replays; returns the case's path."""
    name = f"{record.run.workflow}_{str(record.run.id)[-12:]}".replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    case = folder / f"test_{name}.py"
    text = record.model_dump_json(indent=1)
    case.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    source = CASE.format(id=record.run.id, workflow=record.run.workflow, name=name)
    case.write_text(source, encoding="utf-8")
    return case
