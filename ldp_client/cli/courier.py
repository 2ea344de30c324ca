"""`ldp-client courier`: carries the spool through Flower. Run it as its own user: it needs no key and no X-ray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldp_client.courier import main as courier_main

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _describe() -> None:
    """Moves bytes between the spool and the SuperNode on this machine, and decides nothing."""


@app.command()
def run(
    # readable=False: the courier passes through the spool without listing it, and says itself what it cannot read.
    spool: Annotated[Path, typer.Option(help="The site's spool folder.", readable=False)],
    secret: Annotated[
        Path, typer.Option(help="The secret shared with the SuperNode, made by `ldp-client node key`.", readable=False)
    ],
    supernode: Annotated[str, typer.Option(help="host:port of the SuperNode on this machine.")] = "127.0.0.1:9400",
) -> None:
    """Work until stopped (Ctrl-C or SIGTERM)."""
    courier_main(["--spool", str(spool), "--supernode", supernode, "--secret", str(secret)])
