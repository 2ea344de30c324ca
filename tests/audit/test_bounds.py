"""The binomial bounds against scipy's, and what makes them bounds."""

from __future__ import annotations

import math

import pytest
from scipy.stats import beta, binom, binomtest

from ldp_client.audit.bounds import epsilon_lower_bound, lower_bound, p_value, upper_bound, upper_tail

TRIALS = (1, 7, 100, 5_000, 1_000_000)
SHARES = (0.0, 0.003, 0.25, 0.5, 0.97, 1.0)
CASES = [(trials, round(share * trials)) for trials in TRIALS for share in SHARES]


@pytest.mark.parametrize(("trials", "successes"), CASES)
@pytest.mark.parametrize("probability", [1e-6, 0.01, 0.25, 0.5, 0.9999])
def test_tail_is_scipys(trials: int, successes: int, probability: float) -> None:
    expected = float(binom.sf(successes - 1, trials, probability))
    assert upper_tail(successes, trials, probability) == pytest.approx(expected, rel=1e-7, abs=1e-14)


@pytest.mark.parametrize(("trials", "successes"), CASES)
@pytest.mark.parametrize("alpha", [1e-8, 0.05])
def test_clopper_pearson_is_scipys(trials: int, successes: int, alpha: float) -> None:
    lower = float(beta.ppf(alpha, successes, trials - successes + 1)) if successes else 0.0
    upper = float(beta.isf(alpha, successes + 1, trials - successes)) if successes < trials else 1.0
    assert lower_bound(successes, trials, alpha) == pytest.approx(lower, rel=1e-7)
    assert upper_bound(successes, trials, alpha) == pytest.approx(upper, rel=1e-7)


def test_bound_covers_at_least_as_often_as_it_says() -> None:
    """Summed exactly over all outcomes: the lower bound exceeds the truth with probability alpha at most."""
    trials, alpha = 60, 0.05
    for truth in (0.02, 0.3, 0.5, 0.9):
        wrong = sum(
            float(binom.pmf(seen, trials, truth))
            for seen in range(trials + 1)
            if lower_bound(seen, trials, alpha) > truth
        )
        assert wrong <= alpha


def test_p_value_is_at_least_the_exact_two_sided_one() -> None:
    for successes, probability in ((10, 0.2), (30, 0.2), (50, 0.5), (99, 0.9)):
        assert p_value(successes, 100, probability) >= binomtest(successes, 100, probability).pvalue * 0.5
    assert p_value(50, 100, 0.5) == 1.0
    assert p_value(0, 1_000, 0.5) < 1e-200


def test_epsilon_bound_covers_and_is_nothing_where_nothing_was_seen() -> None:
    assert epsilon_lower_bound(0, 0, 1000, 1e-8) == 0.0
    assert epsilon_lower_bound(10, 500, 1000, 1e-8) == 0.0
    million = epsilon_lower_bound(731_059, 268_941, 1_000_000, 1e-8)
    assert 0.98 < million < 1.0
    assert million < math.log(731_059 / 268_941)
