"""Whether there is a project whose workers can be started."""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from rotina.errors import SettingsError
from rotina.settings import Settings


def require_project(settings: Settings) -> None:
    """Raise `SettingsError` where workers would not find what they run.

    Nothing is imported: a project's own code runs in its workers, not in their supervisor.
    """
    for setting, modules in (("app", [settings.app]), ("workflows", settings.workflows)):
        for module in modules:
            if not _is_there(module, settings.project_dir):
                raise SettingsError(
                    f"{settings.project_dir} is no project that workers can run in: there is no "
                    f"module {module!r} (setting `{setting}`). Go into your project's folder, make "
                    "one with `rotina new NAME`, or start the servers alone with "
                    "`rotina up --services-only`"
                )


def _is_there(module: str, folder: Path) -> bool:
    """As a program that starts in the folder would find it; parents are not imported."""
    top, *rest = module.split(".")
    found = PathFinder.find_spec(top, [str(folder)]) or _installed(top)
    for part in rest:
        if found is None or found.submodule_search_locations is None:
            return False
        places = list(found.submodule_search_locations)
        found = PathFinder.find_spec(f"{found.name}.{part}", places)
    return found is not None


def _installed(top: str) -> ModuleSpec | None:
    """Wherever else modules come from, such as an editable installation."""
    specs = (finder.find_spec(top, None) for finder in sys.meta_path)
    return next((spec for spec in specs if spec is not None), None)
