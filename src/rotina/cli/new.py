"""`rotina new`: create a project."""

from pathlib import Path

import click


@click.command()
@click.argument("name")
@click.option("--package", metavar="PKG", help="The importable package; default: made from NAME.")
@click.option(
    "--dir",
    "parent",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the folder NAME is made; default: the working directory.",
)
def new(name: str, package: str | None, parent: Path | None) -> None:
    """Create a project from the scaffold.

    The folder NAME gets a pyproject.toml and one package with agents, workflows and workers, whose
    own tests pass.
    """
    from rotina.scaffold import create_project

    folder = create_project(name, package, parent)
    click.echo(f"Created {folder}. README.md there says how to test and start it.")
