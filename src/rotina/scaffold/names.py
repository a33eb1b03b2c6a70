"""Which names a project and its package may have."""

import importlib.machinery
import importlib.util
import keyword
import re
import sys
from pathlib import Path

from rotina.scaffold.errors import ScaffoldError

_GENERAL = """
agent agents api app application apps backend bin bot bots build cli client code common config core
data database db demo dist docs example examples frontend graph graphs helpers lib libs main manager
misc models module modules package packages project samples scripts server service services settings
shared site src task tasks test tests tools util utils web worker workers workflow workflows
"""
GENERAL = frozenset(_GENERAL.split())
"""Names that say nothing about whose code it is, so that other distributions use them too."""

# The form of a distribution's name: https://packaging.python.org/specifications/name-normalization
_PROJECT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def check_project(name: str) -> None:
    """Raise `ScaffoldError` unless `name` can name a folder and a distribution."""
    if not _PROJECT.fullmatch(name):
        raise ScaffoldError(
            f"{name!r} cannot name a project: use ASCII letters, digits, '-', '_' and '.', "
            "beginning and ending with a letter or digit; --dir says where the folder is made."
        )


def package_for(name: str) -> str:
    """The package name that follows from a project's name: `My-Shop` → `my_shop`."""
    return re.sub(r"[-.]+", "_", name).lower()


def check_package(package: str) -> None:
    """Raise `ScaffoldError` unless `package` can be imported and is nobody else's name."""
    reason = _malformed(package) or _taken(package)
    if reason:
        raise ScaffoldError(
            f"{package!r} cannot be the project's package: {reason}. "
            "Choose a name of your own with --package, such as --package acme_shop."
        )


def _malformed(package: str) -> str | None:
    if not (package.isascii() and package.isidentifier()):
        return "it is not a Python identifier in ASCII (letters, digits and '_', no digit first)"
    if keyword.iskeyword(package):
        return "it is a Python keyword"
    if package.startswith("_"):
        return "a leading underscore marks it as private"
    return None


def _taken(package: str) -> str | None:
    if package.lower() in GENERAL:
        return "the name is so general that another distribution may install it too"
    if package in sys.stdlib_module_names:
        return "the standard library has a module of that name"
    spec = _find(package)
    if spec is None or _lies_below(spec, Path.cwd()):
        return None
    return f"this environment already has a module of that name ({_where(spec)})"


def _find(package: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(package)
    except ValueError:  # a module that runs without a spec, such as an embedding program's own
        return importlib.machinery.ModuleSpec(package, None)


def _lies_below(spec: importlib.machinery.ModuleSpec, folder: Path) -> bool:
    """Whether it is merely a folder without code of its own in the working directory.

    `python -m rotina` has the working directory on its path, where such a folder counts as a
    namespace package; whether the project may be made in it is decided by what it holds.
    """
    places = [Path(place).parent for place in spec.submodule_search_locations or ()]
    return spec.origin is None and bool(places) and all(place == folder for place in places)


def _where(spec: importlib.machinery.ModuleSpec) -> str:
    return spec.origin or next(iter(spec.submodule_search_locations or ()), "loaded already")
