"""`ldp-client`: the hospital's commands. Each noun is one file beside this one."""

from __future__ import annotations

from typing import ClassVar

import typer

from ldp_client.cli.console import refusals
from ldp_client.cli.lazy import LazyGroup


class _Nouns(LazyGroup):
    package = "ldp_client.cli"
    nouns: ClassVar[dict[str, str]] = {
        "site": "Create this site, pin its centre, write its enrolment.",
        "officer": "Make the privacy officer's key.",
        "policy": "Sign and show the site's upper bounds.",
        "dataset": "Check the X-rays and their labels: what can be released, what is set aside and why.",
        "campaign": "See what is asked, what it would cost, approve or refuse it.",
        "agent": "Run the agent: reads X-rays, charges, releases; no network.",
        "courier": "Run the courier: carries the spool through Flower; sees no X-ray.",
        "node": "Make the Flower node's key and run the stock SuperNode.",
        "diagnose": "Score X-rays in this hospital with the shared classifier; nothing leaves.",
        "budget": "What was spent and what remains.",
        "audit": "Attack the installed mechanisms; compare claimed and measured epsilon.",
        "patient": "Merge two ids of one patient: both balances add up.",
        "ledger": "Head, verification, export, and charges left open by a crash.",
    }


app = typer.Typer(cls=_Nouns, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _describe() -> None:
    """Chest X-rays leave this hospital only as epsilon-LDP records, each charged before it is drawn."""


def main() -> None:
    """Entry point of `ldp-client`."""
    with refusals("ldp-client"):
        app()
