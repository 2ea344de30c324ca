"""`ldp-server ledger`: prove it, file it, hand it over."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ldp_client.cli.console import Format, Output, say, show
from ldp_client.verify import verify_export
from server.cli.opened import HERE, State, opened
from server.store import central
from server.store.export import write_export
from server.store.queries import incidents as read_incidents

app = typer.Typer(no_args_is_help=True)


@app.command()
def head(state: State = HERE) -> None:
    """A short fingerprint of the whole central ledger, to file on paper."""
    with opened(state) as centre, centre.database.snapshot() as connection:
        _, sequence, at = central.stands_at(connection)
        say(f"entry {sequence}: {'-'.join(at[start : start + 4] for start in range(0, 16, 4))}")


@app.command()
def export(out: Annotated[Path, typer.Option(help="A file.")], state: State = HERE) -> None:
    """Write everything that an auditor verifies with `python -m ldp_client.verify FILE`; no record is in it."""
    with opened(state) as centre, centre.database.snapshot() as connection:
        count = write_export(connection, centre.keys.signing, out)
    say(f"wrote {count} lines to {out}")


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
