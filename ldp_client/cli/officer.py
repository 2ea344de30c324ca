"""`ldp-client officer`: the privacy officer's key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldp_client.cli.console import HERE, State, say
from ldp_client.cli.typed_key import public_key
from ldp_client.rotation import rotate_officer
from ldp_client.site import open_site
from ldp_client.wire.signing import SigningKey, create_signing_key, fingerprint, read_secret

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _describe() -> None:
    """Keep this key on the officer's own machine: whoever holds it can approve campaigns."""


@app.command()
def key(out: Annotated[Path, typer.Option(help="A new file for the private key, mode 0600.")]) -> None:
    """Make a key; print the public half, which `ldp-client site init` takes."""
    public = create_signing_key(out).public_key
    say([public.hex(), f"fingerprint {fingerprint(public)}"])


@app.command("rotate-key")
def rotate_officer_key(
    old: Annotated[
        str, typer.Option(help="The public key that goes, 64 hex digits; `ldp-client site keys` lists them.")
    ],
    new_key: Annotated[Path, typer.Option(help="The private key that comes, from `ldp-client officer key`.")],
    officer_key: Annotated[Path, typer.Option(help="The private key of any officer, the one who goes included.")],
    state: State = HERE,
) -> None:
    """Put one officer's key into the place of another's. Stop the agent first. The centre hears of it in the ledger."""
    site = open_site(state)
    try:
        new = SigningKey(read_secret(new_key))
        rotate_officer(site, public_key(old).hex(), new, SigningKey(read_secret(officer_key)))
        say(
            [
                f"from now on the new key signs, fingerprint {fingerprint(new.public_key)}",
                "what the old key has signed keeps its force",
            ]
        )
    finally:
        site.close()
