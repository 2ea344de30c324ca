"""`ldp-server evaluate`: how well a classifier does on the held-out X-rays of the sites."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True)
