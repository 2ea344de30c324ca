"""Probabilities from noised histograms: what is fitted, how often its interval holds, whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from judged import BINS, NAMES, an_evaluation, answer
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression

from ldp_client.diagnosis.bundle import ClassifierCard
from ldp_client.diagnosis.classifier import LinearModel
from ldp_client.diagnosis.scoring import default_edges
from ldp_client.errors import ConfigurationError, FormatError, WaitingError
from ldp_client.privacy.histogram import histogram
from ldp_client.privacy.spec import HistogramSpec
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.evaluation import Evaluation
from server.learning import evaluate
from server.learning.calibrate import calibrate, calibrated, curve, stated_errors
from tests.client import evaluations

EDGES = tuple(float(Fraction(edge)) for edge in default_edges(1.0, BINS))


def a_card(classes: int = 2, **changes: object) -> ClassifierCard:
    model = LinearModel(source="bottleneck", mean=tuple(("1.0", f"{row}.0") for row in range(1, classes)))
    return evaluations.a_card(**({"encoder": "e" * 64, "label_names": NAMES[:classes], "model": model} | changes))


def asked(epsilon: str = "4", card: ClassifierCard | None = None) -> Evaluation:
    card = card or a_card()
    return an_evaluation(len(card.label_names), epsilon, classifier=canonical_bytes(card))


def two_labels(
    generator: np.random.Generator, number: int, share: float, apart: float = 1.5
) -> tuple[NDArray[np.float64], ...]:
    labels = (generator.random(number) < share).astype(np.int64)
    return np.stack([np.zeros(number), generator.normal(apart * (labels - 0.5), 1)], axis=1), labels


def test_without_noise_it_is_the_isotonic_fit_of_the_counts() -> None:
    negative = np.array([90, 80, 40, 60, 30, 20, 15, 10])
    positive = np.array([10, 20, 30, 25, 60, 50, 90, 95])
    spec = histogram(epsilon=1000, classes=2, bins=8, cap=1)
    found = curve(negative, positive, spec, 1, 1, 0.95, np.random.default_rng(1))
    assert found is not None
    total = negative + positive
    expected = IsotonicRegression().fit_transform(np.arange(8), positive / total, sample_weight=total)
    assert found.probability == pytest.approx(expected)
    assert found.first.tolist() == list(range(8))
    # The whole curve is right on average: as many positives are promised as were found.
    assert (found.probability * total).sum() == pytest.approx(positive.sum())


def test_bins_that_the_noise_hides_are_joined_to_their_neighbours() -> None:
    negative, positive = np.array([0, 0, 3, 300, 200, 0, 0]), np.array([0, 1, 0, 100, 300, 2, 0])
    spec = histogram(epsilon=1, classes=2, bins=7, cap=1)
    found = curve(negative, positive, spec, 1, 1, 0.95, np.random.default_rng(1))
    assert found is not None
    assert found.first.tolist() == [0, 4]
    assert found.probability == pytest.approx([101 / 404, 302 / 502])


def test_noise_below_nothing_at_the_end_joins_as_many_bins_as_it_takes() -> None:
    spec = histogram(epsilon="0.5", classes=2, bins=5, cap=1)
    negative, positive = np.array([375, 10, 1, 6, -276]), np.array([-14, 38, 446, 131, -186])
    found = curve(negative, positive, spec, 1, 1, 0.95, np.random.default_rng(0))
    assert found is not None
    assert (found.totals > 0).all()
    generator = np.random.default_rng(3)
    for _ in range(200):
        rows = generator.integers(-300, 300, (2, 5)) + generator.integers(0, 300, (2, 1))
        made = curve(*rows, spec, 1, 1, 0.95, np.random.default_rng(0))
        assert made is None or (made.totals > 0).all()


def test_a_clear_end_is_not_pulled_in_by_how_few_xrays_it_has() -> None:
    spec = histogram(epsilon=1000, classes=2, bins=4, cap=1)
    found = curve(np.array([12, 900, 90, 0]), np.array([0, 90, 900, 12]), spec, 1, 1, 0.95, np.random.default_rng(0))
    assert found is not None
    assert found.probability[0] < 0.01
    assert found.probability[-1] > 0.99


def test_no_probability_is_ever_none_or_certain() -> None:
    spec = histogram(epsilon=1000, classes=2, bins=2, cap=1)
    found = curve(np.array([50, 0]), np.array([0, 30]), spec, 1, 1, 0.95, np.random.default_rng(1))
    assert found is not None
    assert found.probability == pytest.approx([1 / 82, 81 / 82])
    assert found.high[0] > 2 / 52
    assert found.low[1] < 1 - 2 / 32


# A nominal 95 % interval of each range, over 100 simulated sites of which each has about ten ranges; seeds are fixed.
TRIALS, NOMINAL, AT_LEAST = 100, 0.95, 0.95


def truth(first: NDArray[np.int64], share: float, apart: float) -> NDArray[np.float64]:
    """P(label 1 | range) of two normal distributions."""
    borders = np.array([-np.inf, *(EDGES[place - 1] for place in first[1:]), np.inf])
    rows = [np.diff(norm.cdf(borders, mean)) for mean in (-apart / 2, apart / 2)]
    return share * rows[1] / (share * rows[1] + (1 - share) * rows[0])


def covered(
    monkeypatch: pytest.MonkeyPatch,
    *,
    units: int,
    cap: int,
    assumed_cap: int,
    claimed: HistogramSpec,
    share: float,
    epsilon: int = 1,
    apart: float = 1.5,
) -> float:
    """Share of the ranges, over all simulated sites, whose interval holds the probability of the population."""
    monkeypatch.setattr(evaluate, "REPEATS", 200)
    generator = np.random.default_rng(7)
    stop = -np.expm1(-float(1 / histogram(epsilon=epsilon, classes=2, bins=BINS, cap=cap).scale))
    held: list[bool] = []
    for trial in range(TRIALS):
        scores, labels = two_labels(generator, units, share, apart)
        rows = []
        for label in (0, 1):
            bins = np.searchsorted(EDGES, scores[labels == label, 1]).repeat(cap)
            noise = generator.geometric(stop, BINS) - generator.geometric(stop, BINS)
            rows.append(np.bincount(bins, minlength=BINS) + noise)
        found = curve(rows[0], rows[1], claimed, assumed_cap, 1, NOMINAL, np.random.default_rng(trial))
        assert found is not None
        right = truth(found.first, share, apart)
        held += ((found.low <= right) & (right <= found.high)).tolist()
    assert len(held) > 5 * TRIALS
    return float(np.mean(held))


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_interval_holds_sampling_and_privacy_noise(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    spec = histogram(epsilon=1, classes=2, bins=BINS, cap=1)
    assert covered(monkeypatch, units=600, cap=1, assumed_cap=1, claimed=spec, share=share) >= AT_LEAST


def test_interval_holds_for_a_classifier_that_is_nearly_always_right(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = histogram(epsilon=4, classes=2, bins=BINS, cap=1)
    good = covered(monkeypatch, units=2000, cap=1, assumed_cap=1, claimed=spec, share=0.5, epsilon=4, apart=3.0)
    assert good >= 0.9  # .64 where each end's own few X-rays were supposed


def test_no_range_is_worse_covered_for_lying_between_small_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "REPEATS", 300)
    spec = histogram(epsilon=1000, classes=2, bins=5, cap=1)
    counts, right = np.array([15, 2000, 2000, 2000, 15]), np.array([0.002, 0.01, 0.3, 0.99, 0.998])
    generator, held = np.random.default_rng(1), np.zeros(5)
    for trial in range(TRIALS):
        positive = generator.binomial(counts, right)
        found = curve(counts - positive, positive, spec, 1, 1, NOMINAL, np.random.default_rng(trial))
        assert found is not None
        assert len(found.first) == len(counts)
        held += (found.low <= right) & (right <= found.high)
    assert (held / TRIALS).min() >= 0.88  # .54 and .60 where the ends' doubt was every range's


def test_interval_holds_with_several_equal_xrays_of_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = histogram(epsilon=1, classes=2, bins=BINS, cap=3)
    assert covered(monkeypatch, units=500, cap=3, assumed_cap=3, claimed=spec, share=0.5) >= AT_LEAST


def test_twins_that_forget_the_noise_or_the_cap_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = histogram(epsilon=1000, classes=2, bins=BINS, cap=1)
    assert covered(monkeypatch, units=600, cap=1, assumed_cap=1, claimed=quiet, share=0.5) < AT_LEAST
    # Without noise, which would hide that the cap is forgotten.
    spec = histogram(epsilon=1000, classes=2, bins=BINS, cap=4)
    forgotten = covered(monkeypatch, units=300, cap=4, assumed_cap=1, claimed=spec, share=0.5, epsilon=1000)
    kept = covered(monkeypatch, units=300, cap=4, assumed_cap=4, claimed=spec, share=0.5, epsilon=1000)
    assert forgotten < AT_LEAST <= kept


def test_sites_are_added_up_and_the_document_says_whose_it_is() -> None:
    evaluation, generator = asked(), np.random.default_rng(3)
    answers = {site: answer(evaluation, *two_labels(generator, 500, 0.3)) for site in ("north", "south")}
    found = calibrate(evaluation, answers)
    assert found is not None
    (pair,) = found.curves
    assert (found.sites, pair.negative, pair.positive) == (2, "normal", "bacterial")
    assert sum(pair.xrays) == pytest.approx(1000, abs=40)
    assert pair.share == pytest.approx(0.3, abs=0.06)
    assert found == calibrate(evaluation, answers)
    # 0.3 e^1.5d / (0.3 e^1.5d + 0.7), a little blurred by the width of the bins.
    for difference, expected in ((-1.0, 0.087), (0.0, 0.3), (1.0, 0.66)):
        one = pair.of(difference)
        assert one.value == pytest.approx(expected, abs=0.15)
        assert one.low < one.value < one.high


def test_three_labels_are_compared_by_pairs() -> None:
    evaluation, generator = asked("1000", a_card(3)), np.random.default_rng(4)
    labels = generator.choice(3, 6000, p=[0.5, 0.3, 0.2])
    scores = generator.normal(size=(6000, 3)) + 1.2 * np.eye(3)[labels]
    found = calibrate(evaluation, {"north": answer(evaluation, scores, labels)})
    assert found is not None
    assert [(one.negative, one.positive) for one in found.curves] == [
        ("normal", "bacterial"),
        ("normal", "viral"),
        ("bacterial", "viral"),
    ]
    for one in found.curves:
        a, b = NAMES.index(one.negative), NAMES.index(one.positive)
        chosen = np.isin(labels, (a, b))
        promised = [one.of(value).value for value in (scores[:, b] - scores[:, a])[chosen]]
        assert np.mean(promised) == pytest.approx(np.mean(labels[chosen] == b), abs=0.01)


def stated(found: Sequence[object]) -> tuple[float, float]:
    (one,) = found
    return one.found, one.by_chance  # type: ignore[attr-defined]


def test_stated_probabilities_are_held_against_a_later_evaluation() -> None:
    evaluation, generator = asked(), np.random.default_rng(5)
    answers = {"north": answer(evaluation, *two_labels(generator, 2000, 0.5))}
    assert stated_errors(evaluation, answers) == []
    card = calibrated(a_card(), b"", evaluation, answers)
    later = asked("4", card)
    found, chance = stated(stated_errors(later, {"south": answer(later, *two_labels(generator, 2000, 0.5))}))
    assert found < chance + 0.03
    # Where labels are otherwise frequent, they do not hold.
    found, chance = stated(stated_errors(later, {"south": answer(later, *two_labels(generator, 2000, 0.1))}))
    assert found > chance + 0.1


def test_only_the_classifier_that_was_judged_gets_the_probabilities() -> None:
    evaluation = asked()
    answers = {"north": answer(evaluation, *two_labels(np.random.default_rng(6), 500, 0.5))}
    card = calibrated(a_card(name="renamed"), b"", evaluation, answers)
    assert card.calibration is not None
    # What was calibrated before is the same classifier still.
    assert calibrated(card, b"", evaluation, answers) == card
    for other, weights in (
        (a_card(model=LinearModel(source="bottleneck", mean=(("1.0", "1.1"),))), b""),
        (a_card(encoder="f" * 64), b""),
        (a_card(label_names=("normal", "viral")), b""),
        (a_card(), b"arrays"),
    ):
        with pytest.raises(ConfigurationError, match="held-out judged another classifier than the one learnt now"):
            calibrated(other, weights, evaluation, answers)


def test_where_noise_hides_how_many_there_are_nothing_is_stated() -> None:
    evaluation = asked("1")
    answers = {"north": answer(evaluation, np.zeros((4, 2)), np.array([0, 1, 0, 1]))}
    assert calibrate(evaluation, answers) is None
    with pytest.raises(ConfigurationError, match="held-out gives no probabilities, since its noise hides how many"):
        calibrated(a_card(), b"", evaluation, answers)


@pytest.mark.parametrize("apart", [0.0, -1.5])
def test_scores_that_say_nothing_or_the_opposite_have_no_probabilities(apart: float) -> None:
    evaluation, generator, stated = asked("1"), np.random.default_rng(7), 0
    for _ in range(20):
        answers = {"north": answer(evaluation, *two_labels(generator, 3000, 0.5, apart))}
        stated += calibrate(evaluation, answers) is not None
    assert stated <= 3  # one in forty by chance
    assert calibrate(evaluation, {"north": answer(evaluation, *two_labels(generator, 3000, 0.5, 1.5))}) is not None


def test_labels_that_are_not_told_apart_have_no_probability_beside_others_that_are() -> None:
    evaluation, generator = asked("1000", a_card(3)), np.random.default_rng(4)
    labels = generator.choice(3, 6000, p=[0.5, 0.3, 0.2])
    scores = generator.normal(size=(6000, 3)) + 1.2 * np.eye(3)[np.minimum(labels, 1)]
    scores[labels == 2, 2] += 1.2
    scores[labels == 1, 2] += 1.2
    found = calibrate(evaluation, {"north": answer(evaluation, scores, labels)})
    assert found is not None
    assert [(one.negative, one.positive) for one in found.curves] == [("normal", "bacterial"), ("normal", "viral")]


def test_no_answer_yet_and_a_foreign_answer_are_told_apart() -> None:
    with pytest.raises(WaitingError, match="no site has answered evaluation held-out yet; gather first"):
        calibrate(asked(), {})
    with pytest.raises(FormatError, match="an answer of 2 rows and 20 bins has 333 bytes; found 3"):
        calibrate(asked(), {"north": b"abc"})
