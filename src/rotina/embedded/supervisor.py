"""`rotina up`: everything a project needs and has not brought itself, under one process."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rotina.embedded import models, postgres, valkey
from rotina.embedded.children import Child, Children
from rotina.embedded.lock import hold
from rotina.embedded.process import Program, free_port, write_private
from rotina.embedded.sentence_model import read_model
from rotina.embedded.weights import Weights, cache_folder, fetch, manifest
from rotina.errors import EmbeddedError
from rotina.settings import SERVICES_FILE, VECTOR_SECONDS, Services, Settings

CELERY = (("worker", "io"), ("worker", "cpu"), ("beat",))
"""The `rotina` commands that `up` keeps running."""
_TICK = 0.2  # seconds between two looks at the children


class Report(Protocol):
    """Where the supervisor says what it does."""

    def line(self, text: str) -> None:
        """One line for the user."""

    def progress(self, name: str, done: int, total: int) -> None:
        """`done` of `total` bytes of the file `name` are there."""


@dataclass(frozen=True)
class Parts:
    """Which services are embedded; the user has brought the others."""

    postgres: bool
    valkey: bool
    chat: bool
    embed: bool


def embedded_parts(settings: Settings) -> Parts:
    """What `settings` (read with `services=False`) leave to us."""
    return Parts(
        postgres=settings.database_url is None,
        valkey=settings.redis_url is None,
        chat=not {"fast", "smart"} <= set(settings.routes),
        embed="embed" not in settings.routes,
    )


def run(
    settings: Settings,
    report: Report,
    *,
    services_only: bool = False,
    timeout: float = 120.0,
) -> None:
    """Start, serve and watch until Ctrl-C, SIGTERM or SIGHUP, then stop all in order.

    `settings` must be those without a running supervisor's offer
    (`load_settings(services=False)`). `services_only` starts no workers, no beat and no server of
    Rotina's own. `timeout` is how many seconds a service may take to be ready, downloads excluded.

    Raises `AlreadyRunningError`, `DownloadError`, or `EmbeddedError` with the end of a log.
    """
    data = settings.data_path
    _make(data)
    with hold(data) as lock, _stop_signals():
        supervisor = _Supervisor(settings, report, Children(report.line, [data / SERVICES_FILE]))
        try:
            supervisor.start(timeout, services_only=services_only)
            lock.announce(ready=True)
            report.line(
                f"Ready. Logs are in {data / 'logs'}. Ctrl-C or `rotina down` stops it all."
            )
            while True:
                supervisor.children.watch()
                time.sleep(_TICK)
        except _Stop as stop:
            report.line(f"Stopping ({stop}) …")
            supervisor.stop()
            report.line("Stopped.")
        finally:
            _ignore_signals()
            supervisor.stop()


class _Stop(BaseException):
    """A signal asked us to stop; not an `Exception`, so that nothing on the way swallows it."""


@contextmanager
def _stop_signals() -> Iterator[None]:
    def raise_stop(number: int, _frame: object) -> None:
        _ignore_signals()  # the first is enough; another must not interrupt the stopping
        raise _Stop(signal.Signals(number).name)

    before = {number: signal.signal(number, raise_stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _ignore_signals() -> None:
    # Not SIG_IGN, which children started from now on would inherit.
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)


def _make(data: Path) -> None:
    try:
        # As root, PostgreSQL's account has to pass through; what is inside has its own mode.
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        data.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise EmbeddedError(
            f"{data} cannot be used ({error.strerror}): set ROTINA_DATA_DIR to a folder of yours"
        ) from error


@dataclass
class _Supervisor:
    settings: Settings
    report: Report
    children: Children
    workers: list[Child] = field(default_factory=list)

    def start(self, timeout: float, *, services_only: bool) -> None:
        parts = embedded_parts(self.settings)
        files = self._fetch(parts)
        services = Services(supervisor_pid=os.getpid())
        ports = _Ports(self.settings.data_path / "ports.json")
        batch = [
            *self._servers(parts, ports, services),
            *self._models(parts, files, ports, services),
        ]
        server_port = ports.of("server")
        ports.keep()
        self.children.start(batch, timeout)
        self._migrate(services)
        if not services_only:
            services.server_url = f"http://127.0.0.1:{server_port}"
        text = services.model_dump_json(indent=2)
        write_private(self.settings.data_path / SERVICES_FILE, text + "\n")
        if not services_only:
            self.workers = [self._command("-".join(each), each) for each in CELERY]
            self.workers.append(self._server(server_port))
        self.children.start(self.workers, timeout)
        for child in (*batch, *self.workers):
            self._say(child, services)

    def stop(self) -> None:
        with suppress(FileNotFoundError):
            (self.settings.data_path / SERVICES_FILE).unlink()
        self.children.ask_to_stop(self.workers)
        self.children.stop()

    def _fetch(self, parts: Parts) -> dict[str, tuple[Weights, Path]]:
        wanted: dict[str, str] = {}
        if parts.chat:
            wanted[models.CHAT] = self.settings.embedded_model
        if parts.embed and self.settings.embedding_folder is None:
            wanted[models.EMBED] = models.EMBEDDING_MODEL
        known, cache = manifest(), cache_folder(self.settings.cache_dir)
        return {
            deployment: (known[name], fetch(known[name], cache, self.report.progress))
            for deployment, name in wanted.items()
        }

    def _servers(self, parts: Parts, ports: "_Ports", services: Services) -> Iterator[Child]:
        data, logs = self.settings.data_path, self.settings.data_path / "logs"
        if parts.postgres:
            prepared = postgres.prepare(
                data / "postgres", port=ports.of("postgres"), log=logs / "postgres.log"
            )
            services.database_url = url = prepared.url
            yield Child(prepared.program, lambda: postgres.answers(url))
        if parts.valkey:
            broker = valkey.prepare(
                data / "valkey", port=ports.of("valkey"), log=logs / "valkey.log"
            )
            services.redis_url = broker.url
            yield Child(broker.program, lambda: valkey.answers(broker.url))

    def _models(
        self,
        parts: Parts,
        files: dict[str, tuple[Weights, Path]],
        ports: "_Ports",
        services: Services,
    ) -> Iterator[Child]:
        data = self.settings.data_path
        if models.CHAT in files:
            weights, path = files[models.CHAT]
            name, port = self.settings.embedded_model, ports.of("chat")
            chat = models.chat_server(
                data / "chat", model=name, weights=weights, path=path, port=port
            )
            _offer(services, models.CHAT, chat, ("fast", "smart"))
            yield Child(chat.program, chat.ready)
        if parts.embed:
            yield self._embedding(files, ports, services)

    def _embedding(
        self, files: dict[str, tuple[Weights, Path]], ports: "_Ports", services: Services
    ) -> Child:
        folder = self.settings.embedding_path
        embed = models.embedding_server(
            self.settings.data_path / "embed",
            path=files[models.EMBED][1] if folder is None else folder,
            port=ports.of("embed"),
            served=None if folder is None else read_model(folder),
        )
        _offer(services, models.EMBED, embed, ("embed",), cache_seconds=VECTOR_SECONDS)
        return Child(embed.program, embed.ready)

    def _migrate(self, services: Services) -> None:
        from rotina.database import migrate  # noqa: PLC0415 - importing psycopg takes a while

        brought = self.settings.database_url
        url = brought.get_secret_value() if brought else services.database_url
        assert url is not None
        extra = [self.settings.project_dir / folder for folder in self.settings.migrations]
        applied = asyncio.run(migrate(url, extra))
        if applied:
            self.report.line(f"Applied {len(applied)} database migrations.")

    def _server(self, port: int) -> Child:
        child = self._command("server", ("serve", "--port", str(port)))
        child.ready = lambda: models.is_healthy(port)
        return child

    def _command(self, name: str, arguments: Sequence[str]) -> Child:
        program = Program(
            name=name,
            command=(sys.executable, "-m", "rotina", *arguments),
            log=self.settings.data_path / "logs" / f"{name}.log",
            cwd=self.settings.project_dir,
        )
        return Child(program)

    def _say(self, child: Child, services: Services) -> None:
        pid = child.process.pid if child.process else 0
        where = {
            "postgres": _address(services.database_url),
            "valkey": _address(services.redis_url),
            "chat": services.deployments.get(models.CHAT, {}).get("base_url"),
            "embed": services.deployments.get(models.EMBED, {}).get("base_url"),
            "server": services.server_url,
        }.get(child.program.name)
        self.report.line(f"  {child.program.name:<10} pid {pid:<8} {where or ''}".rstrip())


class _Ports:
    """The ports chosen at the first start; kept as long as nobody else listens there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ports: dict[str, int] = {}
        with suppress(FileNotFoundError, ValueError):
            self._ports = {k: int(v) for k, v in json.loads(path.read_text("ascii")).items()}

    def of(self, name: str) -> int:
        port = free_port(self._ports.get(name))
        while port in {other for key, other in self._ports.items() if key != name}:
            port = free_port()  # chosen for another of ours, which does not listen yet
        self._ports[name] = port
        return port

    def keep(self) -> None:
        write_private(self._path, json.dumps(self._ports))


def _offer(
    services: Services,
    deployment: str,
    server: models.ModelServer,
    routes: Sequence[str],
    **policy: Any,
) -> None:
    services.deployments[deployment] = server.deployment
    entry: dict[str, Any] = {"deployments": [deployment], **policy}
    services.routes.update(dict.fromkeys(routes, entry))


def _address(url: str | None) -> str | None:
    """The URL without its password."""
    if url is None:
        return None
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
