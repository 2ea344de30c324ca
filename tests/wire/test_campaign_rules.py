"""Campaign and policy: each rule, with the words in which it refuses."""

from __future__ import annotations

import datetime
from fractions import Fraction

import pytest
from pydantic import ValidationError
from site_story import ENCODER, approval, campaign, policy

from ldp_client.errors import PolicyRefusedError
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.wire.campaign import Plan, campaign_id, plan_commitment, policy_id

OTHER = "e" * 64


def costing(epsilon: int | str | Fraction, **changes: object) -> object:
    release = joint_laplace(epsilon=epsilon, classes=2, bottleneck_dimension=2, radius=1)
    return campaign(release=release, micro_epsilon_per_record=release.loss.micro_epsilon, **changes)


def test_a_campaign_states_the_loss_of_its_release_and_the_bound_per_unit() -> None:
    one = campaign()
    assert one.loss_per_record == one.release.loss == PrivacyLoss.of(2)
    assert one.bound_per_unit == PrivacyLoss.of(4)


@pytest.mark.parametrize("micro", [0, 1, 1_999_999, 2_000_001])
def test_a_campaign_that_states_another_loss_than_its_release_has_is_refused(micro: int) -> None:
    text = f"the release costs epsilon 2 per record, the campaign says {PrivacyLoss(micro)}"
    with pytest.raises(ValidationError, match=text):
        campaign(micro_epsilon_per_record=micro)


def test_a_negative_loss_is_refused() -> None:
    with pytest.raises(ValidationError, match="a privacy loss is a whole number of millionths"):
        campaign(micro_epsilon_per_record=-1)


@pytest.mark.parametrize("names", [("normal",), ("normal", "normal"), ("a", "b", "c"), ()])
def test_a_campaign_has_as_many_different_label_names_as_classes(names: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="2 classes need as many different label names"):
        campaign(label_names=names)


def test_where_the_unit_is_one_image_no_image_is_released_twice() -> None:
    with pytest.raises(ValidationError, match="where the unit is one image, the cap is 1: no image is released twice"):
        campaign(unit="image", cap=2)
    assert campaign(unit="image", cap=1).bound_per_unit == PrivacyLoss.of(2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cap", 0),
        ("cap", 1001),
        ("unit", "ward"),
        ("name", "With Capitals"),
        ("name", "a" * 64),
        ("name", "name\n"),
        ("label_names", ("normal", "Mrs. Example")),
        ("purpose", ""),
        ("purpose", "x" * 501),
        ("encoder", "abc"),
        ("encoder", ENCODER + "\n"),
        ("ends", "31.12.2026"),
        ("ends", "2026-02-30"),
        ("ends", "2026-1-1"),
        ("ends", "0000-01-01"),
        ("ends", "٢٠٢٦-01-01"),
        ("schema_version", 2),
    ],
)
def test_a_field_outside_its_range_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        campaign(**{field: value})


def test_an_approval_expires_on_a_day_of_the_calendar() -> None:
    """It is compared with today much later, by software that would stop on a day that is none."""
    with pytest.raises(ValidationError, match="expires"):
        approval(campaign(), policy(), expires="9999-99-99")


def test_a_campaign_ends_after_its_last_day() -> None:
    assert not campaign().ended(datetime.date(2026, 12, 31))
    assert campaign().ended(datetime.date(2027, 1, 1))


# --- the policy


def test_a_campaign_within_the_policy_passes() -> None:
    policy().check(campaign())


def test_an_encoder_that_the_policy_does_not_name_is_refused() -> None:
    text = rf"asks for the encoder {OTHER[:12]}; the policy allows {ENCODER[:12]}\. Install the encoder, compare"
    with pytest.raises(PolicyRefusedError, match=text):
        policy().check(campaign(encoder=OTHER))
    with pytest.raises(PolicyRefusedError, match=f"asks for the encoder {ENCODER[:12]}; the policy allows none"):
        policy(encoders=()).check(campaign())


def test_a_mechanism_that_the_policy_does_not_name_is_refused() -> None:
    with pytest.raises(PolicyRefusedError, match=r"asks for the mechanism joint_discrete_laplace; the policy allows $"):
        policy(mechanisms=()).check(campaign())
    with pytest.raises(ValidationError, match="mechanisms"):
        policy(mechanisms=("gaussian",))


def test_the_default_policy_refuses_the_image_as_unit() -> None:
    text = (
        'protects one image as the unit; the policy allows patient. A unit of "image" promises nothing about a person'
    )
    with pytest.raises(PolicyRefusedError, match=text):
        policy().check(campaign(unit="image", cap=1))
    policy(units=("patient", "image")).check(campaign(unit="image", cap=1))


def test_a_record_dearer_than_the_policy_allows_is_refused_to_the_millionth() -> None:
    with pytest.raises(PolicyRefusedError, match=r"asks epsilon 2\.000001 per record; the policy allows 2$"):
        policy().check(costing("2.000001", cap=1))  # type: ignore[arg-type]
    policy().check(costing(2, cap=1))  # type: ignore[arg-type]


def test_a_campaign_that_may_take_more_of_a_unit_than_its_lifetime_budget_is_refused() -> None:
    with pytest.raises(
        PolicyRefusedError, match=r"may take epsilon 6 of one patient; the policy's lifetime budget is 5$"
    ):
        policy().check(campaign(cap=3))


def test_the_first_rule_that_stands_against_a_campaign_is_the_one_named() -> None:
    with pytest.raises(PolicyRefusedError, match="encoder"):
        policy().check(costing(100, encoder=OTHER, unit="image", cap=1))  # type: ignore[arg-type]


def test_a_bound_that_no_ledger_holds_is_refused_and_not_wrapped() -> None:
    with pytest.raises(ValidationError, match=r"cap \* epsilon is beyond what any ledger can hold"):
        costing(10**6, cap=2)  # type: ignore[arg-type]
    assert costing(10**6, cap=1)  # type: ignore[arg-type]


def test_more_than_epsilon_8_needs_the_officers_explicit_word() -> None:
    with pytest.raises(ValidationError, match="more than epsilon 8 per record needs accept_epsilon_above_8 = true"):
        policy(max_micro_epsilon_per_record=8_000_001)
    assert policy(max_micro_epsilon_per_record=8_000_000)
    assert policy(max_micro_epsilon_per_record=8_000_001, accept_epsilon_above_8=True)


@pytest.mark.parametrize("field", ["serial", "max_micro_epsilon_per_record", "lifetime_micro_epsilon"])
@pytest.mark.parametrize("value", [0, -1, 2**63, 1.0, "1"])
def test_a_policys_numbers_are_positive_and_fit_a_ledger(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        policy(**{field: value})


def test_the_default_policy_is_the_careful_one() -> None:
    careful = policy()
    assert (careful.max_micro_epsilon_per_record, careful.units) == (2_000_000, ("patient",))
    assert not careful.accept_epsilon_above_8


def test_the_ids_of_campaign_policy_and_plan_do_not_collide_and_follow_every_field() -> None:
    plan = Plan(
        campaign=campaign_id(campaign()),
        policy=policy_id(policy()),
        unit="patient",
        records=1,
        units=1,
        units_at_cap=0,
        units_without_budget=0,
        quarantined=0,
        micro_epsilon_per_record=2_000_000,
        bound_micro_epsilon_per_unit=4_000_000,
    )
    assert len({campaign_id(campaign()), policy_id(policy()), plan_commitment(plan, bytes(32))}) == 3
    assert policy_id(policy(serial=2)) != policy_id(policy())
    assert plan_commitment(plan.model_copy(update={"records": 2}), bytes(32)) != plan_commitment(plan, bytes(32))
    assert plan_commitment(plan, bytes(32)) != plan_commitment(plan, b"s" * 32)
