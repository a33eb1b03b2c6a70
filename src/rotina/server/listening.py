"""The socket that a server listens on."""

import socket

from rotina.errors import SettingsError

BACKLOG = 2048
LAST_PORT = 65535


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `SettingsError`."""
    if not 0 <= port <= LAST_PORT:
        raise SettingsError(f"There is no port {port}: choose one up to {LAST_PORT} with --port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"Cannot listen on {host} port {port} ({error.strerror}): "
            "choose another with --host or --port"
        ) from None
