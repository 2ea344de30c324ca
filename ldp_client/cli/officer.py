"""`ldp-client officer`: the privacy officer's key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldp_client.cli.console import say
from ldp_client.wire.signing import create_signing_key, fingerprint

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _describe() -> None:
    """Keep this key on the officer's own machine: whoever holds it can approve campaigns."""


@app.command()
def key(out: Annotated[Path, typer.Option(help="A new file for the private key, mode 0600.")]) -> None:
    """Make a key; print the public half, which `ldp-client site init` takes."""
    public = create_signing_key(out).public_key
    say([public.hex(), f"fingerprint {fingerprint(public)}"])
