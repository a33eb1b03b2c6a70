"""The account that PostgreSQL runs as when we are root, and the folders that account can reach.

PostgreSQL refuses to run as root. An unprivileged account in turn cannot enter a 0700 home, so
both its binaries and its data may have to live elsewhere; this module decides where.
"""

import hashlib
import os
import pwd
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from rotina.errors import EmbeddedError

SHARED_ROOTS = (Path("/var/lib/rotina"), Path("/var/tmp/rotina"))  # noqa: S108 - verified below


@dataclass(frozen=True)
class Account:
    """An operating-system account without privileges."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """The account to drop to; None when we are an ordinary user already.

    Raises `EmbeddedError` when we are root and there is neither `postgres` nor `nobody`.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        "PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody`: "
        "create one (`useradd --system postgres`), start as an ordinary user, or set DATABASE_URL"
    )


def can_enter(folder: Path, account: Account) -> bool:
    """Whether `account` may walk into `folder`; looks at owner and mode, not at ACLs."""
    for step in (folder, *folder.parents):
        try:
            status = step.stat()
        except FileNotFoundError:
            continue
        owner_may = status.st_uid == account.uid and bool(status.st_mode & stat.S_IXUSR)
        if not owner_may and not status.st_mode & stat.S_IXOTH:
            return False
    return True


def shared_root() -> Path:
    """A root-owned folder that every account can enter and only root can write to.

    `/var/lib` first: systems empty `/var/tmp` of what was not used for some weeks. Raises
    `EmbeddedError` if neither can be used, or if somebody else put a folder of that name there.
    """
    problems = []
    for root in SHARED_ROOTS:
        try:
            root.mkdir(mode=0o711, exist_ok=True)
            status = root.lstat()
        except OSError as error:
            problems.append(f"{root}: {error.strerror}")
            continue
        if stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and not status.st_mode & 0o022:
            root.chmod(0o711)
            return root
        problems.append(f"{root}: not a folder that only root can write to")
    raise EmbeddedError(
        f"No folder that the PostgreSQL account can reach ({'; '.join(problems)}): "
        "make one of them, start as an ordinary user, or set DATABASE_URL"
    )


def new_shared_folder(origin: Path) -> Path:
    """A new folder under `shared_root()` for the data that belongs to `origin`.

    Its name carries `origin`'s hash and a random part: whoever deletes `origin` and starts again
    gets a new database, never one whose password is lost. A file `origin` in it says whose it is.
    """
    digest = hashlib.sha256(os.fsencode(origin)).hexdigest()[:12]
    folder = shared_root() / f"{digest}-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o711)
    folder.chmod(0o711)
    (folder / "origin").write_text(f"{origin}\n", encoding="utf-8")
    return folder


def readable_copy(folders: list[Path]) -> Path:
    """Copy `folders` (of an installed wheel) side by side to where every account can read them.

    Returns the folder that holds the copies. A copy is reused while the original is unchanged.
    """
    first = folders[0]
    identity = f"{first}:{first.stat().st_mtime_ns}"
    name = f"{first.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    target = shared_root() / name
    if target.is_dir():
        return target
    partial = target.with_name(f".{name}.{secrets.token_hex(4)}")
    try:
        partial.mkdir(mode=0o755)
        for folder in folders:
            shutil.copytree(folder, partial / folder.name, symlinks=True)
        _open_for_reading(partial)
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if target.is_dir():  # another supervisor was faster
            return target
        raise EmbeddedError(f"{first} cannot be copied to {target}: {error}") from error
    return target


def _open_for_reading(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)
