"""The exact sampler: its distribution at awkward scales, its coins digit by digit, its rare branches by script."""

from __future__ import annotations

import decimal
import math
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from goodness_of_fit import ALPHA, DEVIATION, SAMPLES, below, edges_for, refuted, rejects
from numpy.typing import NDArray
from scipy.stats import chi2
from scripted import Script, word

from ldp_client.errors import ParameterError
from ldp_client.privacy.noise import BinaryExpansion, SystemSource, _tables, bernoulli, discrete_laplace, shuffled

# 2.5 and 10: another library was biased there once. 1000/3 and 12345.678: no binary fraction.
SCALES = [Fraction(text) for text in ("0.3", "1", "2.5", "10", "12.5", "1000/3", "12345.678")]


def draw(scale: Fraction) -> NDArray[np.int64]:
    return discrete_laplace(scale, SAMPLES, SystemSource())


# --- the distribution


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_the_draws_have_the_discrete_laplace_distribution(scale: Fraction) -> None:
    assert not refuted(draw(scale), float(scale))


@pytest.mark.parametrize("factor", [1 - DEVIATION, 1 + DEVIATION])
@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_twin_whose_scale_is_off_is_rejected(scale: Fraction, factor: float) -> None:
    assert refuted(draw(scale * Fraction(factor)), float(scale))


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_twin_with_one_sign_flipped_is_rejected(scale: Fraction) -> None:
    """Small magnitudes lose their sign: up to a quarter of the scale, or 1."""
    sample = draw(scale)
    lost = np.abs(sample) <= max(int(scale) // 4, 1)
    assert refuted(np.where(lost, np.abs(sample), sample), float(scale))


def test_a_twin_that_draws_zero_twice_as_often_is_rejected() -> None:
    """What comes of drawing a sign and a geometric magnitude without the coin N: the classic fault."""
    scale = Fraction(5, 2)
    sample = np.where(draw(scale) < 0, -1, 1) * np.maximum(np.abs(draw(scale)) - 1, 0)
    assert refuted(sample, float(scale))


def test_the_bins_hold_all_the_mass_and_are_those_of_the_probability_mass_function() -> None:
    for scale in (float(scale) for scale in SCALES):
        q = math.exp(-1 / scale)
        edges = edges_for(scale)
        cumulative = below(edges, scale)
        assert np.all(np.diff(cumulative) > 0)
        if scale < 20:
            mass = (1 - q) / (1 + q) * q ** np.abs(edges[1:])
            assert np.allclose(np.diff(cumulative), mass, atol=1e-13)


def test_the_variance_is_that_of_the_discrete_distribution_and_not_of_the_continuous_one() -> None:
    scale = Fraction(1, 2)
    q = math.exp(-2)
    right, wrong = 2 * q / (1 - q) ** 2, 2 * 0.5**2
    squares = draw(scale).astype(np.float64) ** 2
    # 6.11 standard errors: two-sided ALPHA of a normal mean.
    error = 6.11 * squares.std() / math.sqrt(SAMPLES)
    assert abs(squares.mean() - right) < error < abs(right - wrong)


@pytest.mark.parametrize("scale", [Fraction("12345.678"), Fraction(2**40)], ids=str)
def test_the_binary_digits_are_independent_of_each_other_and_of_the_sign(scale: Fraction) -> None:
    sample = draw(scale)
    sample = sample[sample != 0]
    digits = len(_tables(scale).digits)
    rows = [(np.abs(sample) - 1) >> index & 1 for index in range(digits)] + [(sample < 0).astype(np.int64)]
    pairs = [(first, second) for first in range(len(rows)) for second in range(first)]
    critical = float(chi2.isf(ALPHA / len(pairs), 1))
    for first, second in pairs:
        table = np.bincount(2 * rows[first] + rows[second], minlength=4).reshape(2, 2).astype(np.float64)
        expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
        # The highest digits are 1 in hardly any draw: too few for a chi-square.
        if expected.min() >= 10:
            assert np.sum((table - expected) ** 2 / expected) < critical, (first, second)


def test_neighbouring_draws_are_independent() -> None:
    sample = draw(Fraction(1))
    pairs = np.clip(sample[0::2], -2, 2) * 5 + np.clip(sample[1::2], -2, 2) + 12
    q = math.exp(-1)
    middle = (1 - q) / (1 + q) * q ** np.abs(np.arange(-1, 2))
    marginal = np.concatenate(([q**2 / (1 + q)], middle, [q**2 / (1 + q)]))
    expected = np.outer(marginal, marginal).ravel() * len(pairs)
    assert not rejects(np.bincount(pairs, minlength=25).astype(np.float64), expected)


# --- the coins


def independent_probability(kind: str, scale: Fraction, index: int = 0) -> mpmath.mpf:
    """The coin's probability by another library's arithmetic, to 2,000 bits."""
    with mpmath.workprec(2000):
        q = mpmath.exp(-mpmath.mpf(scale.denominator) / scale.numerator)
        r = q ** (2**index)
        return {"nonzero": 2 * q / (1 + q), "digit": r / (1 + r), "beyond": r}[kind]


def words_of(p: mpmath.mpf, count: int) -> list[int]:
    with mpmath.workprec(2000):
        whole = int(mpmath.floor(p * mpmath.mpf(2) ** (32 * count)))
    return [whole >> (32 * (count - 1 - index)) & 0xFFFFFFFF for index in range(count)]


@pytest.mark.parametrize("scale", [*SCALES, Fraction(1, 100), Fraction(2**47 + 1, 3), Fraction(2**48 - 1)], ids=str)
def test_the_digits_of_every_coin_are_those_that_another_library_computes(scale: Fraction) -> None:
    tables = _tables(scale)
    coins = [(tables.nonzero, "nonzero", 0), (tables.beyond, "beyond", len(tables.digits))]
    coins += [(coin, "digit", index) for index, coin in enumerate(tables.digits)]
    for coin, kind, index in coins:
        expected = words_of(independent_probability(kind, scale, index), 6)
        assert [coin.word(position) for position in range(6)] == expected, (kind, index)


def test_the_digits_stop_where_the_rest_is_rarer_than_two_to_the_minus_32() -> None:
    for scale in SCALES:
        count = len(_tables(scale).digits)
        assert math.exp(-(2**count) / float(scale)) < 2**-32
        assert count == 0 or 2 ** (count - 1) / float(scale) <= 23


def test_digits_asked_for_out_of_order_are_the_same() -> None:
    backwards, forwards = (BinaryExpansion(_tables(Fraction(7)).nonzero.bounds) for _ in range(2))
    late = [backwards.word(index) for index in (5, 0, 3)]
    assert late == [[forwards.word(index) for index in range(6)][index] for index in (5, 0, 3)]


def test_threads_that_extend_one_coin_read_the_same_digits() -> None:
    coin = BinaryExpansion(_tables(Fraction(7)).nonzero.bounds)
    expected = words_of(independent_probability("nonzero", Fraction(7)), 12)
    with ThreadPoolExecutor(8) as pool:
        asked = [index for _ in range(20) for index in (11, 0, 5, 8, 1)]
        assert list(pool.map(coin.word, asked)) == [expected[index] for index in asked]


@pytest.mark.parametrize("probability", ["1/3", "2/3", "1/1000000000000", "999999999999/1000000000000"])
def test_more_precision_is_asked_for_until_both_bounds_agree(probability: str) -> None:
    """Bounds that are as wide as the precision allows, and lie across a digit's border at first."""
    exact = Fraction(probability)
    asked: list[int] = []

    def bounds(precision: int) -> tuple[decimal.Decimal, decimal.Decimal]:
        asked.append(precision)
        with decimal.localcontext() as context:
            context.prec = precision
            middle = decimal.Decimal(exact.numerator) / exact.denominator
            width = decimal.Decimal(10) ** -(precision // 4)
            return middle - width, middle + width

    coin = BinaryExpansion(bounds)
    whole = exact * 2**96 // 1
    assert [coin.word(index) for index in range(3)] == [int(whole >> shift) & 0xFFFFFFFF for shift in (64, 32, 0)]
    assert max(asked) > 50


@pytest.mark.parametrize("precision", [3, 4, 5, 8, 30])
def test_the_bounds_lie_on_both_sides_of_the_probability_at_every_precision(precision: int) -> None:
    """Few digits, many scales: half a unit in the last place on the wrong side shows at once."""
    for number in range(1, 200):
        scale = Fraction(number, 7)
        tables = _tables(scale)
        coins = [(tables.nonzero, "nonzero", 0), (tables.beyond, "beyond", len(tables.digits))]
        coins += [(coin, "digit", index) for index, coin in enumerate(tables.digits[:2])]
        for coin, kind, index in coins:
            low, high = coin.bounds(precision)
            with mpmath.workprec(400):
                p = independent_probability(kind, scale, index)
                assert mpmath.mpf(str(low)) < p < mpmath.mpf(str(high)), (number, kind, index)
                # Wide enough to be right, narrow enough to be of use.
                assert (mpmath.mpf(str(high)) - mpmath.mpf(str(low))) / p < mpmath.mpf(10) ** (3 - precision) * 200


def test_a_coin_is_heads_below_the_threshold_and_tails_above_it() -> None:
    coin = _tables(Fraction(1)).nonzero
    first = coin.word(0)
    source = Script(word(0), word(first - 1), word(first + 1), word(0xFFFFFFFF))
    assert bernoulli(coin, 4, source).tolist() == [True, True, False, False]
    assert source.asked == [16]


def test_a_tie_is_broken_by_the_next_digits_for_as_long_as_it_takes_and_by_nothing_else() -> None:
    coin = _tables(Fraction(1)).nonzero
    w = [coin.word(index) for index in range(4)]
    source = Script(
        b"".join(map(word, (w[0], 0, w[0], w[0]))),  # three ties
        b"".join(map(word, (w[1] - 1, w[1], w[1]))),  # one decided
        b"".join(map(word, (w[2] + 1, w[2]))),
        word(w[3] - 1),
    )
    assert bernoulli(coin, 4, source).tolist() == [True, True, False, True]
    assert source.asked == [16, 12, 8, 4]
    assert source.left == b""


def test_a_fair_looking_coin_has_its_own_probability_and_not_a_half() -> None:
    coin = _tables(Fraction(1)).digits[0]
    p = float(independent_probability("digit", Fraction(1), 0))
    heads = int(bernoulli(coin, SAMPLES, SystemSource()).sum())
    assert not rejects([heads, SAMPLES - heads], [p * SAMPLES, (1 - p) * SAMPLES])
    assert rejects([heads, SAMPLES - heads], [0.5 * SAMPLES, 0.5 * SAMPLES])


# --- one draw, by script


def script_for(scale: Fraction, *, nonzero: bool, negative: bool, digits: int, beyond: int) -> Script:
    tables = _tables(scale)
    heads, tails = word(0), word(0xFFFFFFFF)
    # The coin above the digits has no digit 1 among its first 32: heads needs a tie, then luck once more.
    assert tables.beyond.word(0) == 0
    assert tables.beyond.word(1) > 0
    return Script(
        heads if nonzero else tails,
        b"\x80" if negative else b"\x7f",
        *(heads if digits >> index & 1 else tails for index in range(len(tables.digits))),
        (word(0) + word(0)) * beyond,
        tails,
    )


@pytest.mark.parametrize("beyond", [0, 1, 3])
@pytest.mark.parametrize("digits", [0, 1, 0b10110])
@pytest.mark.parametrize("negative", [False, True])
def test_a_draw_is_put_together_from_its_coins_and_the_tail_goes_on_beyond_the_digits(
    digits: int, negative: bool, beyond: int
) -> None:
    scale = Fraction(1)
    count = len(_tables(scale).digits)
    assert count == 5
    source = script_for(scale, nonzero=True, negative=negative, digits=digits, beyond=beyond)
    magnitude = 1 + digits + beyond * 2**count
    assert discrete_laplace(scale, 1, source).tolist() == [-magnitude if negative else magnitude]
    assert source.left == b""


def test_where_the_first_coin_is_tails_the_draw_is_zero_whatever_the_others_say() -> None:
    source = script_for(Fraction(1), nonzero=False, negative=True, digits=31, beyond=2)
    assert discrete_laplace(Fraction(1), 1, source).tolist() == [0]
    assert source.left == b""


def test_only_the_rare_draws_go_on_beyond_the_digits() -> None:
    scale = Fraction(1)
    tails = word(0xFFFFFFFF)
    source = Script(
        word(0) * 3, b"\x40", tails * 3 * 5, tails + word(0) + tails, word(0), word(0), word(0), tails
    )  # second draw: a tie decided for heads, a second step the same way, then the end
    assert discrete_laplace(scale, 3, source).tolist() == [1, -(1 + 2 * 32), 1]
    assert source.left == b""


def test_a_scale_below_one_step_draws_by_runs_alone() -> None:
    scale = Fraction(1, 100)
    assert len(_tables(scale).digits) == 0
    assert not discrete_laplace(scale, SAMPLES, SystemSource()).any()


def test_no_draws_are_no_bytes() -> None:
    source = Script()
    assert discrete_laplace(Fraction(1), 0, source).tolist() == []
    assert source.left == b""


@pytest.mark.parametrize("scale", [Fraction(0), Fraction(-1), Fraction(2**48)])
def test_a_scale_out_of_range_is_refused_before_a_byte_is_taken(scale: Fraction) -> None:
    source = Script()
    with pytest.raises(ParameterError, match=r"a Laplace scale lies between 0 and 2\^48 grid steps; found"):
        discrete_laplace(scale, 1, source)
    assert source.asked == []


def test_the_largest_scale_fits_an_int64_with_room_to_spare() -> None:
    sample = discrete_laplace(Fraction(2**48 - 1), SAMPLES, SystemSource())
    assert 2**48 < int(np.abs(sample).max()) < 2**55
    assert not refuted(sample, float(2**48 - 1))


@pytest.mark.parametrize("given", [0, 4, 36])
def test_a_source_that_returns_too_little_is_refused_instead_of_repeated(given: int) -> None:
    with pytest.raises(ParameterError, match=r"a byte source returned .* numbers of 4 bytes; 10 were asked for"):
        discrete_laplace(Fraction(1), 10, lambda count: bytes(given))


# --- the shuffle


def test_a_shuffle_is_a_permutation() -> None:
    source = SystemSource()
    for count in (0, 1, 2, 1000):
        assert sorted(shuffled(count, source).tolist()) == list(range(count))


def order_counts(orders: list[tuple[int, ...]], count: int) -> list[float]:
    seen = dict.fromkeys([*sorted(set(orders))], 0)
    for order in orders:
        seen[order] += 1
    return [float(value) for value in seen.values()] + [0.0] * (math.factorial(count) - len(seen))


@pytest.mark.parametrize("count", [3, 4])
def test_every_order_is_equally_likely_and_a_careless_shuffle_is_rejected(count: int) -> None:
    draws = 12_000
    source = SystemSource()
    expected = [draws / math.factorial(count)] * math.factorial(count)
    orders = [tuple(shuffled(count, source).tolist()) for _ in range(draws)]
    assert not rejects(order_counts(orders, count), expected)

    def swapped_with_anybody() -> tuple[int, ...]:
        order = list(range(count))
        for place in range(count):
            other = source(1)[0] % count
            order[place], order[other] = order[other], order[place]
        return tuple(order)

    assert rejects(order_counts([swapped_with_anybody() for _ in range(draws)], count), expected)


def test_equal_keys_are_drawn_again_so_that_no_order_is_preferred() -> None:
    def keys(*numbers: int) -> bytes:
        return b"".join(number.to_bytes(8, "little") for number in numbers)

    source = Script(keys(5, 5, 1), keys(2, 9, 2), keys(30, 10, 20))
    assert shuffled(3, source).tolist() == [1, 2, 0]
    assert source.asked == [24, 24, 24]
