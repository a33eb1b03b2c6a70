"""The HTTP API: runs, threads, reviews, search, and the gateway in OpenAI's protocol."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from rotina.settings import Settings

__all__ = ["create_server"]


def create_server(settings: "Settings") -> "FastAPI":
    """The ASGI application; its lifespan opens database and gateway. Does no I/O itself.

    `rotina serve` runs it; any other ASGI server can.
    """
    from rotina.server.app import build  # noqa: PLC0415 - `rotina keys` needs no FastAPI

    return build(settings)
