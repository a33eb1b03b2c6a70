"""The option `--plot FILE`."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def plotted(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--plot FILE`, refused before any work where it cannot be written."""

    @click.option(
        "--plot",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Also draw it: a .png, .svg or .html file (extra plots).",
    )
    @functools.wraps(command)
    def checked(plot: Path | None, **others: Any) -> None:
        if plot is not None:
            from rotina.knowledge.analysis.plots import check_plot

            check_plot(plot)
        command(plot=plot, **others)

    return checked
