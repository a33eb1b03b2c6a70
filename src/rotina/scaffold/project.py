"""Where a new project comes from, and how it is written."""

import io
import tokenize
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath
from string import Template

import rotina
from rotina.scaffold import names, templates
from rotina.scaffold.errors import ScaffoldError
from rotina.scaffold.rewrite import Rewriter

FOLDERS = ("agents", "workflows", "workers")
_SETTINGS_AND_PROSE = {".cfg", ".ini", ".json", ".md", ".rst", ".toml", ".txt", ".yaml", ".yml"}


def create_project(name: str, package: str | None = None, parent: Path | None = None) -> Path:
    """Create the folder `name` in `parent` (default: the working directory) and return its path.

    The folder holds a pyproject.toml and the package `package` (default: `name` as an
    identifier), whose own tests pass. Raises `ScaffoldError`, before anything is written, when a
    name is not usable, the folder already holds something, or this installation is incomplete.
    """
    names.check_project(name)
    package = names.package_for(name) if package is None else package
    names.check_package(package)
    folder = (parent or Path.cwd()).resolve() / name
    _check_folder(folder)
    files = {**_own_files(name, package), **_copied_files(package)}
    try:
        for path, content in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    except OSError as error:
        raise ScaffoldError(
            f"{error.filename or folder} cannot be written ({error.strerror}): "
            "choose another place with --dir."
        ) from None
    return folder


def source() -> Path:
    """The folder that holds `agents`, `workflows` and `workers`.

    It is `rotina/_scaffold` in an installed wheel, and the checkout's own folder in a checkout.
    """
    framework = Path(rotina.__file__).resolve().parent
    for folder in (framework / "_scaffold", framework.parents[1]):
        if all((folder / name).is_dir() for name in FOLDERS):
            return folder
    raise ScaffoldError(
        f"The scaffold is missing from {framework / '_scaffold'}: reinstall Rotina "
        "(python -m pip install --force-reinstall rotina)."
    )


def _check_folder(folder: Path) -> None:
    try:
        occupied = any(folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise ScaffoldError(
            f"{folder} cannot be used ({error.strerror}): choose another name, "
            "or another place with --dir."
        ) from None
    if occupied:
        raise ScaffoldError(
            f"{folder} is not empty: choose another name, or another place with --dir."
        )


def _own_files(name: str, package: str) -> dict[PurePosixPath, bytes]:
    values = {"name": name, "package": package, "version": metadata.version("rotina")}
    return {
        PurePosixPath(Template(path).substitute(values)): text.substitute(values).encode()
        for path, text in templates.FILES.items()
    }


def _copied_files(package: str) -> dict[PurePosixPath, bytes]:
    root = source()
    found = dict(_walk(root))
    children = {
        folder: frozenset(path.parts[1] for path in found if path.parts[0] == folder)
        for folder in FOLDERS
    }
    rewriter = Rewriter(package, children)
    return {package / path: _rewrite(rewriter, path, found[path]) for path in sorted(found)}


def _walk(root: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    for folder in FOLDERS:
        for path in (root / folder).rglob("*"):
            relative = PurePosixPath(path.relative_to(root).as_posix())
            generated = path.suffix == ".pyc" or any(
                part == "__pycache__" or part.startswith(".") for part in relative.parts
            )
            if path.is_file() and not generated:
                yield relative, path.read_bytes()


def _rewrite(rewriter: Rewriter, path: PurePosixPath, content: bytes) -> bytes:
    """Migrations and other data stay as they are, byte for byte."""
    if path.suffix == ".py":
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding).replace("\r\n", "\n")
        return rewriter.python(text).encode(encoding)
    if path.suffix in _SETTINGS_AND_PROSE:
        return rewriter.text(content.decode()).encode()
    return content
