"""Odometer and filter: sums are exact, and a charge that passes the budget changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ldp_client.errors import BudgetExceededError, ParameterError
from ldp_client.privacy.accountant import PrivacyFilter, bound_per_unit, odometer
from ldp_client.privacy.loss import MAX_MICRO_EPSILON, NOTHING, PrivacyLoss

losses = st.integers(0, 10**9).map(PrivacyLoss)


@given(st.lists(losses, max_size=20))
def test_the_odometer_is_the_sum_in_any_order(charged: list[PrivacyLoss]) -> None:
    assert odometer(charged).micro_epsilon == sum(loss.micro_epsilon for loss in charged)
    assert odometer(reversed(charged)) == odometer(charged) == bound_per_unit(charged)


def test_nothing_charged_is_nothing_spent() -> None:
    assert odometer([]) == bound_per_unit([]) == NOTHING


@given(st.lists(losses, max_size=30), losses)
def test_whatever_is_asked_in_whatever_order_the_filter_never_lets_more_through_than_the_budget(
    requests: list[PrivacyLoss], budget: PrivacyLoss
) -> None:
    rule, spent = PrivacyFilter(budget, "patient"), NOTHING
    for request in requests:
        before = spent
        try:
            spent = rule.admit(spent, request)
        except BudgetExceededError:
            assert before + request > budget
        else:
            assert spent == before + request
        assert spent <= budget
        assert rule.remaining(spent) + spent == budget


def test_the_budget_itself_can_be_spent_to_the_last_millionth_and_not_one_more() -> None:
    rule = PrivacyFilter(PrivacyLoss.of(2), "patient")
    assert rule.admit(PrivacyLoss.of(1), PrivacyLoss.of(1)) == PrivacyLoss.of(2)
    with pytest.raises(BudgetExceededError) as refusal:
        rule.admit(PrivacyLoss(1_500_000), PrivacyLoss(500_001))
    assert str(refusal.value) == (
        "the release asks epsilon 0.500001 of a unit (patient) that has 0.5 left; "
        "lower the campaign's epsilon or leave this patient out"
    )
    assert (refusal.value.unit, refusal.value.requested, refusal.value.remaining) == ("patient", "0.500001", "0.5")
    assert refusal.value.exit_code == 4


@pytest.mark.parametrize("budget", [2.0, float("nan"), 2_000_000, "2", None])
def test_a_budget_that_is_no_loss_is_refused_when_the_filter_is_made(budget: object) -> None:
    with pytest.raises(ParameterError, match=rf"a budget is a PrivacyLoss, in whole millionths; found '?{budget}"):
        PrivacyFilter(budget, "patient")  # type: ignore[arg-type]


def test_what_remains_is_never_negative() -> None:
    assert PrivacyFilter(PrivacyLoss(1), "image").remaining(PrivacyLoss(2)) == NOTHING


def test_a_sum_that_no_ledger_holds_is_refused_rather_than_wrapped() -> None:
    with pytest.raises(ParameterError, match="whole number of millionths"):
        odometer([PrivacyLoss(MAX_MICRO_EPSILON), PrivacyLoss(1)])
