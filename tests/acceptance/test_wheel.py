"""The wheel, as a stranger meets it: built, installed beside openai-agents, and used.

Takes ten seconds when the packages are in uv's cache, and longer when they are not.
"""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")
# It installs a top-level package `agents`.
NEIGHBOUR = "openai-agents==0.24.0"
GENERATED = re.compile(r"__pycache__|\.py[co]$|/\.")

pytestmark = pytest.mark.timeout(900)


def _run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """What the command prints, on both streams; it has to end with `status`.

    The environment is the caller's, with their package index, without this test run's Python.
    """
    ours = ("VIRTUAL_ENV", "PYTHON", "PYTEST_", "UV_PROJECT_ENVIRONMENT")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    _run(UV, "build", "--wheel", "--no-config", "--out-dir", out, ROOT, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel and its neighbour; the locked dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    locked = folder / "locked.txt"
    locked.write_text(
        _run(
            *(UV, "export", "--frozen", "--no-dev", "--no-hashes", "--no-emit-project"),
            *("--quiet", "--no-annotate", "--no-header"),
            cwd=ROOT,
        ),
        encoding="utf-8",
    )
    _run(UV, "venv", "--no-config", "--python", sys.executable, folder / "venv", cwd=folder)
    install = (UV, "pip", "install", "--no-config", "--python", folder / "venv" / "bin" / "python")
    _run(*install, "--requirement", locked, wheel, cwd=folder)
    # What is there stays, unless the neighbour cannot live with it.
    _run(*install, NEIGHBOUR, "pytest", "pytest-asyncio", cwd=folder)
    return folder / "venv" / "bin"


def test_the_wheel_holds_rotina_and_the_scaffold(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        license_line = archive.read(metadata).decode()

    tops = {name.partition("/")[0] for name in names}
    assert tops == {"rotina", metadata.partition("/")[0]}
    assert {name.split("/")[2] for name in names if name.startswith("rotina/_scaffold/")} == {
        "agents",
        "workflows",
        "workers",
    }
    assert [name for name in names if GENERATED.search(name)] == []
    assert "rotina/py.typed" in names
    assert "License-Expression: Apache-2.0" in license_line
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_holds_every_file_of_the_scaffold(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder in ("agents", "workflows", "workers"):
        originals = {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and not GENERATED.search(path.as_posix())
        }
        assert originals
        assert {f"rotina/_scaffold/{path}" for path in originals} <= names


def test_a_new_project_passes_its_own_tests(environment: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "shop") in _run(
        environment / "rotina", "new", "shop", "--package", "shop", cwd=tmp_path
    )
    printed = _run(environment / "python", "-m", "pytest", cwd=tmp_path / "shop")
    assert re.search(r"\b[1-9]\d* passed", printed), printed

    show = "import shop.agents, shop.workers; print(*shop.agents.__path__)"
    printed = _run(environment / "python", "-c", show, cwd=tmp_path / "shop")
    assert str(tmp_path / "shop" / "shop" / "agents") in printed


def test_agents_stays_the_neighbours(environment: Path, tmp_path: Path) -> None:
    show = "import agents; print(agents.__file__, agents.Runner.__module__)"
    printed = _run(environment / "python", "-c", show, cwd=tmp_path)
    assert re.search(r"site-packages/agents/__init__\.py agents\.", printed)


@pytest.mark.parametrize("package", ["agents", "pytest", "celery"])
def test_a_name_that_is_taken_is_refused(environment: Path, tmp_path: Path, package: str) -> None:
    printed = _run(environment / "rotina", "new", "x", "--package", package, cwd=tmp_path, status=1)
    assert re.fullmatch(f"ScaffoldError: '{package}' cannot be .*--package acme_shop.\n", printed)
    assert list(tmp_path.iterdir()) == []
