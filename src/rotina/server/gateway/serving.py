"""Running `rotina gateway serve`: one process, or several that share a listening socket."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from rotina.errors import RotinaError
from rotina.server.gateway.app import GatewayApp
from rotina.server.listening import listen
from rotina.server.serving import Server
from rotina.settings import Settings, load_settings

log = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
READY = b"r"
CANNOT_START = 78
"""The exit status of a worker whose settings or database are not as they must be (EX_CONFIG)."""


async def serve(settings: Settings, host: str, port: int) -> None:
    """Serve in this process until SIGINT or SIGTERM. Port 0 takes a free one; the log says which.

    Raises `SettingsError` when the address is taken, and what opening the application raises.
    """
    with listen(host, port) as listener:
        async with GatewayApp.open(settings) as app:
            log.info("the gateway serves at http://%s:%d", *listener.getsockname()[:2])
            await Server(app, access_log=False).serve(sockets=[listener])


async def _work(settings: Settings, listener: socket.socket, supervisor: socket.socket) -> None:
    """One worker: serve until SIGTERM, or until the supervisor is gone."""
    async with GatewayApp.open(settings) as app, _follow(supervisor) as gone:
        server = Server(app, access_log=False)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await server.listening.wait()
        with contextlib.suppress(OSError):
            supervisor.send(READY)
        leaving = asyncio.create_task(gone.wait())
        await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        leaving.cancel()
        await serving


@contextlib.asynccontextmanager
async def _follow(supervisor: socket.socket) -> AsyncIterator[asyncio.Event]:
    """An event that is set when the other end of the socket is closed: nobody restarts us."""
    gone, loop = asyncio.Event(), asyncio.get_running_loop()
    supervisor.settimeout(0)

    def look() -> None:
        with contextlib.suppress(BlockingIOError):
            if supervisor.recv(1):
                return
            loop.remove_reader(supervisor)
            gone.set()

    loop.add_reader(supervisor, look)
    try:
        yield gone
    finally:
        loop.remove_reader(supervisor)


def run(main: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run`, on uvloop where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - there is none for Windows
    except ImportError:
        asyncio.run(main)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def work() -> None:
    """The program of a worker; `rotina.server.gateway.workers` starts it."""
    logging.basicConfig(level="INFO", format=f"[{os.getpid()}] {LOG_FORMAT}")
    listener, supervisor = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    try:
        run(_work(load_settings(), listener, supervisor))
    except RotinaError as error:
        log.error("%s: %s", type(error).__name__, error)  # noqa: TRY400 - the message says it all
        sys.exit(CANNOT_START)


if __name__ == "__main__":
    work()
