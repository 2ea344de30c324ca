"""`ldp-client patient`: what concerns one patient, who is named on this machine only."""

from __future__ import annotations

from typing import Annotated

import typer

from ldp_client.cli.console import HERE, State, say
from ldp_client.cli.typed_patient import typed_patient
from ldp_client.errors import ConfigurationError
from ldp_client.privacy.accountant import PrivacyFilter
from ldp_client.privacy.loss import NOTHING
from ldp_client.site import open_site

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _describe() -> None:
    """A patient's id is typed in, or read from standard input, hashed at once and written nowhere."""


@app.command()
def merge(
    issuer: Annotated[str, typer.Option(help="Who gave the id that is kept, where DICOM files name an issuer.")] = "",
    joined_issuer: Annotated[str, typer.Option(help="Who gave the other id.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Really: a merge can't be taken back.")] = False,
    state: State = HERE,
) -> None:
    """Count two patient ids as one person from now on: both balances add up. Asks for the kept id, then the other."""
    if not yes:
        raise ConfigurationError("a merge can't be taken back; say with --yes that the two ids are one person's")
    site = open_site(state)
    try:
        kept = typed_patient(site, issuer, "patient id that is kept (not shown): ")
        joined = typed_patient(site, joined_issuer, "patient id that is the same person's (not shown): ")
        # Not while an agent draws for either.
        with site.alone():
            spent = site.ledger.merge(kept, joined)
        policy = site.ledger.policy()
        budget = policy[1].lifetime_budget if policy else NOTHING
        left = PrivacyFilter(budget, "patient").remaining(spent)
        say(f"the two ids are one patient now, who has spent epsilon {spent} of {budget}; {left} left")
    finally:
        site.close()
