"""`rotina schedule` and `rotina rejected`."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rotina.cli import cli
from rotina.database import open_pool
from rotina.errors import RotinaError, ScheduleError
from rotina.triggers import RejectedStore

PACKAGE = """
from langgraph.graph import StateGraph
from pydantic import BaseModel

from rotina.runs import Workflow


class Note(BaseModel):
    text: str


SHOUT = Workflow(name="shout", input=Note, output=Note, build=lambda: StateGraph(dict))
"""
INPUT = ("--input", '{"text": "atenção"}')
ADD = ("schedule", "add", "lembrete", "shout", "--cron", "0 8 * * 1-5", *INPUT)


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    package = tmp_path / "shouting_workflows"
    package.mkdir()
    (package / "__init__.py").write_text(PACKAGE)
    (tmp_path / "rotina.toml").write_text('workflows = ["shouting_workflows"]')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")


def call(*arguments: str) -> Result:
    done = CliRunner().invoke(cli, arguments)
    if isinstance(done.exception, RotinaError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def test_a_schedule_from_add_to_remove() -> None:
    for _ in range(2):
        added = call(*ADD, "--zone", "America/Sao_Paulo")
        assert added.output.startswith("lembrete starts shout next at 20")
        assert added.output.endswith("08:00-03:00\n")
    with pytest.raises(ScheduleError, match="'lembrete' with another time_zone: remove it first"):
        call(*ADD, "--zone", "Europe/Lisbon")
    assert "[0 8 * * 1-5] America/Sao_Paulo  20" in call("schedule", "list").output
    assert call("schedule", "fires").output == "nothing was fired yet\n"
    assert call("schedule", "pause", "lembrete").output == "paused lembrete\n"
    assert call("schedule", "list").output.endswith("paused\n")
    assert "next at 20" in call("schedule", "resume", "lembrete").output
    assert json.loads(call("schedule", "list", "--json").output)["enabled"] is True
    assert call("schedule", "remove", "lembrete").output == "removed lembrete\n"
    with pytest.raises(ScheduleError, match="no schedule 'lembrete'; `rotina schedule list`"):
        call("schedule", "remove", "lembrete")
    assert call("schedule", "list").output.startswith("no schedules yet: `rotina schedule add")


def test_a_schedule_that_could_not_start() -> None:
    with pytest.raises(ScheduleError, match=r"could not start: No workflow .gone.\. Regis"):
        call("schedule", "add", "x", "gone", "--cron", "0 8 * * *")
    with pytest.raises(RotinaError, match="--input is not JSON"):
        call(*ADD[:-1], "{")


def test_refused_messages(database_url: str) -> None:
    assert call("rejected").output == "no message was refused\n"

    async def refuse() -> None:
        async with open_pool(database_url, size=2) as pool:
            payload = {"workflow": "gone", "input": "ção" * 100}
            await RejectedStore(pool, tenant="default").add(
                source="celery", reference="task-1", payload=payload, reason="No workflow 'gone'"
            )

    asyncio.run(refuse())
    shown = call("rejected").output
    assert "celery  task-1\n  No workflow 'gone'\n" in shown
    assert shown.endswith("…\n")
    whole = json.loads(call("rejected", "--json").output)
    assert json.loads(whole["payload"])["input"] == "ção" * 100
