"""`ldp-client budget`: what this site's units have spent. For the officer; none of it leaves."""

from __future__ import annotations

import typer

from ldp_client import desk
from ldp_client.cli.console import HERE, Format, Output, State, choose, days, show
from ldp_client.cli.filters import OneCampaign, Since, Until
from ldp_client.cli.typed_patient import Issuer, Patient, asked_for
from ldp_client.privacy.accountant import PrivacyFilter, bound_per_unit
from ldp_client.privacy.loss import NOTHING, PrivacyLoss
from ldp_client.site import Site, open_site
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.evaluation import Asked, asked_id

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _describe() -> None:
    """Epsilon is always per record and per unit."""


@app.command("show")
def show_budget(
    campaign: OneCampaign = None,
    patient: Patient = False,
    issuer: Issuer = "",
    state: State = HERE,
    output: Output = Format.TABLE,
) -> None:
    """Per campaign: records, epsilon per record, the bound per unit, and what remains of the lifetime budget.

    With --patient: what that one patient has spent.
    """
    site = open_site(state)
    try:
        offered = desk.asked(site)
        names = {str(asked_id(one)): one for one in offered}
        only = str(asked_id(choose(offered, campaign))) if campaign else None
        charged = [names[name] for name in site.ledger.campaigns_charged() if name in names]
        if only is not None:
            charged = [one for one in charged if asked_id(one) == only]
        rows = _of_one(site, charged, asked_for(site, issuer)) if patient else _of_all(site, charged)
    finally:
        site.close()
    show(rows, output)


@app.command()
def history(
    campaign: OneCampaign = None,
    since: Since = None,
    until: Until = None,
    patient: Patient = False,
    issuer: Issuer = "",
    state: State = HERE,
    output: Output = Format.TABLE,
) -> None:
    """What was charged on which day of drawing. The bound grows with a campaign's first charge and not again."""
    site = open_site(state)
    try:
        offered = desk.asked(site)
        names = {str(asked_id(one)): one for one in offered}
        only = asked_id(choose(offered, campaign)) if campaign else None
        unit = asked_for(site, issuer) if patient else None
        rows, seen, spent, bound = [], set(), 0, NOTHING
        first, last = days(since, until)
        for drawn, name, charges, micro_epsilon in site.ledger.history(campaign=only, unit=unit):
            spent += micro_epsilon
            if name not in seen and name in names:
                bound += names[name].bound_per_unit
            seen.add(name)
            # What came before the first day asked for is not shown, and is in the sums.
            if not _within(drawn, first, last):
                continue
            so_far = {"spent_so_far": str(PrivacyLoss(spent))} if patient else {"bound_per_unit_so_far": str(bound)}
            known = names.get(name)
            rows.append(
                {
                    "day": drawn or "not drawn",
                    "campaign": name if known is None else known.name,
                    "charges": charges,
                    "epsilon_per_record": str(known.loss_per_record) if isinstance(known, Campaign) else "",
                    **so_far,
                }
            )
    finally:
        site.close()
    show(rows, output)


def _within(drawn: str | None, first: str | None, last: str | None) -> bool:
    if drawn is None:
        return first is None and last is None
    return (first is None or drawn >= first) and (last is None or drawn <= last)


def _of_all(site: Site, charged: list[Asked]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    records = charges = 0
    for campaign in charged:
        sealed, paid = _counts(site, campaign)
        records, charges = records + sealed, charges + paid
        rows.append(
            {
                "campaign": campaign.name,
                "records": sealed,
                "charges": paid,
                "epsilon_per_record": str(campaign.loss_per_record) if isinstance(campaign, Campaign) else "",
                "unit": campaign.unit,
                "bound_per_unit": str(campaign.bound_per_unit),
            }
        )
    bound, budget = bound_per_unit(campaign.bound_per_unit for campaign in charged), _budget(site)
    rows.append(
        {
            "campaign": "all",
            "records": records,
            "charges": charges,
            "epsilon_per_record": "",
            "unit": f"most spent by one: {site.ledger.largest_spent()}",
            "bound_per_unit": f"{bound} of {budget}, {PrivacyFilter(budget, 'unit').remaining(bound)} left",
        }
    )
    return rows


def _counts(site: Site, asked: Asked) -> tuple[int, int]:
    """(records or answers sealed, units or X-rays charged)."""
    if isinstance(asked, Campaign):
        return site.ledger.counts(asked_id(asked))
    return int(site.ledger.is_answered(asked_id(asked))), site.ledger.charged_by_query(asked_id(asked))


def _of_one(site: Site, charged: list[Asked], unit: bytes) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for asked in charged:
        if asked.unit != "patient":
            continue
        if isinstance(asked, Campaign):
            times, loss = site.ledger.charged_in(asked_id(asked), unit), asked.loss_per_record
        else:
            times, loss = int(site.ledger.was_queried(asked_id(asked), unit)), asked.bound_per_unit
        rows.append(
            {
                "campaign": asked.name,
                "charges": times,
                "cap": asked.cap if isinstance(asked, Campaign) else 1,
                "epsilon_per_record": str(loss) if isinstance(asked, Campaign) else "",
                "spent": str(loss * times),
            }
        )
    spent, budget = site.ledger.spent(unit), _budget(site)
    left = PrivacyFilter(budget, "patient").remaining(spent)
    rows.append(
        {
            "campaign": "ever",
            "charges": sum(int(str(row["charges"])) for row in rows),
            "cap": "",
            "epsilon_per_record": "",
            "spent": f"{spent} of {budget}, {left} left",
        }
    )
    return rows


def _budget(site: Site) -> PrivacyLoss:
    policy = site.ledger.policy()
    return policy[1].lifetime_budget if policy else NOTHING
