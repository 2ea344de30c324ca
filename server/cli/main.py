"""`ldp-server`: the aggregation centre's commands. Each noun is one file beside this one."""

from __future__ import annotations

from typing import ClassVar

import typer

from ldp_client.cli.console import refusals
from ldp_client.cli.lazy import LazyGroup


class _Nouns(LazyGroup):
    package = "server.cli"
    nouns: ClassVar[dict[str, str]] = {
        "centre": "Create the centre, show what hospitals pin.",
        "site": "Enrol, list, suspend and resume sites; replace a site's node.",
        "campaign": "Publish, list and close campaigns.",
        "serve": "Run SuperLink, edge and the gathering.",
        "budget": "What every site's units have spent and have left.",
        "ledger": "Head, verification, export, incidents.",
        "train": "Learn a classifier from a campaign's records.",
        "model": "Write the classifier as a signed bundle that hospitals run, show its card.",
        "evaluate": "Ask sites how well a classifier does on their held-out X-rays, and report it.",
        "encoder": "Train a public encoder, show its card.",
        "records": "Write a campaign's records as files: pictures with their labels.",
        "dataset": "Fetch public data sets.",
        "bench": "Measure what a release is worth, and what it gives away.",
    }


app = typer.Typer(cls=_Nouns, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _describe() -> None:
    """Gathers epsilon-LDP records, checks every one against its site's ledger, and learns from them."""


def main() -> None:
    """Entry point of `ldp-server`."""
    with refusals("ldp-server"):
        app()
