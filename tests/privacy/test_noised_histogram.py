"""Histograms of an evaluation set: the cap is kept, a unit moves 2 cap counts at most, and the noise is exact."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from goodness_of_fit import refuted
from hypothesis import given
from hypothesis import strategies as st

from ldp_client.errors import ParameterError
from ldp_client.privacy.histogram import CappedCounts, Histogram, NoisedHistogram, count, histogram, noise_variance
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.spec import HistogramSpec

SPEC = histogram(epsilon=1, classes=2, bins=4, cap=2)
xrays = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 3)), max_size=12)


def counted(rows: list[tuple[int, int, int]], spec: HistogramSpec = SPEC) -> np.ndarray:
    units, labels, bins = ([row[place] for row in rows] for place in range(3))
    return count(spec, units, np.array(labels, dtype=np.int64), np.array(bins, dtype=np.int64)).counts


@given(xrays, xrays)
def test_one_units_xrays_replaced_move_at_most_twice_the_cap(rows: list[tuple[int, int, int]], new: object) -> None:
    others = [row for row in rows if row[0] != 0]
    replaced = others + [(0, *row[1:]) for row in new]  # type: ignore[attr-defined]
    moved = int(np.abs(counted(rows) - counted(replaced)).sum())
    assert moved <= 2 * SPEC.cap
    assert Fraction(2 * SPEC.cap) / SPEC.scale == 1


def test_the_bound_is_reached_so_half_of_it_would_be_too_little() -> None:
    one, other = counted([(0, 0, 0)] * 5), counted([(0, 1, 3)] * 5)
    assert int(np.abs(one - other).sum()) == 2 * SPEC.cap
    assert one.sum() == SPEC.cap


@pytest.mark.parametrize("epsilon", ["1/3", "1", "4"])
@pytest.mark.parametrize("cap", [1, 3])
def test_the_loss_follows_from_cap_and_scale(epsilon: str, cap: int) -> None:
    spec = histogram(epsilon=epsilon, classes=2, bins=20, cap=cap)
    assert spec.loss == PrivacyLoss.of(epsilon)
    assert HistogramSpec.model_validate_json(spec.model_dump_json()) == spec


def test_the_noise_has_the_scale_of_twice_the_cap_and_a_scale_off_is_told_apart() -> None:
    spec = histogram(epsilon="1/2", classes=100, bins=1000, cap=3)
    nothing = np.array([], dtype=np.int64)
    drawn = Histogram(spec)(count(spec, [], nothing, nothing), SystemSource()).counts.ravel()
    assert not refuted(drawn, 12.0)
    assert refuted(drawn, 6.0)
    assert drawn.var() == pytest.approx(noise_variance(spec), rel=0.05)


def test_counts_of_another_origin_cannot_be_noised_nor_pose_as_noised() -> None:
    nothing = np.array([], dtype=np.int64)
    with pytest.raises(ParameterError, match="capped counts come from `count`"):
        CappedCounts(np.zeros((2, 4), dtype=np.int64), SPEC)
    with pytest.raises(ParameterError, match="a noised histogram comes from a mechanism"):
        NoisedHistogram(np.zeros((2, 4), dtype=np.int64), SPEC)
    with pytest.raises(ParameterError, match="only CappedCounts can be noised; found ndarray"):
        Histogram(SPEC)(np.zeros((2, 4)), SystemSource())  # type: ignore[arg-type]
    other = histogram(epsilon=2, classes=2, bins=4, cap=2)
    with pytest.raises(ParameterError, match="the counts were made for another histogram than the mechanism's"):
        Histogram(SPEC)(count(other, [], nothing, nothing), SystemSource())


@pytest.mark.parametrize(
    ("row", "text"), [((0, 2, 0), r"a label must lie in 0\.\.1"), ((0, 0, 4), r"a bin must lie in 0\.\.3")]
)
def test_a_label_or_bin_that_there_is_not_is_refused(row: tuple[int, int, int], text: str) -> None:
    with pytest.raises(ParameterError, match=text):
        counted([row])


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ParameterError, match="each X-ray has a unit, a label and a bin; found 1, 0 and 0"):
        count(SPEC, [1], np.array([], dtype=np.int64), np.array([], dtype=np.int64))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"epsilon": 0}, "epsilon must be positive; found 0"),
        ({"epsilon": 0.5}, "epsilon must be exact: write it in quotes or as a fraction, not as a float; found 0.5"),
        ({"epsilon": "much"}, "epsilon must be a number such as 2, 0.5 or 1/3; found 'much'$"),
        ({"cap": 0}, "cap must be a whole number of X-rays from 1 on; found 0$"),
        ({"cap": 1.5}, "cap must be a whole number of X-rays from 1 on; found 1.5$"),
        ({"cap": 1001}, "no such histogram: cap: it must be at most 1000; found 1001$"),
        ({"bins": 1}, "no such histogram: bins: it must be at least 2; found 1$"),
        ({"classes": 1}, "no such histogram: classes: it must be at least 2; found 1$"),
        ({"classes": "2"}, "no such histogram: classes: it must be a whole number; found '2'$"),
    ],
)
def test_an_impossible_histogram_is_refused(change: dict[str, object], text: str) -> None:
    with pytest.raises(ParameterError, match=text):
        histogram(**({"epsilon": 1, "classes": 2, "bins": 4, "cap": 2} | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "labels",
    [
        np.array([True, False]),
        np.array([0.0, 1.0]),
        np.array([[0], [1]]),
        np.array([[0, 1], [1, 0]]),
        np.array([0, 1], np.int32),
    ],
)
@pytest.mark.parametrize("which", ["label", "bin"])
def test_what_would_move_more_than_one_count_is_refused(labels: np.ndarray, which: str) -> None:
    spec, fine = histogram(epsilon=1, classes=2, bins=2, cap=1), np.array([0, 1], np.int64)
    with pytest.raises(ParameterError, match=f"each {which} is one int64; found shape"):
        count(spec, ["a", "b"], *((labels, fine) if which == "label" else (fine, labels)))


@pytest.mark.parametrize("unit", [float("nan"), None, 1.5, ("a",), True])
def test_a_unit_that_is_no_name_is_refused(unit: object) -> None:
    spec, places = histogram(epsilon=1, classes=2, bins=2, cap=1), np.array([0, 1], np.int64)
    with pytest.raises(ParameterError, match="a unit is named by bytes, text or a whole number"):
        count(spec, [unit, unit], places, places)  # type: ignore[list-item]
