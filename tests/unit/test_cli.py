"""The `rotina` command: what it lists, and how an error ends it."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from rotina.cli import COMMANDS, cli, main


def test_help_lists_every_command() -> None:
    printed = CliRunner().invoke(cli, ["--help"])
    assert printed.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in printed.output


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    printed = CliRunner().invoke(cli, [name, "--help"])
    assert printed.exit_code == 0, printed.output
    assert printed.output.startswith(f"Usage: cli {name} ")


def test_the_version_is_the_distributions() -> None:
    printed = CliRunner().invoke(cli, ["--version"])
    assert metadata.version("rotina") in printed.output


def test_an_unknown_command_is_named() -> None:
    printed = CliRunner().invoke(cli, ["wroker"])
    assert printed.exit_code == 2
    assert "No such command 'wroker'" in printed.output


def test_an_error_is_one_line_and_status_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "kept").touch()
    with pytest.raises(SystemExit) as ended:
        main(["new", "shop", "--package", "acme_shop", "--dir", str(tmp_path)])
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert printed.out == ""
    assert printed.err.startswith("ScaffoldError: ")
    assert printed.err.count("\n") == 1


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rotina", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert metadata.version("rotina") in done.stdout
