"""`ldp-server budget`: every site's bound per unit, as its signed ledger proves it."""

from __future__ import annotations

import typer

from ldp_client.cli.console import Format, Output, days, show
from ldp_client.cli.filters import OneCampaign, OneSite, Since, Until
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.wire.evaluation import asked_id
from server.cli.opened import HERE, State, check_enrolled, opened
from server.store import campaigns, log
from server.store.queries import budgets

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _describe() -> None:
    """Epsilon is always per record and per unit."""


@app.command("show")
def show_budgets(
    site: OneSite = None,
    state: State = HERE,
    output: Output = Format.TABLE,
) -> None:
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
                for budget in budgets(connection, site)
            ],
            output,
        )


@app.command()
def history(
    site: OneSite = None,
    campaign: OneCampaign = None,
    since: Since = None,
    until: Until = None,
    state: State = HERE,
    output: Output = Format.TABLE,
) -> None:
    """What each batch charged for which campaign, and the site's bound per unit after it. The day is the batch's."""
    first, last = days(since, until)
    with opened(state) as centre:
        wanted = None if campaign is None else asked_id(centre.find_asked(campaign))
        with centre.database.snapshot() as connection:
            check_enrolled(connection, site)
            names = {name: one.name for name, one in campaigns.every(connection, centre.signer).items()}
            found = log.charged(connection, site=site, campaign=wanted, since=first, until=last)
    show(
        [
            {
                "site": one.site,
                "day": one.day,
                "central_entry": one.central_sequence,
                "campaign": names.get(one.campaign, one.campaign),
                "charges": one.charges,
                "bound_per_unit": str(PrivacyLoss(one.bound)),
            }
            for one in found
        ],
        output,
    )
