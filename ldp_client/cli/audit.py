"""`ldp-client audit`: is what is installed here as private as it claims?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ldp_client.audit.engine import INSTALLED, Engine
from ldp_client.audit.findings import FULL, QUICK, Effort
from ldp_client.audit.report import document, folder, summary, tables, write
from ldp_client.audit.run import audit as run_audit
from ldp_client.audit.run import require_sound
from ldp_client.audit.trials import Trial
from ldp_client.cli.console import Format, Output, say, show


def command(
    engine: Engine = INSTALLED, tried: Sequence[Trial] | None = None, full: Effort = FULL, quick: Effort = QUICK
) -> typer.Typer:
    """The command for one engine; what is installed, unless a test says otherwise."""
    made = typer.Typer()

    @made.command()
    def audit(
        out: Annotated[Path, typer.Option(help="Folder for audit.json and audit.html.")] = Path("build/audit"),
        output: Output = Format.TABLE,
        fewer: Annotated[
            bool, typer.Option("--quick", help="Fewer samples: the same false-alarm rate, a less sharp eye.")
        ] = False,
    ) -> None:
        """Attack the installed mechanisms; compare claimed and measured epsilon. Exit 6 where a claim does not hold."""
        place = folder(out)
        found = run_audit(engine, quick if fewer else full, tried, lambda step: typer.echo(f"{step} ...", err=True))
        data, page = write(found, place)
        if output is Format.JSON:
            say(json.dumps(document(found), indent=2, allow_nan=False))
        else:
            for title, rows in tables(found).items():
                show(rows, output, title)
            say([*summary(found), f"wrote {data} and {page}"])
        require_sound(found)

    return made


app = command()
