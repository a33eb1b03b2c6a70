"""Writing a deployment into the project's settings file, with its comments and order kept."""

import os
import tempfile
import tomllib
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotina.errors import SettingsError
from rotina.settings import check_table, settings_file

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

OWN = "rotina.toml"


def refuse_declared(folder: Path, name: str, *, replace: bool) -> None:
    """Raises `SettingsError` for a name that is there already, unless it may be replaced."""
    path = settings_file(folder)
    declared = {} if path is None else _table(tomllib.loads(_text(path)), path)
    if name in declared.get("deployments", {}) and not replace:
        raise SettingsError(
            f"{path} declares a deployment {name!r} already: take another name, or say --replace"
        )


def declare(
    folder: Path, name: str, fields: Mapping[str, Any], routes: Sequence[str], *, replace: bool
) -> Path:
    """Write `[deployments.NAME]` and the routes into the file that the project's settings are in.

    Without one, `rotina.toml` is made in `folder`. The file is replaced at once, and only by one
    whose settings are valid. Returns its path. Raises `SettingsError`.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    refuse_declared(folder, name, replace=replace)
    path = settings_file(folder) or folder / OWN
    document = tomlkit.parse(_text(path))
    wanted = _wanted(tomllib.loads(_text(path)), path, name, fields, routes)
    try:
        _write(document, path, name, fields, routes)
        text = document.as_string()
        same = tomllib.loads(text) == wanted
    except (TOMLKitError, ValueError, TypeError, AttributeError):
        text, same = "", False
    if not same:
        raise SettingsError(
            f"{path} is written in a way that cannot be added to: declare the deployment "
            f"yourself, as [deployments.{name}] with {', '.join(fields)}"
        )
    check_table(_table(wanted, path), str(path))
    _replace(path, text)
    return path


def _wanted(
    parsed: dict[str, Any], path: Path, name: str, fields: Mapping[str, Any], routes: Sequence[str]
) -> dict[str, Any]:
    """What the file has to say afterwards."""
    table = _table(parsed, path)
    table.setdefault("deployments", {})[name] = dict(fields)
    for route in routes:
        own = table.setdefault("routes", {}).setdefault(route, {})
        leads = own.setdefault("deployments", [])
        if name not in leads:
            leads.append(name)
    return parsed


def _write(
    document: "TOMLDocument",
    path: Path,
    name: str,
    fields: Mapping[str, Any],
    routes: Sequence[str],
) -> None:
    import tomlkit

    root = _table(document, path)
    deployment = tomlkit.table()
    for key, value in fields.items():
        if isinstance(value, Mapping):
            inline = tomlkit.inline_table()
            inline.update(value)
            deployment[key] = inline
        else:
            deployment[key] = value
    _section(root, "deployments")[name] = deployment
    for route in routes:
        leading = _section(root, "routes")
        if route not in leading:
            leading[route] = tomlkit.table()
        own = leading[route]
        if "deployments" not in own:
            own["deployments"] = []
        if name not in own["deployments"]:
            own["deployments"].append(name)


def _section(root: MutableMapping[str, Any], key: str) -> Any:
    import tomlkit

    if key not in root:
        root[key] = tomlkit.table(is_super_table=True)
    return root[key]


def _table(parsed: Any, path: Path) -> Any:
    """The part of a file that is Rotina's."""
    return parsed if path.name == OWN else parsed["tool"]["rotina"]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {type(error).__name__}") from None


def _replace(path: Path, text: str) -> None:
    """Whole or not at all; who might read the file before may read it after."""
    target = path.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(mode)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({type(error).__name__})") from None
