"""Patients of many X-rays: the ledger's sum over X-rays, campaigns and an evaluation, beside a sum by hand."""

from __future__ import annotations

from ldp_client.errors import BudgetExceededError
from ldp_client.ledger.store import ChargeRequest
from ldp_client.privacy.loss import PrivacyLoss
from tests.client.evaluations import RULE, make_evaluation
from tests.client.world import TODAY, MakeWorld, make_campaign

# As in a children's hospital's public set: most patients have one X-ray or two, a few have many.
XRAYS = (1, 1, 1, 2, 2, 3, 4, 7, 26)
FIRST = make_campaign(name="first", unit="patient", cap=2, epsilon=2)
SECOND = make_campaign(name="second", unit="patient", cap=3, epsilon=1)
EVALUATION = make_evaluation()
DAY = TODAY.isoformat()


def unit(patient: int) -> bytes:
    return f"patient {patient}".encode().ljust(32, b".")


def requests(campaign: str) -> list[ChargeRequest]:
    """Every X-ray of everybody, all patients' first ones, then their second ones, and so on."""
    asked = [(xray, patient) for patient, count in enumerate(XRAYS) for xray in range(count)]
    return [
        ChargeRequest(unit(patient), f"{campaign} {patient} {xray}".encode().ljust(32, b"."), b"s" * 32)
        for xray, patient in sorted(asked)
    ]


def test_xrays_campaigns_and_an_evaluation_of_one_patient_are_one_sum(new_world: MakeWorld) -> None:
    """Lifetime budget 8: two X-rays at 2, three at 1, and the evaluation fit, if barely; nothing else does."""
    world = new_world(FIRST, SECOND, count=2, units=("patient",), evaluations=RULE)
    world.evaluations.append(EVALUATION)
    for asked in (FIRST, SECOND, EVALUATION):
        world.approve(asked)
    ledger = world.site.ledger
    for campaign in (FIRST, SECOND):
        answers = ledger.charge(campaign, requests(campaign.name), DAY)
        refused = sum(isinstance(answer, BudgetExceededError) for answer in answers)
        assert refused == sum(max(0, count - campaign.cap) for count in XRAYS)
    after_releases = [2 * min(count, 2) + min(count, 3) for count in XRAYS]
    assert [ledger.spent(unit(patient)) for patient in range(len(XRAYS))] == [
        PrivacyLoss.of(total) for total in after_releases
    ]
    assert max(after_releases) == 7

    # An evaluation costs a patient its bound, however many X-rays of the patient are counted: one entry for all.
    loss = EVALUATION.bound_per_unit
    query = ledger.query(EVALUATION, [unit(patient) for patient in range(len(XRAYS))], b"q" * 32, DAY)
    assert query.units == {unit(patient) for patient in range(len(XRAYS))}
    totals = [PrivacyLoss.of(total) + loss for total in after_releases]
    assert [ledger.spent(unit(patient)) for patient in range(len(XRAYS))] == totals
    assert ledger.largest_spent() == max(totals) == PrivacyLoss.of(7) + loss <= PrivacyLoss.of(8)

    # Who turns out to be the same person has spent what both have.
    assert ledger.merge(unit(0), unit(5)) == totals[0] + totals[5]
    assert ledger.spent(unit(5)) == totals[0] + totals[5]
