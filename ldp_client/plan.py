"""What a campaign would cost, computed without a draw: free, repeatable, and for the officer's eyes."""

from __future__ import annotations

from collections import Counter

from ldp_client.imaging.dataset import DataSet
from ldp_client.ledger.store import SiteLedger
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.wire.campaign import Campaign, Plan, Policy, campaign_id, plan_commitment, policy_id
from ldp_client.wire.canonical import canonical_bytes


def make_plan(campaign: Campaign, policy: Policy, data_set: DataSet, ledger: SiteLedger) -> Plan:
    """Count what would be released now under cap and budget. Touches no pixel and draws nothing."""
    name = campaign_id(campaign)
    charged = ledger.charged_xrays(name)
    fresh = Counter(item.patient for item in data_set.items if item.identity not in charged)
    records = at_cap = without_budget = 0
    for unit, available in fresh.items():
        room = campaign.cap - ledger.charged_in(name, unit)
        left = policy.lifetime_budget.micro_epsilon - ledger.spent(unit).micro_epsilon
        affordable = max(0, left) // campaign.micro_epsilon_per_record
        taken = min(available, room, affordable)
        records += taken
        at_cap += taken == room and available > room
        without_budget += affordable < min(available, room)
    return Plan(
        campaign=name,
        policy=policy_id(policy),
        unit=campaign.unit,
        records=records,
        units=len(fresh),
        units_at_cap=at_cap,
        units_without_budget=without_budget,
        quarantined=len(data_set.quarantined),
        micro_epsilon_per_record=campaign.micro_epsilon_per_record,
        bound_micro_epsilon_per_unit=campaign.bound_per_unit.micro_epsilon,
    )


def file_plan(plan: Plan, ledger: SiteLedger, salt: bytes) -> str:
    """Keep the plan at the site; return the digest that an approval cites, which hides it.

    A bare digest of a few small counts could be tried out by whoever sees it, and the approval leaves the site:
    `salt` is 32 fresh random bytes that stay here, before the plan's canonical bytes.
    """
    commitment = plan_commitment(plan, salt)
    ledger.file_document("plan", commitment, salt + canonical_bytes(plan))
    return commitment


def lines(plan: Plan, campaign: Campaign) -> list[str]:
    """The plan in words."""
    unit = plan.unit
    return [
        f"{plan.records} records of {plan.units} {unit}s would be released; {plan.quarantined} files are set aside",
        f"each costs epsilon {campaign.loss_per_record}, X-ray and label together",
        f"no {unit} spends more than epsilon {PrivacyLoss(plan.bound_micro_epsilon_per_unit)} on this campaign "
        f"({campaign.cap} record{'s' if campaign.cap > 1 else ''} at most)",
        f"{plan.units_at_cap} {unit}s have more X-rays than the cap; "
        f"{plan.units_without_budget} have too little budget left for all of theirs",
    ]
