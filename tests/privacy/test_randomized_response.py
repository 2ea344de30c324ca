"""Randomized response: enumerated through the code, decoded without bias, and refused where it makes no sense."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import opendp.prelude as dp
import pytest
from goodness_of_fit import rejects
from scripted import Script, word

from ldp_client.errors import ParameterError
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.randomized_response import Labels, NoisedLabels, RandomizedResponse, decode
from ldp_client.privacy.release_design import randomized_response
from ldp_client.privacy.spec import RandomizedResponseSpec


def enumerated(spec: RandomizedResponseSpec, label: int) -> list[Fraction]:
    """The chance of each answer, by driving the mechanism through both coins and every shift, twice round."""
    chances = [Fraction(0)] * spec.classes
    keep, others = Fraction(spec.threshold, 2**64), spec.classes - 1
    for heads, chance in ((True, keep), (False, 1 - keep)):
        coin = (spec.threshold - 1 if heads else spec.threshold).to_bytes(8, "little")
        for shift in range(2 * others):
            drawn = RandomizedResponse(spec)(Labels(np.array([label]), spec.classes), Script(coin, word(shift)))
            chances[int(drawn.values[0])] += chance / (2 * others)
    return chances


@pytest.mark.parametrize("classes", [2, 3, 14])
@pytest.mark.parametrize("epsilon", ["1/100", "1", "8"])
def test_every_coin_and_shift_tried_the_worst_ratio_is_the_stated_loss(classes: int, epsilon: str) -> None:
    spec = randomized_response(epsilon=epsilon, classes=classes)
    rows = [enumerated(spec, label) for label in range(classes)]
    assert all(sum(row) == 1 for row in rows)
    assert all(row[label] == Fraction(spec.threshold, 2**64) for label, row in enumerate(rows))
    worst = max(a / b for one in rows for other in rows for a, b in zip(one, other, strict=True))
    assert PrivacyLoss.of_log(worst) == spec.loss <= PrivacyLoss.of(epsilon)


@pytest.mark.parametrize("classes", [2, 3, 14])
def test_decoding_undoes_the_mechanism_exactly_and_with_another_threshold_it_does_not(classes: int) -> None:
    spec = randomized_response(epsilon=1, classes=classes)
    chances = np.array([[float(chance) for chance in enumerated(spec, label)] for label in range(classes)])
    np.testing.assert_allclose(chances @ decode(np.arange(classes), spec), np.eye(classes), atol=1e-12)
    twin = randomized_response(epsilon="1.1", classes=classes)
    assert np.abs(chances @ decode(np.arange(classes), twin) - np.eye(classes)).max() > 0.01


def test_answers_fit_their_probabilities_and_those_of_another_epsilon_do_not() -> None:
    """Chi-square at 1e-9."""
    spec, count = randomized_response(epsilon=1, classes=3), 50_000
    labels = Labels(np.ones(count, dtype=np.int64), 3)
    expected = [float(chance) * count for chance in enumerated(spec, 1)]
    for tried, wrong in ((spec, False), (randomized_response(epsilon="1.2", classes=3), True)):
        answers = RandomizedResponse(tried)(labels, SystemSource()).values
        assert rejects(np.bincount(answers, minlength=3).astype(float), expected) is wrong


@pytest.mark.parametrize("classes", [2, 3, 14])
@pytest.mark.parametrize("epsilon", ["1/2", "1", "4"])
def test_the_loss_is_opendps_map_rounded_up_to_a_millionth(classes: int, epsilon: str) -> None:
    dp.enable_features("contrib")
    spec = randomized_response(epsilon=epsilon, classes=classes)
    theirs = dp.m.make_randomized_response([str(k) for k in range(classes)], prob=spec.threshold / 2**64).map(1)
    # Their probability is the nearest float: its last digit moves epsilon by under 1e-13.
    assert theirs - 1e-12 <= float(spec.loss) <= theirs + 1e-6 + 1e-12


@pytest.mark.parametrize("values", [np.array([-1]), np.array([3]), np.array([0, 3])])
def test_labels_outside_their_classes_do_not_exist(values: np.ndarray) -> None:
    with pytest.raises(ParameterError, match=r"^labels must lie in 0\.\.2$"):
        Labels(values, 3)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.array([0.0]), r"shape \(1,\) of float64"),
        (np.array([[0]]), r"shape \(1, 1\) of int64"),
        (np.array([0], dtype=np.int32), r"shape \(1,\) of int32"),
        ([0], "list"),
    ],
)
def test_labels_are_a_row_of_int64(values: Any, found: str) -> None:
    with pytest.raises(ParameterError, match=rf"^labels are a \(N,\) array of int64, .*; found {found}$"):
        Labels(values, 3)


def test_labels_cannot_be_changed_into_others_afterwards() -> None:
    mine = np.array([0, 1])
    labels = Labels(mine, 2)
    mine[0] = 7
    assert labels.values.tolist() == [0, 1]
    with pytest.raises(ValueError, match="read-only"):
        labels.values[0] = 7


def test_only_labels_of_this_spec_are_taken_and_nothing_else_poses_as_an_answer() -> None:
    spec = randomized_response(epsilon=1, classes=3)
    with pytest.raises(ParameterError, match="only Labels can be randomized; found ndarray"):
        RandomizedResponse(spec)(np.array([1]), SystemSource())  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="there are 2 labels, the mechanism expects 3"):
        RandomizedResponse(spec)(Labels(np.array([1]), 2), SystemSource())
    with pytest.raises(ParameterError, match="noised labels come from a mechanism"):
        NoisedLabels(np.array([1]), spec)


@pytest.mark.parametrize(("classes", "threshold"), [(2, 2**63), (2, 1), (3, 2**64 // 3), (4, 2**62)])
def test_a_threshold_that_says_nothing_or_the_opposite_is_refused(classes: int, threshold: int) -> None:
    with pytest.raises(ValueError, match=f"one of 1 of {classes} with probability {threshold} / 2"):
        RandomizedResponseSpec(classes=classes, threshold=threshold)


def test_the_least_advantage_is_decoded_by_a_finite_number() -> None:
    spec = RandomizedResponseSpec(classes=2, threshold=2**63 + 1)
    assert np.isfinite(decode(np.array([0, 1]), spec)).all()
