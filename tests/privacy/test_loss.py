"""The privacy loss: exact, rounded up, never a float."""

from __future__ import annotations

import decimal
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ldp_client.errors import ParameterError
from ldp_client.privacy.loss import MAX_MICRO_EPSILON, MICRO, NOTHING, PrivacyLoss, exact_fraction


@given(st.fractions(min_value=0, max_value=10**6))
def test_conversion_never_understates_and_overstates_by_less_than_a_millionth(epsilon: Fraction) -> None:
    micro = PrivacyLoss.of(epsilon).micro_epsilon
    assert 0 <= micro - epsilon * MICRO < 1


def test_a_third_is_rounded_up_and_a_decimal_is_exact() -> None:
    assert PrivacyLoss.of(Fraction(1, 3)).micro_epsilon == 333_334
    assert PrivacyLoss.of("0.1").micro_epsilon == 100_000
    assert PrivacyLoss.of("1/3") == PrivacyLoss.of(Fraction(1, 3))
    assert PrivacyLoss.of("0.0000000000001").micro_epsilon == 1
    assert PrivacyLoss.of(8).micro_epsilon == 8_000_000


def test_sums_of_rounded_losses_are_exact_where_floats_are_not() -> None:
    tenth = PrivacyLoss.of("0.1")
    assert tenth + tenth + tenth == PrivacyLoss.of("0.3")
    assert tenth * 3 == PrivacyLoss.of("0.3")
    assert sum([0.1] * 3) != 0.3
    assert NOTHING + tenth == tenth


@pytest.mark.parametrize("epsilon", [0.1, float("nan"), float("inf"), True, None, b"2", decimal.Decimal(1)])
def test_an_inexact_epsilon_is_refused(epsilon: object) -> None:
    with pytest.raises(ParameterError, match=r"epsilon must be (exact: write it in quotes|an exact fraction, not a)"):
        PrivacyLoss.of(epsilon)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "two", "1/0", "1/00", "nan", "inf", "1e6", "0x2", "1_0", " 1", "2\n", "٢", ".5"])
def test_a_text_that_is_no_plain_number_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=r"epsilon must be a number such as 2, 0.5 or 1/3"):
        PrivacyLoss.of(text)


def test_an_exponent_cannot_fill_the_memory() -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match="must be a number such as"):
        exact_fraction("1e999999999")
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("micro", [-1, MAX_MICRO_EPSILON + 1, 1.0, True, "1", None])
def test_a_loss_is_a_whole_number_of_millionths(micro: object) -> None:
    with pytest.raises(ParameterError, match=r"a privacy loss is a whole number of millionths from 0 to 1000000000000"):
        PrivacyLoss(micro)  # type: ignore[arg-type]


def test_arithmetic_cannot_leave_the_range() -> None:
    with pytest.raises(ParameterError, match="whole number of millionths"):
        PrivacyLoss(MAX_MICRO_EPSILON) + PrivacyLoss(1)
    with pytest.raises(ParameterError, match="whole number of millionths"):
        PrivacyLoss(1) * -1
    with pytest.raises(ParameterError, match="whole number of millionths"):
        PrivacyLoss(1) * 1.5  # type: ignore[operator]
    with pytest.raises(ParameterError, match="whole number of millionths"):
        PrivacyLoss.of(-1)


@given(st.integers(min_value=0, max_value=MAX_MICRO_EPSILON))
def test_the_text_is_the_exact_number_and_reads_back(micro: int) -> None:
    loss = PrivacyLoss(micro)
    assert PrivacyLoss.of(str(loss)) == loss
    assert "e" not in str(loss).lower()


def test_the_text_does_not_depend_on_the_decimal_context_of_the_caller() -> None:
    with decimal.localcontext() as context:
        context.prec = 2
        assert str(PrivacyLoss(1_234_567)) == "1.234567"
    assert [str(PrivacyLoss(micro)) for micro in (0, 1, 2_000_000, 10_500_000)] == ["0", "0.000001", "2", "10.5"]


def test_losses_are_ordered_by_their_size() -> None:
    assert PrivacyLoss(1) < PrivacyLoss(2) <= PrivacyLoss(2)
    assert float(PrivacyLoss(2_500_000)) == 2.5
