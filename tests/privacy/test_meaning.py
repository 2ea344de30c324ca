"""The ceilings that an officer reads."""

from __future__ import annotations

import math

import pytest

from ldp_client.errors import ParameterError
from ldp_client.privacy.loss import NOTHING, PrivacyLoss
from ldp_client.privacy.meaning import best_guess, best_identification, bits, in_words, unit_in_words


@pytest.mark.parametrize(
    ("epsilon", "guess", "one_of_100", "bits_at_most"),
    [(1, 73.11, 2.67, 0.67), (2, 88.08, 6.95, 2.20), (4, 98.20, 35.55, 5.56), (8, 99.97, 96.79, 11.53)],
)
def test_the_ceilings_at_the_usual_epsilons(epsilon: int, guess: float, one_of_100: float, bits_at_most: float) -> None:
    loss = PrivacyLoss.of(epsilon)
    assert 100 * best_guess(loss) == pytest.approx(guess, abs=0.005)
    assert 100 * best_identification(loss, 100) == pytest.approx(one_of_100, abs=0.005)
    assert bits(loss) == pytest.approx(bits_at_most, abs=0.005)


def test_at_epsilon_zero_nothing_is_learnt() -> None:
    assert (best_guess(NOTHING), best_identification(NOTHING, 100), bits(NOTHING)) == (0.5, 0.01, 0.0)


def test_one_of_two_is_the_yes_no_question() -> None:
    for micro in (1, 10**6, 5 * 10**6):
        assert best_identification(PrivacyLoss(micro), 2) == best_guess(PrivacyLoss(micro))


@pytest.mark.parametrize("candidates", [0, -5])
def test_nobody_is_named_among_none(candidates: int) -> None:
    with pytest.raises(ParameterError, match=f"an X-ray is named among 1 or more; found {candidates}"):
        best_identification(PrivacyLoss.of(1), candidates)


def test_the_ceilings_are_what_bayes_gives_the_best_attacker_against_the_worst_mechanism() -> None:
    """Randomized response over N answers reaches the identification bound: no smaller ceiling is true."""
    for epsilon in (0.5, 2.0):
        for candidates in (2, 10):
            kept = math.exp(epsilon) / (math.exp(epsilon) + candidates - 1)
            assert best_identification(PrivacyLoss.of(str(epsilon)), candidates) == pytest.approx(kept)


def test_randomized_response_never_says_more_than_the_bits_bound() -> None:
    for micro in (10**4, 10**6, 3 * 10**6, 10**7):
        p = best_guess(PrivacyLoss(micro))
        entropy = -sum(share * math.log2(share) for share in (p, 1 - p) if share)
        assert 1 - entropy <= bits(PrivacyLoss(micro))


def test_no_epsilon_breaks_the_words() -> None:
    huge = PrivacyLoss(10**12)
    assert best_guess(huge) == best_identification(huge, 10**6) == 1.0
    assert "100.0 %" in in_words(huge, "record")


def test_the_words_round_every_ceiling_up() -> None:
    assert in_words(PrivacyLoss.of(2), "record") == (
        "At epsilon 2 per record, one yes/no fact is guessed right at best 88.1 % of the time instead of 50 %, and the "
        "right one of 100 equally likely X-rays is named at best 7.0 % of the time instead of 1 %. "
        "A record carries at most 2.2 bits."
    )
    words = in_words(PrivacyLoss.of(8), "patient")
    assert "at most 11.6 bits" in words
    assert "8 per patient" in words
    assert "50.0 %" in in_words(NOTHING, "record")


def test_a_unit_with_several_records_is_told_at_the_sum() -> None:
    assert unit_in_words(PrivacyLoss.of(2), 2, "patient") == (
        "All records of one patient together, at most 2, cost epsilon 4: one yes/no fact is guessed right at best "
        "98.3 % of the time, and the right one of 100 equally likely patients is named at best 35.6 % of the time; "
        "at most 5.6 bits."
    )
