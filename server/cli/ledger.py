"""`ldp-server ledger`: prove it, file it, hand it over."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ldp_client.cli.console import Format, Output, days, say, show
from ldp_client.cli.filters import OneCampaign, OneSite, Since, Until
from ldp_client.cli.table_file import FileKind, write_rows
from ldp_client.errors import ConfigurationError
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.verify import verify_export
from ldp_client.wire.canonical import MAX_INTEGER
from ldp_client.wire.evaluation import asked_id
from server.cli.opened import HERE, State, check_enrolled, opened
from server.reconcile import compare
from server.store import campaigns, central, log, sites
from server.store.export import write_export
from server.store.queries import incidents as read_incidents

app = typer.Typer(no_args_is_help=True)
COLUMNS = ("site", "sequence", "kind", "campaign", "epsilon", "charge", "day", "head")


@app.command()
def head(state: State = HERE) -> None:
    """A short fingerprint of the whole central ledger, to file on paper."""
    with opened(state) as centre, centre.database.snapshot() as connection:
        _, sequence, at = central.stands_at(connection)
        say(f"entry {sequence}: {'-'.join(at[start : start + 4] for start in range(0, 16, 4))}")


@app.command("log")
def show_log(
    site: OneSite = None,
    campaign: OneCampaign = None,
    since: Since = None,
    until: Until = None,
    state: State = HERE,
    output: Output = Format.TABLE,
) -> None:
    """The central ledger's lines: who joined, what was published, which batches were committed."""
    first, last = days(since, until)
    with opened(state) as centre:
        wanted = None if campaign is None else asked_id(centre.find_asked(campaign))
        with centre.database.snapshot() as connection:
            check_enrolled(connection, site)
            found = list(log.lines(connection, site=site, campaign=wanted, since=first, until=last))
    show(
        [
            {
                "sequence": line.sequence,
                "kind": line.entry.kind,
                "site": line.entry.site,
                "entries": f"{line.entry.first} to {line.entry.sequence}" if line.entry.kind == "batch" else "",
                "refused": len(line.entry.refused) if line.entry.kind == "batch" else "",
                "day": line.day,
                "reference": line.entry.reference[:12],
                "head": line.head,
            }
            for line in found
        ],
        output,
    )


@app.command("show")
def show_entry(
    sequence: Annotated[
        int, typer.Argument(help="The number of a central line, or of a site's entry.", min=1, max=MAX_INTEGER)
    ],
    site: OneSite = None,
    state: State = HERE,
    output: Output = Format.TABLE,
) -> None:
    """One central line in full; with --site, one entry of that site."""
    with opened(state) as centre, centre.database.snapshot() as connection:
        check_enrolled(connection, site)
        ends = central.stands_at(connection)[1] if site is None else sites.find(connection, site).sequence
        found = log.body(connection, sequence, site)
    if found is None:
        whose = "the central ledger" if site is None else f"the ledger of site {site}"
        raise ConfigurationError(f"{whose} has no entry {sequence} here; it ends at entry {ends}")
    said = json.loads(found[0])
    # A central line names a site's head as well: it has two of them.
    own = "head" if site is not None else "central_head"
    rows = [("entry", sequence), *said.get("entry", said).items(), (own, found[1])]
    show([{"field": str(name), "value": str(value)} for name, value in rows], output)


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="A file.")],
    kind: Annotated[
        FileKind, typer.Option("--as", help="proof: all of it, as an auditor verifies it.")
    ] = FileKind.PROOF,
    site: OneSite = None,
    campaign: OneCampaign = None,
    since: Since = None,
    until: Until = None,
    state: State = HERE,
) -> None:
    """Write what an auditor verifies with `python -m ldp_client.verify FILE`, or sites' entries as rows; no record."""
    if kind is FileKind.PROOF and (site or campaign or since or until):
        raise ConfigurationError("a part of a ledger proves nothing; ask for --as jsonl, csv or parquet with a filter")
    first, last = days(since, until)
    with opened(state) as centre:
        wanted = None if campaign is None else asked_id(centre.find_asked(campaign))
        with centre.database.snapshot() as connection:
            check_enrolled(connection, site)
            if kind is FileKind.PROOF:
                count = write_export(connection, centre.keys.signing, out)
            else:
                names = {name: one.name for name, one in campaigns.every(connection, centre.signer).items()}
                found = log.entries(connection, site=site, campaign=wanted, since=first, until=last)
                count = write_rows((_row(entry, names) for entry in found), out, kind, COLUMNS)
    say(f"wrote {count} lines to {out}")


def _row(entry: log.SiteEntry, names: Mapping[str, str]) -> dict[str, object]:
    return {
        "site": entry.site,
        "sequence": entry.sequence,
        "kind": entry.kind,
        "campaign": names.get(entry.campaign or "", entry.campaign),
        "epsilon": None if entry.micro_epsilon is None else str(PrivacyLoss(entry.micro_epsilon)),
        "charge": entry.charge,
        "day": entry.day,
        "head": entry.head,
    }


@app.command()
def reconcile(
    file: Annotated[Path, typer.Argument(help="What the site wrote with `ldp-client ledger export`.")],
    state: State = HERE,
) -> None:
    """Say in words what a site's ledger and this one know of each other. Exit 6 where they contradict."""
    with opened(state) as centre, centre.database.snapshot() as connection:
        say(compare(connection, file, centre.keys.signing.public_key))


@app.command()
def verify(state: State = HERE) -> None:
    """Recompute chains, signatures, losses and budgets of all sites. Exit 6 where something does not hold."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "centre.jsonl"
        with opened(state) as centre, centre.database.snapshot() as connection:
            write_export(connection, centre.keys.signing, file)
        say(verify_export(file).lines())


@app.command()
def incidents(state: State = HERE, output: Output = Format.TABLE) -> None:
    """What was delivered and was not what it claimed to be."""
    with opened(state) as centre, centre.database.snapshot() as connection:
        show([{"site": row.site, "code": row.code, "sha256": row.digest} for row in read_incidents(connection)], output)
