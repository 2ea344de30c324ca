"""AUC from noised histograms: what is estimated, how often its interval holds, and when nothing is stated."""

from __future__ import annotations

from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from judged import BINS, NAMES, an_evaluation, answer
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ldp_client.diagnosis.scoring import binned, decimal_edge, default_edges, pair_rows
from ldp_client.errors import FormatError, WaitingError
from ldp_client.privacy.histogram import histogram
from ldp_client.privacy.spec import HistogramSpec
from server.learning import evaluate
from server.learning.evaluate import auc, interval, report


def test_without_noise_it_is_the_auc_of_the_binned_scores() -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, 400)
    bins = np.clip(generator.normal(4 + 2 * labels, 2), 0, 9).astype(np.int64)
    negative, positive = (np.bincount(bins[labels == label], minlength=10) for label in (0, 1))
    assert float(auc(negative, positive)) == pytest.approx(roc_auc_score(labels, bins))


def test_each_pair_of_three_classes_is_ranked_by_its_own_difference() -> None:
    evaluation = an_evaluation(classes=3, epsilon="1000")
    generator = np.random.default_rng(4)
    labels = generator.integers(0, 3, 3000)
    scores = generator.normal(size=(3000, 3)) + 1.2 * np.eye(3)[labels]
    rows = report(evaluation, {"north": answer(evaluation, scores, labels)})
    assert [(one.negative, one.positive) for one in rows[:3]] == [
        ("normal", "bacterial"),
        ("normal", "viral"),
        ("bacterial", "viral"),
    ]
    for one in rows[:3]:
        a, b = NAMES.index(one.negative), NAMES.index(one.positive)
        chosen = np.isin(labels, (a, b))
        exact = roc_auc_score(labels[chosen] == b, scores[chosen, b] - scores[chosen, a])
        assert one.auc == pytest.approx(exact, abs=0.01)
        assert one.xrays == pytest.approx((np.sum(labels == a), np.sum(labels == b)), abs=2)


def test_a_score_that_is_no_number_counts_in_the_last_bin_and_never_raises() -> None:
    rows, bins = binned(np.array([[np.nan, 0.0], [0.0, np.inf], [0.0, -np.inf]]), np.array([0, 1, 1]), ("-1", "1"))
    assert rows.tolist() == [[0], [1], [1]]
    assert bins.tolist() == [[2], [2], [0]]


def test_a_score_on_a_border_belongs_to_the_upper_bin() -> None:
    assert binned(np.array([[0.0, 0.5]]), np.array([1]), ("0", "0.5", "2"))[1].tolist() == [[2]]


def test_default_borders_ascend_and_are_symmetric() -> None:
    edges = [Fraction(edge) for edge in default_edges(1.0, BINS)]
    assert edges == sorted(set(edges))
    assert edges == [-edge for edge in reversed(edges)]
    assert len(edges) == BINS - 1
    assert [decimal_edge(value) for value in (-1e-12, 1.0, -0.25)] == ["0", "1", "-0.25"]


def test_rows_are_the_ordered_pairs() -> None:
    assert pair_rows(2) == [(0, 1), (1, 0)]
    assert len(set(pair_rows(5))) == 20


# A nominal 95 % interval over 300 simulated sites; at a true coverage of 0.93 fewer than 261 (0.87) of 300 has
# probability 2e-4 (binomial). Seeds are fixed, so it does not flake; the twin says that it can notice.
TRIALS, AT_LEAST = 300, 261


def noised(generator: np.random.Generator, spec: HistogramSpec, scores: NDArray[np.float64]) -> NDArray[np.int64]:
    edges = [float(Fraction(edge)) for edge in default_edges(1.0, BINS)]
    counts = np.bincount(np.searchsorted(edges, scores), minlength=BINS)
    stop = -np.expm1(-float(1 / spec.scale))
    noise = generator.geometric(stop, BINS) - generator.geometric(stop, BINS)
    found: NDArray[np.int64] = (counts + noise).astype(np.int64)
    return found


def covered(
    monkeypatch: pytest.MonkeyPatch,
    *,
    units: int,
    cap: int,
    assumed_cap: int,
    claimed: HistogramSpec,
    epsilon: int = 1,
    apart: float = 1.5,
) -> int:
    """How many of the simulated sites' intervals hold the AUC of the population, of scores as they are."""
    monkeypatch.setattr(evaluate, "REPEATS", 400)
    generator = np.random.default_rng(5)
    real = histogram(epsilon=epsilon, classes=2, bins=BINS, cap=cap)
    truth, held = NormalDist().cdf(apart / 2**0.5), 0
    for trial in range(TRIALS):
        # All X-rays of a unit have one score: the most that a cap allows.
        rows = [noised(generator, real, generator.normal(mean, 1, units).repeat(cap)) for mean in (0, apart)]
        found = interval(rows[0], rows[1], claimed, assumed_cap, 1, 0.95, np.random.default_rng(trial))
        assert found[1] is not None
        assert found[2] is not None
        assert found[1] < found[2]
        held += found[1] <= truth <= found[2]
    return held


def test_interval_holds_sampling_and_privacy_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = histogram(epsilon=1, classes=2, bins=BINS, cap=1)
    assert covered(monkeypatch, units=200, cap=1, assumed_cap=1, claimed=spec) >= AT_LEAST


def test_interval_holds_with_several_equal_xrays_of_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = histogram(epsilon=1, classes=2, bins=BINS, cap=3)
    assert covered(monkeypatch, units=150, cap=3, assumed_cap=3, claimed=spec) >= AT_LEAST


@pytest.mark.parametrize("apart", [2.5, 3.0])  # areas of .961 and .983
@pytest.mark.parametrize(("units", "epsilon"), [(30, 8), (30, 16), (50, 16), (100, 16)])
def test_interval_holds_where_nearly_all_are_ranked_right(
    monkeypatch: pytest.MonkeyPatch, units: int, epsilon: int, apart: float
) -> None:
    spec = histogram(epsilon=epsilon, classes=2, bins=BINS, cap=1)
    held = covered(monkeypatch, units=units, cap=1, assumed_cap=1, claimed=spec, epsilon=epsilon, apart=apart)
    assert held >= AT_LEAST


def test_twin_that_forgets_the_privacy_noise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = histogram(epsilon=1000, classes=2, bins=BINS, cap=1)
    assert covered(monkeypatch, units=200, cap=1, assumed_cap=1, claimed=quiet) < AT_LEAST


def test_twin_that_forgets_that_a_unit_has_several_xrays_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = histogram(epsilon=1000, classes=2, bins=BINS, cap=4)
    assert covered(monkeypatch, units=60, cap=4, assumed_cap=1, claimed=spec) < AT_LEAST


def test_several_sites_are_reported_one_by_one_and_together() -> None:
    evaluation = an_evaluation(epsilon="4")
    generator = np.random.default_rng(6)
    labels = generator.integers(0, 2, 400)
    scores = np.stack([np.zeros(400), generator.normal(1.5 * labels - 0.7, 1)], axis=1)
    answers = {site: answer(evaluation, scores, labels) for site in ("south", "north")}
    north, south, together = report(evaluation, answers)
    assert (north.site, south.site, together.site) == ("north", "south", None)
    assert together.xrays == tuple(a + b for a, b in zip(north.xrays, south.xrays, strict=True))
    assert together.error is not None
    assert north.error is not None
    assert together.error < north.error
    assert together.noise_error is not None
    assert together.noise_error < together.error
    assert report(evaluation, answers) == [north, south, together]


def test_where_noise_hides_how_many_there_are_no_auc_is_stated() -> None:
    evaluation = an_evaluation(epsilon="1")
    (one, together) = report(evaluation, {"north": answer(evaluation, np.zeros((4, 2)), np.array([0, 1, 0, 1]))})
    assert (one.auc, one.low, one.high, one.error, one.noise_error) == (None,) * 5
    assert together.auc is None


def test_no_answer_yet_and_a_foreign_answer_are_told_apart() -> None:
    evaluation = an_evaluation()
    with pytest.raises(WaitingError, match="no site has answered evaluation held-out yet; gather first"):
        report(evaluation, {})
    with pytest.raises(FormatError, match="an answer of 2 rows and 20 bins has 333 bytes; found 3"):
        report(evaluation, {"north": b"abc"})
