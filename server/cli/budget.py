"""`ldp-server budget`: every site's bound per unit, as its signed ledger proves it."""

from __future__ import annotations

import typer

from ldp_client.cli.console import Format, Output, show
from server.cli.opened import HERE, State, opened
from server.store.queries import budgets

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _describe() -> None:
    """Epsilon is always per record and per unit."""


@app.command("show")
def show_budgets(state: State = HERE, output: Output = Format.TABLE) -> None:
    """Per site: entries, records, epsilon per record, the bound per unit spent, the agreed budget, what remains."""
    with opened(state) as centre, centre.database.snapshot() as connection:
        show(
            [
                {
                    "site": budget.site,
                    "entries": budget.entries,
                    "records": budget.records,
                    "refused": budget.refused,
                    "epsilon_per_record": str(budget.per_record),
                    "unit": budget.unit,
                    "spent_per_unit": str(budget.spent),
                    "agreed_per_unit": str(budget.agreed),
                    "remaining_per_unit": str(budget.remaining),
                }
                for budget in budgets(connection)
            ],
            output,
        )
