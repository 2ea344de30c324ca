"""What a campaign would cost, computed without a draw: free, repeatable, and for the officer's eyes."""

from __future__ import annotations

from collections import Counter

from ldp_client.evaluation_set import evaluation_items, releasable
from ldp_client.imaging.dataset import DataSet
from ldp_client.ledger.store import SiteLedger
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.wire.campaign import Campaign, Plan, Policy, campaign_id, plan_commitment, policy_id
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.evaluation import Asked, Evaluation, asked_id


def make_plan(asked: Asked, policy: Policy, data_set: DataSet, ledger: SiteLedger) -> Plan:
    """Count what would be released, or counted in an evaluation, now. Touches no pixel and draws nothing."""
    if isinstance(asked, Campaign):
        return _plan_release(asked, policy, data_set, ledger)
    return _plan_evaluation(asked, policy, data_set, ledger)


def _plan_evaluation(evaluation: Evaluation, policy: Policy, data_set: DataSet, ledger: SiteLedger) -> Plan:
    name, loss = asked_id(evaluation), evaluation.bound_per_unit
    done = ledger.is_answered(name)
    held = Counter(item.patient for item in (() if done else evaluation_items(data_set, policy, ledger)))
    able = {unit for unit in held if (ledger.spent(unit) + loss) <= policy.lifetime_budget}
    return Plan(
        campaign=name,
        policy=policy_id(policy),
        unit=evaluation.unit,
        records=sum(min(held[unit], evaluation.cap) for unit in able),
        units=len(able),
        units_at_cap=sum(held[unit] > evaluation.cap for unit in able),
        units_without_budget=len(held) - len(able),
        quarantined=len(data_set.quarantined),
        micro_epsilon_per_record=loss.micro_epsilon,
        bound_micro_epsilon_per_unit=loss.micro_epsilon,
    )


def _plan_release(campaign: Campaign, policy: Policy, data_set: DataSet, ledger: SiteLedger) -> Plan:
    name = campaign_id(campaign)
    charged = ledger.charged_xrays(name)
    items = releasable(data_set, policy, ledger).items
    fresh = Counter(item.patient for item in items if item.identity not in charged)
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


def lines(plan: Plan, asked: Asked) -> list[str]:
    """The plan in words."""
    return _release_lines(plan, asked) if isinstance(asked, Campaign) else _evaluation_lines(plan, asked)


def _evaluation_lines(plan: Plan, evaluation: Evaluation) -> list[str]:
    unit = plan.unit
    return [
        f"{plan.records} X-rays of {plan.units} held-out {unit}s would be counted; "
        f"{plan.quarantined} files are set aside",
        f"each of these {unit}s is charged epsilon {evaluation.bound_per_unit} once, however many of its X-rays count "
        f"({evaluation.cap} at most)",
        "one noised histogram leaves; none of these numbers does",
        f"{plan.units_at_cap} {unit}s have more X-rays than the cap; {plan.units_without_budget} have no budget left "
        "for it and are left out",
    ]


def _release_lines(plan: Plan, campaign: Campaign) -> list[str]:
    unit = plan.unit
    # What this campaign has charged is not counted: of a campaign that is complete, nothing is left.
    return [
        (
            f"{plan.records} records of {plan.units} {unit}s would be released"
            if plan.units
            else "nothing would be released: no X-ray is left here that can be and was not yet"
        )
        + f"; {plan.quarantined} files are set aside",
        f"each costs epsilon {campaign.loss_per_record}, X-ray and label together",
        f"no {unit} spends more than epsilon {PrivacyLoss(plan.bound_micro_epsilon_per_unit)} on this campaign "
        f"({campaign.cap} record{'s' if campaign.cap > 1 else ''} at most)",
        f"{plan.units_at_cap} {unit}s have more X-rays than the cap; "
        f"{plan.units_without_budget} have too little budget left for all of theirs",
    ]
