"""The folder of prompts: finds a version, reads it again when its file has changed."""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rotina.errors import PromptError
from rotina.gateway.prompts.live import FILE, Live, State
from rotina.gateway.prompts.template import Rendered, Template
from rotina.settings import Settings

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\Z")
_VERSION = re.compile(r"(?P<version>[A-Za-z0-9][A-Za-z0-9_-]*)(\.(?P<language>[a-z]{2,3}(-\w+)?))?")
_NUMBERS = re.compile(r"(\d+)")


class Prompts:
    """A folder with a folder for each prompt. Opening it reads nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, tuple[tuple[int, int, int], Any]] = {}

    @classmethod
    def of(cls, settings: Settings) -> "Prompts":
        """The folder that the setting `prompts` names."""
        return cls(settings.prompts_path)

    def render(
        self,
        name: str,
        values: Mapping[str, Any] | None = None,
        *,
        language: str | None = None,
        key: str | None = None,
        version: str | None = None,
    ) -> Rendered:
        """The messages of the live version with `values` in them.

        `key` decides which version of a split it is; the same key sees the same one. `version`
        takes that one, live or not. Raises `PromptError` for what is missing or malformed, and
        for variables that do not fit.
        """
        version = version or self.live(name).choose(name, key)
        return self.template(name, version, language).render(values or {})

    def template(self, name: str, version: str, language: str | None = None) -> Template:
        """A version in a language: `pt-BR`, else `pt`, else the file without a language.

        Raises `PromptError` where there is none: never a prompt in another language.
        """
        files = self._files(name)
        if version not in files:
            known = ", ".join(files) or "none"
            raise PromptError(f"Prompt {name!r} has no version {version!r}; versions: {known}")
        languages = files[version]
        wanted = _wanted(language)
        spelled = {one and one.lower(): path for one, path in languages.items()}
        path = next((spelled[one] for one in [*wanted, None] if one in spelled), None)
        if path is None:
            raise _no_language(name, version, language, [one for one in languages if one])
        found = self._template(path, name, version)
        if wanted and found.language is not None and _wanted(found.language)[0] not in wanted:
            raise _no_language(name, version, language, [found.language])
        return found

    def templates(self, name: str, version: str) -> dict[str | None, Template]:
        """A version in each of its languages, the file without one first. Raises `PromptError`."""
        files = self._files(name).get(version, {})
        ordered = sorted(files, key=lambda language: language or "")
        return {language: self._template(files[language], name, version) for language in ordered}

    def live(self, name: str) -> Live:
        """What is live. Without a `live.toml` it is the only version; raises `PromptError`."""
        live = self._state(name)
        if live is None:
            versions = ", ".join(self.versions(name))
            raise PromptError(
                f"Prompt {name!r} has several versions ({versions}) and none is live: "
                f"`rotina prompts use {name} VERSION`"
            )
        self._check_state(name, live.now)
        return live

    def use(self, name: str, version: str) -> Live:
        """Make a version live; what was live before is remembered."""
        return self._change(name, version)

    def split(self, name: str, weights: Mapping[str, float]) -> Live:
        """Make some versions live, each as often as its weight says."""
        if not weights or any(not 0 < weight < float("inf") for weight in weights.values()):
            raise PromptError(f"A split of prompt {name!r} needs versions with weights above 0")
        return self._change(name, dict(weights))

    def rollback(self, name: str) -> Live:
        """Go back to what was live before; raises `PromptError` where nothing was."""
        state = self._state(name)
        live = (state or self.live(name)).rolled_back(name)
        self._check_state(name, live.now)
        live.write(self.folder / name)
        return live

    def names(self) -> list[str]:
        """All prompts that have a version; none where there is no such folder."""
        if not self.folder.is_dir():
            return []
        found = {path.parent.name for path in self.folder.glob("*/*.md")}
        return sorted(name for name in found if _NAME.match(name))

    def versions(self, name: str) -> list[str]:
        """`v2` before `v10`. Raises `PromptError` for an unknown prompt or one without any."""
        return list(self._files(name))

    def languages(self, name: str, version: str) -> list[str]:
        """The languages that a version has files for, besides the one without."""
        return sorted(one for one in self._files(name).get(version, {}) if one)

    def _change(self, name: str, state: State) -> Live:
        self._check_state(name, state)
        before = self._state(name)
        live = Live(state) if before is None else before.changed(state)
        live.write(self.folder / name)
        return live

    def _state(self, name: str) -> Live | None:
        """What the file says, whether there are such versions or not."""
        versions = self.versions(name)
        path = self.folder / name / FILE
        if path.is_file():
            return self._cached(path, lambda text: Live.read(_toml(text, path), str(path)))
        return Live(versions[0]) if len(versions) == 1 else None

    def _check_state(self, name: str, state: State) -> None:
        versions = self.versions(name)
        for version in [state] if isinstance(state, str) else state:
            if version not in versions:
                raise PromptError(
                    f"Prompt {name!r} has no version {version!r}, which is to be live; "
                    f"versions: {', '.join(versions)}"
                )

    def _files(self, name: str) -> dict[str, dict[str | None, Path]]:
        folder = self.folder / name
        if not _NAME.match(name) or not folder.is_dir():
            known = ", ".join(self.names()) or "none"
            raise PromptError(f"No prompt {name!r} in {self.folder}; there are: {known}")
        files: dict[str, dict[str | None, Path]] = {}
        for path in sorted(folder.glob("*.md"), key=lambda path: _natural(path.stem)):
            found = _VERSION.fullmatch(path.stem)
            if found:
                files.setdefault(found["version"], {})[found["language"]] = path
        if not files:
            raise PromptError(f"Prompt {name!r} has no version: write {folder / 'v1.md'}")
        return files

    def _template(self, path: Path, name: str, version: str) -> Template:
        return self._cached(path, lambda text: Template.read(text, name, version, str(path)))

    def _cached(self, path: Path, parse: Callable[[str], T]) -> T:
        try:
            state = path.stat()
            stamp = (state.st_mtime_ns, state.st_size, state.st_ino)
            kept = self._read.get(path)
            if kept is None or kept[0] != stamp:
                # Some editors put a byte order mark before the text; it is no part of it.
                kept = self._read[path] = (stamp, parse(path.read_text(encoding="utf-8-sig")))
        except UnicodeDecodeError as error:
            raise PromptError(
                f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8"
            ) from None
        except OSError as error:
            raise PromptError(f"{path} cannot be read: {type(error).__name__}") from None
        found: T = kept[1]
        return found


def _wanted(language: str | None) -> list[str]:
    """`pt_BR`, as locales are written, is `pt-br`, else `pt`."""
    if language is None:
        return []
    whole = language.lower().replace("_", "-")
    return [whole, whole.partition("-")[0]]


def _no_language(
    name: str, version: str, language: str | None, known: Sequence[str]
) -> PromptError:
    wanted = language or "no language"
    return PromptError(
        f"Prompt {name!r} {version} is not there in {wanted}, but in {', '.join(sorted(known))}: "
        f"name one of these, or add {version}{f'.{language}' if language else ''}.md"
    )


def _toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PromptError(f"{path} is not valid TOML: {error}") from None


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBERS.split(text)]
