"""`ldp-server dataset`: public data sets."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from server.datasets import fetch_pneumoniamnist

app = typer.Typer(help="Public data sets.", no_args_is_help=True)


class PublicDataSet(StrEnum):
    """What can be fetched."""

    PNEUMONIAMNIST = "pneumoniamnist"


@app.callback()
def _noun() -> None:
    """Public data sets."""


@app.command()
def fetch(
    name: Annotated[PublicDataSet, typer.Argument(help="Which data set.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    timeout: Annotated[float, typer.Option(help="Seconds for the whole download.", min=1.0)] = 60.0,
) -> None:
    """Download a data set from its publisher and check its published digest."""
    path = fetch_pneumoniamnist(out, timeout_seconds=timeout)
    typer.echo(f"{name.value}: {path} (published digest checked)")
