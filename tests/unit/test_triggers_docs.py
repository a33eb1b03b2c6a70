"""The page of the triggers names everything public, and its examples run."""

import re
from pathlib import Path

import rotina.triggers
from rotina.cli.rejected import rejected
from rotina.cli.schedule import schedule
from rotina.triggers import Cron

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "triggers.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_every_public_name_and_command_is_on_the_page() -> None:
    assert [name for name in rotina.triggers.__all__ if f"`{name}" not in TEXT] == []
    commands = [*schedule.commands.values(), rejected]
    assert [one.name for one in commands if f"{one.name}" not in TEXT] == []
    options = {
        option for one in commands for p in one.params for option in p.opts if "--" in option
    }
    assert [option for option in sorted(options) if option not in TEXT] == []


def test_the_examples_run() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), {"__name__": "example"})


def test_every_schedule_on_the_page_is_valid() -> None:
    named = re.findall(r"\| `([^`]+)` \| (\w+/\w+) \|", TEXT)
    assert len(named) == 4
    for expression, zone in named:
        Cron(expression, zone)
