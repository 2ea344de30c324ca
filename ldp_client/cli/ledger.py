"""`ldp-client ledger`: prove it, file it, hand it over."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ldp_client import desk
from ldp_client.cli.console import HERE, Format, Output, State, choose, days, say, show
from ldp_client.cli.filters import OneCampaign, Since, Until
from ldp_client.cli.table_file import FileKind, write_rows
from ldp_client.cli.typed_patient import Issuer, Patient, asked_for
from ldp_client.errors import ConfigurationError
from ldp_client.export import write_export, write_openings
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.site import Site, open_site
from ldp_client.verify import verify_export
from ldp_client.wire.canonical import MAX_INTEGER
from ldp_client.wire.evaluation import Evaluation, asked_id

app = typer.Typer(no_args_is_help=True)
COLUMNS = ("sequence", "kind", "campaign", "epsilon", "charge", "day", "head")


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
def log(
    campaign: OneCampaign = None,
    since: Since = None,
    until: Until = None,
    patient: Patient = False,
    issuer: Issuer = "",
    state: State = HERE,
    output: Output = Format.TABLE,
) -> None:
    """The entries: who may know of them is the officer. Entries carry no time; a charge has the day of its draw."""
    site = open_site(state)
    try:
        show(list(_log(site, campaign, since, until, patient, issuer)), output)
    finally:
        site.close()


@app.command("show")
def show_entry(
    sequence: Annotated[
        int, typer.Argument(help="The entry's number, as `ledger log` prints it.", min=1, max=MAX_INTEGER)
    ],
    state: State = HERE,
    output: Output = Format.TABLE,
) -> None:
    """One entry in full, and whether the centre has receipted it."""
    site = open_site(state)
    try:
        row = next(site.ledger.rows(sequence, sequence), None)
        if row is None:
            raise ConfigurationError(
                f"the ledger has no entry {sequence}; it ends at entry {site.ledger.head().sequence}"
            )
        said = json.loads(row.body)["entry"]
        receipted = "yes" if sequence <= site.ledger.acknowledged() else "no"
        rows = [("entry", sequence), *said.items(), ("head", row.head), ("receipted", receipted)]
        show([{"field": str(name), "value": str(value)} for name, value in rows], output)
    finally:
        site.close()


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="A new file.")],
    kind: Annotated[
        FileKind, typer.Option("--as", help="proof: all of it, as an auditor verifies it.")
    ] = FileKind.PROOF,
    campaign: OneCampaign = None,
    since: Since = None,
    until: Until = None,
    patient: Patient = False,
    issuer: Issuer = "",
    state: State = HERE,
) -> None:
    """Write what an auditor verifies with `python -m ldp_client.verify FILE`, or rows. It names no patient."""
    if kind is FileKind.PROOF and (campaign or since or until or patient):
        raise ConfigurationError("a part of a ledger proves nothing; ask for --as jsonl, csv or parquet with a filter")
    site = open_site(state)
    try:
        if kind is FileKind.PROOF:
            count = write_export(site, out)
        else:
            count = write_rows(_log(site, campaign, since, until, patient, issuer), out, kind, COLUMNS)
    finally:
        site.close()
    say(f"wrote {count} entries to {out}")


@app.command()
def openings(
    out: Annotated[Path, typer.Option(help="A new file, mode 0600.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Really: whoever has this file can tell which records are one patient's.")
    ] = False,
    state: State = HERE,
) -> None:
    """For this hospital's own auditor: what the charges' commitments hide, to prove the cap per patient.

    `python -m ldp_client.openings EXPORT FILE` checks them against an export. The file names no patient, but links all
    records of one; it does not leave the hospital.
    """
    if not yes:
        raise ConfigurationError(
            "the openings link all records of one patient and must not leave the hospital; "
            "say with --yes that they are for its own auditor"
        )
    site = open_site(state)
    try:
        count = write_openings(site, out)
    finally:
        site.close()
    say(f"wrote {count} openings to {out}; check them with python -m ldp_client.openings EXPORT {out}")


def _log(
    site: Site, which: str | None, since: str | None, until: str | None, patient: bool, issuer: str
) -> Iterator[dict[str, object]]:
    offered = desk.asked(site)
    names = {str(asked_id(campaign)): campaign.name for campaign in offered}
    first, last = days(since, until)
    rows = site.ledger.log(
        campaign=asked_id(choose(offered, which)) if which else None,
        unit=asked_for(site, issuer) if patient else None,
        since=first,
        until=last,
    )
    for row in rows:
        yield {
            "sequence": row.sequence,
            "kind": row.kind,
            "campaign": names.get(row.campaign or "", row.campaign),
            "epsilon": None if row.micro_epsilon is None else str(PrivacyLoss(row.micro_epsilon)),
            "charge": row.charge,
            "day": row.day,
            "head": row.head,
        }


@app.command()
def verify(state: State = HERE) -> None:
    """Recompute chain, signatures, losses, budgets, and what is kept beside them. Exit 6 where one does not hold."""
    site = open_site(state)
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "site.jsonl"
            write_export(site, file)
            verified = verify_export(file)
            site.ledger.check_kept()
            say(
                [
                    *verified.lines(),
                    "  what is kept beside the chain (whose each charge was, each record) agrees with it",
                ]
            )
    finally:
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
        campaign = choose(desk.asked(site), which)
        if isinstance(campaign, Evaluation):
            _abandon_query(site, campaign, yes)
            return
        charges = site.ledger.open_charges(asked_id(campaign))
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


def _abandon_query(site: Site, evaluation: Evaluation, yes: bool) -> None:
    query = site.ledger.open_query(asked_id(evaluation))
    if query is None:
        say(f"evaluation {evaluation.name} has no open query; nothing was changed")
        return
    if not yes:
        raise ConfigurationError(
            f"the query of evaluation {evaluation.name} would be given up and stay spent; say so with --yes, "
            "or run the agent again, which takes it up"
        )
    with site.alone():
        site.ledger.abandon_query(query)
    say(f"abandoned the query of evaluation {evaluation.name}")
