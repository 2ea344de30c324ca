"""`ldp-client budget`: what this site's units have spent. For the officer; none of it leaves."""

from __future__ import annotations

import typer

from ldp_client import desk
from ldp_client.cli.console import HERE, Format, Output, State, show
from ldp_client.privacy.accountant import PrivacyFilter, bound_per_unit
from ldp_client.privacy.loss import NOTHING
from ldp_client.site import open_site
from ldp_client.wire.campaign import campaign_id

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _describe() -> None:
    """Epsilon is always per record and per unit."""


@app.command("show")
def show_budget(state: State = HERE, output: Output = Format.TABLE) -> None:
    """Per campaign: records, epsilon per record, the bound per unit, and what remains of the lifetime budget."""
    site = open_site(state)
    try:
        offered = {str(campaign_id(campaign)): campaign for campaign in desk.campaigns(site)}
        policy = site.ledger.policy()
        budget = policy[1].lifetime_budget if policy else NOTHING
        charged = [offered[name] for name in site.ledger.campaigns_charged() if name in offered]
        bound = bound_per_unit(campaign.bound_per_unit for campaign in charged)
        rows = []
        for campaign in charged:
            records, charges = site.ledger.counts(campaign_id(campaign))
            rows.append(
                {
                    "campaign": campaign.name,
                    "records": records,
                    "charges": charges,
                    "epsilon_per_record": str(campaign.loss_per_record),
                    "unit": campaign.unit,
                    "bound_per_unit": str(campaign.bound_per_unit),
                }
            )
        rows.append(
            {
                "campaign": "all",
                "records": sum(int(str(row["records"])) for row in rows),
                "charges": sum(int(str(row["charges"])) for row in rows),
                "epsilon_per_record": "",
                "unit": f"most spent by one: {site.ledger.largest_spent()}",
                "bound_per_unit": f"{bound} of {budget}, {PrivacyFilter(budget, 'unit').remaining(bound)} left",
            }
        )
    finally:
        site.close()
    show(rows, output)
