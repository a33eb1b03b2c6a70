"""`rotina migrate`."""

import asyncio

import click

from rotina.settings import load_settings


@click.command()
def migrate() -> None:
    """Apply the database migrations that are missing: Rotina's, then the project's."""
    from rotina.database import migrate as apply

    settings = load_settings()
    folders = [settings.project_dir / folder for folder in settings.migrations]
    applied = asyncio.run(apply(settings.require_database_url(), folders))
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("nothing to apply: the database is up to date")
