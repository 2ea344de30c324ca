"""Noised histograms: sensitivity by brute force over units, the cap, the loss, the noise."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from pydantic import ValidationError

from ldp_client.errors import ParameterError
from ldp_client.privacy.histogram import CappedCounts, Histogram, NoisedHistogram, count, histogram, noise_variance
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.spec import HistogramSpec
from tests.privacy.goodness_of_fit import refuted


def table(units: list[str], labels: list[int], bins: list[int], cap: int) -> np.ndarray:
    spec = histogram(epsilon=1, classes=2, bins=2, cap=cap)
    return count(spec, units, np.array(labels, dtype=np.int64), np.array(bins, dtype=np.int64)).counts


@pytest.mark.parametrize("cap", [1, 2, 3])
def test_replacing_all_of_one_unit_moves_at_most_twice_the_cap(cap: int) -> None:
    units, worst = ["a", "b", "a", "a"], 0
    places = list(itertools.product(range(2), range(2)))
    for mine in itertools.product(places, repeat=3):
        for theirs in itertools.product(places, repeat=3):
            one, other = (
                table(units, [w[0][0], 1, w[1][0], w[2][0]], [w[0][1], 0, w[1][1], w[2][1]], cap)
                for w in (mine, theirs)
            )
            worst = max(worst, int(np.abs(one - other).sum()))
    assert worst == 2 * cap


def test_a_unit_counts_up_to_its_cap_and_no_further() -> None:
    assert table(["a"] * 5 + ["b"], [1] * 5 + [0], [0] * 5 + [1], 2).tolist() == [[0, 1], [2, 0]]


@pytest.mark.parametrize(("epsilon", "cap"), [("1/2", 1), (2, 3), ("1/3", 7)])
def test_the_loss_is_twice_the_cap_over_the_scale(epsilon: str | int, cap: int) -> None:
    spec = histogram(epsilon=epsilon, classes=2, bins=10, cap=cap)
    assert spec.scale == Fraction(2 * cap) / Fraction(epsilon)
    assert spec.loss == PrivacyLoss.of(epsilon)


def test_the_noise_is_discrete_laplace_of_that_scale() -> None:
    spec = histogram(epsilon="4/5", classes=2, bins=4096, cap=1)
    empty = count(spec, [], np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    drawn = np.concatenate([Histogram(spec)(empty, SystemSource()).counts.ravel() for _ in range(12)])
    assert not refuted(drawn, 2.5)
    assert refuted(drawn, 2.5 * 1.3)
    assert refuted(drawn, 2.5 * 0.7)
    q = math.exp(-1 / 2.5)
    assert noise_variance(spec) == pytest.approx(2 * q / (1 - q) ** 2)


def test_counts_that_nobody_capped_are_not_noised() -> None:
    spec = histogram(epsilon=1, classes=2, bins=2, cap=1)
    with pytest.raises(ParameterError, match="capped counts come from `count`"):
        CappedCounts(np.zeros((2, 2), dtype=np.int64), spec)
    with pytest.raises(ParameterError, match="a noised histogram comes from a mechanism"):
        NoisedHistogram(np.zeros((2, 2), dtype=np.int64), spec)
    with pytest.raises(ParameterError, match="only CappedCounts can be noised; found ndarray"):
        Histogram(spec)(np.zeros((2, 2)), SystemSource())  # type: ignore[arg-type]
    other = histogram(epsilon=1, classes=2, bins=2, cap=2)
    counted = count(other, ["a"], np.array([0]), np.array([0]))
    with pytest.raises(ParameterError, match="the counts were made for another histogram"):
        Histogram(spec)(counted, SystemSource())


def test_what_does_not_belong_together_is_refused() -> None:
    spec = histogram(epsilon=1, classes=2, bins=3, cap=1)
    with pytest.raises(ParameterError, match="found 1, 2 and 2"):
        count(spec, ["a"], np.array([0, 1]), np.array([0, 1]))
    with pytest.raises(ParameterError, match=r"a label must lie in 0\.\.1"):
        count(spec, ["a"], np.array([2]), np.array([0]))
    with pytest.raises(ParameterError, match=r"a bin must lie in 0\.\.2"):
        count(spec, ["a"], np.array([0]), np.array([3]))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"bins": 1}, "no such histogram: (.|\n)*bins"),
        ({"classes": 1}, "no such histogram: (.|\n)*classes"),
        ({"cap": 0}, "no such histogram"),
        ({"epsilon": 0}, "epsilon must be positive"),
        ({"epsilon": 0.5}, "epsilon must be exact"),
        ({"epsilon": "much"}, "no such histogram: must be a number"),
        ({"epsilon": "1/1000000000000000"}, "no such histogram"),
    ],
)
def test_an_impossible_histogram_is_refused(fields: dict[str, object], text: str) -> None:
    wanted: dict[str, object] = {"epsilon": 1, "classes": 2, "bins": 2, "cap": 1, **fields}
    with pytest.raises(ParameterError, match=text):
        histogram(**wanted)  # type: ignore[arg-type]


def test_a_scale_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="scale must lie between 0 and"):
        HistogramSpec(bins=2, classes=2, cap=1, scale=Fraction(0))
