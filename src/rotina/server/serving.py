"""Running the server: `rotina serve`."""

import asyncio
import logging
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from rotina.server import create_server
from rotina.server.listening import BACKLOG, listen
from rotina.settings import Settings

log = logging.getLogger(__name__)

GRACE_SECONDS = 30
"""Requests under way when the server is asked to stop may take this long."""


class Server(uvicorn.Server):
    """uvicorn's server as a part of a program: it does not kill its process when it has stopped."""

    def __init__(
        self, app: ASGIApp, stopping: asyncio.Event | None = None, *, access_log: bool = True
    ) -> None:
        """`app`'s lifespan is the caller's business: an error there is raised, not printed.

        `stopping` is set when it begins to stop.
        """
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            server_header=False,
            access_log=access_log,
            # Only the access log tells who asked.
            proxy_headers=access_log,
            backlog=BACKLOG,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        super().__init__(config)
        self._stopping = stopping
        self.listening = asyncio.Event()
        """Set once requests are taken."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """SIGINT and SIGTERM stop it gracefully; a second SIGINT does not wait for requests."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take requests."""
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams that would go on, then wait for the other requests."""
        if self._stopping is not None:
            self._stopping.set()
        await super().shutdown(sockets)


async def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM. Port 0 takes a free one; the log says which.

    Raises `SettingsError` when the address is taken, and what opening the application raises.
    """
    app = create_server(settings)
    with listen(host, port) as listener:
        async with app.router.lifespan_context(app):
            log.info("Rotina serves at http://%s:%d", *listener.getsockname()[:2])
            await Server(app, app.state.stopping).serve(sockets=[listener])
