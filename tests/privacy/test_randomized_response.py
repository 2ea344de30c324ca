"""K-ary randomized response: loss from the threshold, by enumeration; the draw; the estimator; OpenDP beside it."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import opendp.prelude as dp
import pytest
from pydantic import ValidationError

from ldp_client.errors import ParameterError
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.noise import SystemSource, coins, uniform_below
from ldp_client.privacy.randomized_response import Labels, NoisedLabels, RandomizedResponse, decode
from ldp_client.privacy.release_spec import randomized_response
from ldp_client.privacy.spec import RandomizedResponseSpec
from tests.privacy.goodness_of_fit import rejects
from tests.privacy.scripted import Script, word


def of(*labels: int, classes: int = 3) -> Labels:
    return Labels(np.array(labels, dtype=np.int64), classes)


@pytest.mark.parametrize("classes", [2, 3, 10, 256])
@pytest.mark.parametrize("epsilon", ["1/10", "1/2", "1", "2", "8"])
def test_no_answer_tells_two_labels_apart_by_more_than_epsilon(classes: int, epsilon: str) -> None:
    spec = randomized_response(epsilon=epsilon, classes=classes)
    keep = Fraction(spec.threshold, 2**64)
    ratio = keep / ((1 - keep) / (classes - 1))
    assert PrivacyLoss.of_log(ratio) == spec.loss == PrivacyLoss.of(epsilon)
    assert math.log(ratio) == pytest.approx(float(Fraction(epsilon)), rel=1e-12)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_opendp_states_the_same_loss_for_the_same_probability(epsilon: float, classes: int) -> None:
    dp.enable_features("contrib")
    spec = randomized_response(epsilon=Fraction(epsilon), classes=classes)
    keep = spec.threshold / 2**64
    theirs = dp.m.make_randomized_response(list(range(classes)), prob=keep).map(1)
    assert theirs == pytest.approx(float(spec.loss), abs=2e-6)


def test_the_draw_is_the_described_one_byte_for_byte() -> None:
    spec = RandomizedResponseSpec(classes=3, threshold=2**63)
    heads, tails = bytes(8), (2**63).to_bytes(8, "little")
    for shift in (0, 1):
        answers = RandomizedResponse(spec)(of(2, 2), Script(heads, tails, word(shift), word(shift)))
        assert answers.values.tolist() == [2, (2 + shift + 1) % 3]


def test_answers_fit_their_probabilities() -> None:
    spec, count = randomized_response(epsilon=1, classes=4), 200_000
    answers = RandomizedResponse(spec)(of(*([2] * count), classes=4), SystemSource()).values
    observed = np.bincount(answers, minlength=4).astype(float)
    keep = spec.threshold / 2**64
    expected = np.full(4, (1 - keep) / 3) * count
    expected[2] = keep * count
    assert not rejects(observed, expected)
    # Broken twins: odds of .7 and 1.3; the true label changed for another; a lie that may be the truth.
    for factor in (0.7, 1.3):
        odds = keep / (1 - keep) * factor
        assert rejects(observed, np.where(np.arange(4) == 2, odds / (1 + odds), 1 / (1 + odds) / 3) * count)
    assert rejects(observed, np.roll(expected, 1))
    lenient = np.full(4, (1 - keep) / 4) * count
    lenient[2] += keep * count
    assert rejects(observed, lenient)


def test_the_estimate_of_every_label_is_unbiased() -> None:
    spec = randomized_response(epsilon="3/2", classes=5)
    keep = spec.threshold / 2**64
    estimates = decode(np.arange(5), spec)  # one row for each answer
    for label in range(5):
        chance = np.full(5, (1 - keep) / 4)
        chance[label] = keep
        assert chance @ estimates == pytest.approx(np.eye(5)[label], abs=1e-12)
    assert estimates.sum(axis=1) == pytest.approx(np.ones(5))


@pytest.mark.parametrize("threshold", [0, 1, 2**63, 2**64 - 1])
def test_a_coin_is_heads_exactly_below_its_threshold(threshold: int) -> None:
    words = [max(0, threshold - 1), threshold, min(2**64 - 1, threshold + 1), 0, 2**64 - 1]
    source = Script(*(value.to_bytes(8, "little") for value in words))
    assert coins(threshold, len(words), source).tolist() == [value < threshold for value in words]


def test_a_threshold_beyond_64_bits_is_refused() -> None:
    for threshold in (-1, 2**64):
        with pytest.raises(ParameterError, match=f"a threshold is a number of 64 bits; found {threshold}"):
            coins(threshold, 1, SystemSource())


def test_a_uniform_integer_is_drawn_again_beyond_the_last_multiple() -> None:
    bounds = np.array([3, 2**31, 1, 5], dtype=np.int64)
    script = Script(word(2**32 - 1), word(2**32 - 1), word(7), word(2**32 - 1), word(4), word(9))
    # 2^32 - 1 is a multiple of 3 and of 5: both are drawn again, in order.
    assert uniform_below(bounds, script).tolist() == [1, 2**31 - 1, 0, 4]
    assert script.asked == [16, 8]


def test_uniform_integers_fit_the_uniform_distribution() -> None:
    count = 200_000
    drawn = uniform_below(np.full(count, 7, dtype=np.int64), SystemSource())
    observed = np.bincount(drawn, minlength=7).astype(float)
    assert len(observed) == 7
    assert not rejects(observed, np.full(7, count / 7))
    # A broken twin that takes the lowest three bits and folds 7 back onto 0.
    assert rejects(observed, np.array([2, 1, 1, 1, 1, 1, 1]) * count / 8)


@pytest.mark.parametrize("bound", [0, -1, 2**31 + 1])
def test_an_impossible_bound_is_refused(bound: int) -> None:
    with pytest.raises(ParameterError, match=r"a uniform integer needs a bound of 1 to 2\^31"):
        uniform_below(np.array([bound], dtype=np.int64), SystemSource())


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"classes": 1, "threshold": 2**63}, "classes"),
        ({"classes": 257, "threshold": 2**63}, "classes"),
        ({"classes": 2, "threshold": 2**62}, "makes the true answer no likelier than the others"),
        ({"classes": 2, "threshold": 2**64}, "threshold"),
    ],
)
def test_an_impossible_response_is_refused(fields: dict[str, int], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        RandomizedResponseSpec(**fields)


def test_only_labels_of_this_spec_are_randomized() -> None:
    mechanism = RandomizedResponse(randomized_response(epsilon=1, classes=3))
    with pytest.raises(ParameterError, match="only Labels can be randomized; found list"):
        mechanism([0, 1], SystemSource())  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="there are 2 labels, the mechanism expects 3"):
        mechanism(of(0, classes=2), SystemSource())
    with pytest.raises(ParameterError, match=r"labels must lie in 0\.\.2"):
        of(0, 3)
    with pytest.raises(ParameterError, match=r"labels must lie in 0\.\.2"):
        of(-1)
    with pytest.raises(ParameterError, match=r"labels are a \(N,\) array of int64"):
        Labels(np.array([0.0]), 2)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="noised labels come from a mechanism"):
        NoisedLabels(np.zeros(1, dtype=np.int64), mechanism.spec)


@pytest.mark.parametrize("epsilon", ["zero", 0.5])
def test_an_epsilon_that_is_not_exact_is_refused(epsilon: object) -> None:
    with pytest.raises(ParameterError, match="epsilon must be exact"):
        randomized_response(epsilon=epsilon, classes=2)  # type: ignore[arg-type]


def test_the_logarithm_is_rounded_up_and_never_below() -> None:
    assert PrivacyLoss.of_log(Fraction(1)).micro_epsilon == 0
    assert PrivacyLoss.of_log(Fraction(10**40 + 1, 10**40)).micro_epsilon == 1
    for numerator, denominator in ((3, 1), (10**30, 7), (2**64, 2**63 - 1)):
        loss = PrivacyLoss.of_log(Fraction(numerator, denominator))
        assert loss.micro_epsilon - 1 < 1e6 * (math.log(numerator) - math.log(denominator)) <= loss.micro_epsilon
    with pytest.raises(ParameterError, match="a ratio of probabilities is at least 1; found 1/2"):
        PrivacyLoss.of_log(Fraction(1, 2))
