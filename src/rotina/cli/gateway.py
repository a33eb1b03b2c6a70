"""`rotina gateway`: the shared gateway as a service of its own."""

import asyncio

import click


@click.group()
def gateway() -> None:
    """Serve models to other programs, in OpenAI's protocol."""


@gateway.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that share the port; one that dies is replaced.",
)
def serve(host: str, port: int, workers: int) -> None:
    """Serve models and metrics over HTTP until Ctrl-C or SIGTERM."""
    import logging

    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if workers == 1:
        from rotina.server.gateway.serving import run
        from rotina.server.gateway.serving import serve as serve_here
        from rotina.settings import load_settings

        run(serve_here(load_settings(), host, port))
        return

    from rotina.server.gateway.workers import supervise
    from rotina.server.listening import listen

    with listen(host, port) as listener:
        asyncio.run(supervise(listener, workers))
