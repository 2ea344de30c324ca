"""Coins of a 64-bit threshold and uniform integers: exact at every edge, with bytes of our choice."""

from __future__ import annotations

import numpy as np
import pytest
from goodness_of_fit import rejects
from scripted import Script, word

from ldp_client.errors import ParameterError
from ldp_client.privacy.noise import SystemSource, coins, uniform_below

EDGES = (0, 1, 2, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1)


@pytest.mark.parametrize("threshold", [0, 1, 2**63, 2**64 - 1])
def test_a_coin_is_heads_for_exactly_the_words_below_its_threshold(threshold: int) -> None:
    """So of 2^64 equally likely words, exactly `threshold` are heads."""
    source = Script(*(edge.to_bytes(8, "little") for edge in EDGES))
    assert coins(threshold, len(EDGES), source).tolist() == [edge < threshold for edge in EDGES]
    assert source.asked == [8 * len(EDGES)]


@pytest.mark.parametrize("threshold", [-1, 2**64])
def test_a_threshold_beyond_64_bits_is_refused(threshold: int) -> None:
    with pytest.raises(ParameterError, match=f"a threshold is a number of 64 bits; found {threshold}"):
        coins(threshold, 1, Script())


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 255, 1024, 786, 2**31 - 1, 2**31])
def test_words_from_the_last_multiple_on_are_drawn_again(bound: int) -> None:
    limit = 2**32 // bound * bound
    last = Script(word(limit - 1))
    assert uniform_below(np.array([bound]), last).tolist() == [bound - 1]
    if limit < 2**32:
        source = Script(word(limit), word(2**32 - 1), word(bound + 1))
        assert uniform_below(np.array([bound]), source).tolist() == [1]
        assert source.asked == [4, 4, 4]


def test_only_the_rejected_are_drawn_again_and_each_keeps_its_place() -> None:
    source = Script(word(5), word(2**32 - 1), word(6), word(1))
    assert uniform_below(np.array([4, 3, 4]), source).tolist() == [1, 1, 2]
    assert source.asked == [12, 4]


def test_uniform_integers_fit_and_those_with_a_modulus_of_a_byte_do_not() -> None:
    """Chi-square at 1e-9; the twin takes a byte modulo 100, where 0 .. 55 come up more often."""
    count, source = 100_000, SystemSource()
    expected = np.full(100, count / 100)
    drawn = uniform_below(np.full(count, 100), source)
    assert not rejects(np.bincount(drawn, minlength=100).astype(float), expected)
    twin = np.frombuffer(source(count), dtype="u1") % 100
    assert rejects(np.bincount(twin, minlength=100).astype(float), expected)


@pytest.mark.parametrize("bounds", [[0], [-1], [2**31 + 1], [3, 0]])
def test_a_bound_that_has_no_integers_below_is_refused(bounds: list[int]) -> None:
    with pytest.raises(ParameterError, match=r"a uniform integer needs a bound of 1 to 2\^31"):
        uniform_below(np.array(bounds), Script())
