"""`rotina new`: the names it refuses, what it writes, and that references move as a whole."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from rotina.cli import cli, main
from rotina.errors import RotinaError
from rotina.scaffold import ScaffoldError, create_project
from rotina.scaffold.names import check_package, check_project, package_for
from rotina.scaffold.project import FOLDERS, source
from rotina.scaffold.rewrite import Rewriter

CHILDREN = {
    "agents": frozenset({"__init__.py", "invoices"}),
    "workflows": frozenset({"invoice_intake.py", "migrations"}),
    "workers": frozenset({"app.py"}),
}
REWRITER = Rewriter("shop", CHILDREN)

GENERATED = {".mypy_cache", ".pytest_cache", "__pycache__"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from agents import invoices", "from shop.agents import invoices"),
        ("from agents.invoices import x", "from shop.agents.invoices import x"),
        (
            "from  agents.invoices import (\n    x,\n)",
            "from  shop.agents.invoices import (\n    x,\n)",
        ),
        ("from \\\n  agents import x", "from \\\n  shop.agents import x"),
        ("import agents", "from shop import agents"),
        ("import agents.invoices as i", "import shop.agents.invoices as i"),
        ("import agents as a", "import shop.agents as a"),
        ("import agents.invoices", "import shop.agents.invoices\nfrom shop import agents"),
        ("import os, agents", "import os\nfrom shop import agents"),
        (
            "def f():\n    import workers.app\n    workers",
            "def f():\n    import shop.workers.app\n    from shop import workers\n    workers",
        ),
        (
            "if True: import workers.app",
            "if True: import shop.workers.app; from shop import workers",
        ),
        (
            's = "ação"; import agents; import os',
            's = "ação"; from shop import agents; import os',
        ),
        ('app = "workers.app"', 'app = "shop.workers.app"'),
        ('app = "workers.app:app"', 'app = "shop.workers.app:app"'),
        ("patch('agents.invoices.total')", "patch('shop.agents.invoices.total')"),
        ('p = "workflows/migrations"', 'p = "shop/workflows/migrations"'),
        ('p = f"workflows/migrations/{n}"', 'p = f"shop/workflows/migrations/{n}"'),
        ('p = f"{{}} workers.app {n}"', 'p = f"{{}} shop.workers.app {n}"'),
        ("x = 1  # see agents.invoices", "x = 1  # see shop.agents.invoices"),
        ('"""Used by workers.app."""', '"""Used by shop.workers.app."""'),
    ],
)
def test_a_reference_moves_below_the_package(before: str, after: str) -> None:
    assert REWRITER.python(before) == after
    ast.parse(after)


@pytest.mark.parametrize(
    "code",
    [
        "from .invoices import x",
        "from . import agents",
        "from openai.agents import x",
        "import agentsmith",
        "from agents_of import x",
        "agents = [1]\nfor agent in agents: print(agents.index(agent))",
        "state.agents.invoices",
        'x = "agents"',
        'x = "my.agents.invoices"',
        'x = "agents.other"',
        'x = "https://example.com/agents/invoices"',
        'x = "../agents/invoices"',
        'x = "agents.invoices_old"',
        'x = "workers.application"',
    ],
)
def test_what_only_looks_like_a_reference_stays(code: str) -> None:
    assert REWRITER.python(code) == code


def test_settings_and_prose_move_too() -> None:
    toml = 'app = "workers.app"\nmigrations = ["workflows/migrations"]\nkind = "agents"\n'
    assert REWRITER.text(toml) == (
        'app = "shop.workers.app"\nmigrations = ["shop/workflows/migrations"]\nkind = "agents"\n'
    )


def test_a_scaffold_without_files_has_no_references() -> None:
    empty = Rewriter("shop", {folder: frozenset() for folder in FOLDERS})
    assert empty.text("agents.invoices") == "agents.invoices"
    assert empty.python("from agents import x") == "from shop.agents import x"


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ("agents", "so general"),
        ("Workers", "so general"),
        ("workflows", "so general"),
        ("tests", "so general"),
        ("utils", "so general"),
        ("json", "standard library"),
        ("this", "standard library"),
        ("celery", "already has a module"),
        ("rotina", "already has a module"),
        ("class", "keyword"),
        ("2nd", "identifier"),
        ("my-shop", "identifier"),
        ("a.b", "identifier"),
        ("loja_ação", "identifier"),
        ("", "identifier"),
        ("_shop", "private"),
    ],
)
def test_a_package_that_would_clash_is_refused(package: str, reason: str) -> None:
    with pytest.raises(ScaffoldError, match=reason) as refusal:
        check_package(package)
    assert repr(package) in str(refusal.value)
    assert "--package" in str(refusal.value)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "x-", "my shop", "x\n", "ação"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ScaffoldError, match="cannot name a project"):
        check_project(name)


@pytest.mark.parametrize(
    ("name", "package"), [("shop", "shop"), ("My-Shop", "my_shop"), ("a.b--c", "a_b_c")]
)
def test_the_package_follows_from_the_name(name: str, package: str) -> None:
    check_project(name)
    assert package_for(name) == package


def test_a_module_found_in_this_environment_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_shop.py").touch()
    (tmp_path / "acme_space").mkdir()
    check_package("acme_shop")
    check_package("acme_space")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ScaffoldError, match=re.escape(str(tmp_path / "acme_shop.py"))):
        check_package("acme_shop")
    with pytest.raises(ScaffoldError, match="already has a module"):
        check_package("acme_space")


def test_an_empty_folder_in_the_working_directory_is_no_clash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_shop").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    assert create_project("acme_shop") == Path.cwd() / "acme_shop"


def test_the_project_holds_one_package(tmp_path: Path) -> None:
    folder = create_project("my-shop", "acme_shop", tmp_path / "new" / "place")

    assert folder == tmp_path / "new" / "place" / "my-shop"
    assert {path.name for path in folder.iterdir()} == {
        ".gitignore",
        "README.md",
        "acme_shop",
        "pyproject.toml",
    }
    package = folder / "acme_shop"
    assert {path.name for path in package.iterdir()} == {"__init__.py", *FOLDERS}
    written = {path.relative_to(package).as_posix() for path in package.rglob("*")}
    assert not GENERATED & {part for path in written for part in path.split("/")}


def test_every_source_file_is_copied_and_refers_to_the_package(tmp_path: Path) -> None:
    package = create_project("acme_shop", parent=tmp_path) / "acme_shop"
    originals = [
        path
        for folder in FOLDERS
        for path in (source() / folder).rglob("*")
        if path.is_file() and not GENERATED & set(path.parts)
    ]
    for original in originals:
        copy = package / original.relative_to(source())
        if original.suffix == ".py":
            assert not _absolute_imports(copy) & set(FOLDERS), copy
        elif original.suffix == ".sql":
            assert copy.read_bytes() == original.read_bytes()
        else:
            assert copy.is_file()


def _absolute_imports(path: Path) -> set[str]:
    heads = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            heads.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Import):
            heads |= {alias.name.partition(".")[0] for alias in node.names}
    return heads


def test_the_settings_are_the_checkouts_below_the_package(tmp_path: Path) -> None:
    folder = create_project("acme_shop", parent=tmp_path)
    checkout = tomllib.loads((source() / "pyproject.toml").read_text(encoding="utf-8"))
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))

    ours, theirs = checkout["tool"]["rotina"], project["tool"]["rotina"]
    assert theirs.pop("app") == f"acme_shop.{ours.pop('app', 'workers.app')}"
    assert theirs.pop("workflows") == [f"acme_shop.{name}" for name in ours.pop("workflows")]
    assert theirs.pop("migrations") == [f"acme_shop/{path}" for path in ours.pop("migrations")]
    assert theirs == ours


def test_the_project_is_readable_and_passes_its_own_tests(tmp_path: Path) -> None:
    folder = create_project("acme_shop", parent=tmp_path)
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b[1-9]\d* passed", done.stdout)


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / "shop" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine", encoding="utf-8")

    with pytest.raises(ScaffoldError, match="is not empty: choose another name"):
        create_project("shop", "acme_shop", tmp_path)
    with pytest.raises(ScaffoldError, match="Not a directory"):
        create_project("notes.txt", "acme_shop", kept.parent)
    assert [path.name for path in kept.parent.iterdir()] == ["notes.txt"]
    assert kept.read_text(encoding="utf-8") == "mine"


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ScaffoldError, match=r"Not a directory.*--dir"):
        create_project("shop", "acme_shop", tmp_path / "file")


def test_a_refusal_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(RotinaError):
        create_project("shop", "agents", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_where_the_project_is(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["new", "shop", "--package", "acme_shop", "--dir", str(tmp_path)]
    )
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "shop") in done.output
    assert (tmp_path / "shop" / "acme_shop" / "__init__.py").is_file()


def test_the_command_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["new", "x", "--package", "agents", "--dir", str(tmp_path)])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("ScaffoldError: 'agents' cannot be")
