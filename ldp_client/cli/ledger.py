"""`ldp-client ledger`: prove it, file it, hand it over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldp_client import desk
from ldp_client.cli.console import HERE, State, choose, say
from ldp_client.errors import ConfigurationError
from ldp_client.export import write_export
from ldp_client.site import open_site
from ldp_client.verify import verify_export
from ldp_client.wire.campaign import campaign_id

app = typer.Typer(no_args_is_help=True)


@app.command()
def head(state: State = HERE) -> None:
    """A short fingerprint of the whole ledger, to file on paper."""
    site = open_site(state)
    try:
        at = site.ledger.head()
        groups = "-".join(at.head[start : start + 4] for start in range(0, 16, 4))
        say(f"entry {at.sequence}: {groups}")
    finally:
        site.close()


@app.command()
def export(out: Annotated[Path, typer.Option(help="A new file.")], state: State = HERE) -> None:
    """Write everything that an auditor verifies with `python -m ldp_client.verify FILE`; no patient is in it."""
    site = open_site(state)
    try:
        count = write_export(site, out)
    finally:
        site.close()
    say(f"wrote {count} entries to {out}")


@app.command()
def verify(state: State = HERE) -> None:
    """Recompute chain, signatures, losses and budgets of this site's ledger. Exit 6 where something does not hold."""
    site = open_site(state)
    file = site.folder / ".verify.jsonl"
    try:
        file.unlink(missing_ok=True)
        write_export(site, file)
        say(verify_export(file).lines())
    finally:
        file.unlink(missing_ok=True)
        site.close()


@app.command()
def abandon(
    which: Annotated[str, typer.Argument(help="The campaign whose open charges are given up.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Really: the charges stay spent and no record comes of them.")
    ] = False,
    state: State = HERE,
) -> None:
    """Settle charges that a crash left without a record, when their X-rays are gone. They stay spent."""
    site = open_site(state)
    try:
        charges = site.ledger.open_charges(campaign_id(choose(desk.campaigns(site), which)))
        if not yes:
            raise ConfigurationError(
                f"{len(charges)} open charges would be given up and stay spent; say so with --yes, "
                "or run the agent again, which takes them up"
            )
        # Not while an agent draws for them.
        with site.alone():
            for charge in charges:
                site.ledger.abandon(charge)
        say(f"abandoned {len(charges)} charges")
    finally:
        site.close()
