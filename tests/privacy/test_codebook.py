"""The codebook mechanism: its loss by exact enumeration, its subset, its codewords, its estimator, its error."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from itertools import pairwise
from statistics import NormalDist

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import integrate, optimize, special, stats

from ldp_client.errors import ParameterError
from ldp_client.privacy import codebook
from ldp_client.privacy.clipping import Clipped, clip, to_grid
from ldp_client.privacy.codebook import Codebook, NoisedIndices, codeword, codewords, decode, nearest
from ldp_client.privacy.codebook_design import (
    best_codewords,
    best_subset,
    decode_constant,
    mean_length,
    nearness,
    smallest_error,
    squared_error,
)
from ldp_client.privacy.labels import unit_features
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.randomized_response import Labels, RandomizedResponse
from ldp_client.privacy.release_design import joint_codebook, randomized_response
from ldp_client.privacy.spec import CodebookSpec, DirectionClip, threshold_for
from tests.privacy.goodness_of_fit import rejects
from tests.privacy.scripted import Counter, Script, word

ALPHA = 1e-9
"""Per test; six statistical tests in this file."""
RADIUS = 2**14
STRANGE = [
    (0.0, 0.0, 0.0),
    (math.nan, math.nan, math.nan),
    (math.inf, -math.inf, math.inf),
    (1e308, -1e308, 1e308),
    (5e-324, 0.0, -5e-324),
    (math.nan, 1.0, math.inf),
]


def book(dimension: int, count: int = 64, subset: int = 20, threshold: int = 3 * 2**62) -> CodebookSpec:
    return CodebookSpec(
        clip=DirectionClip(radius_steps=RADIUS),
        dimension=dimension,
        codewords=count,
        subset=subset,
        threshold=threshold,
    )


def directions(*rows: tuple[float, ...]) -> Clipped:
    rule = DirectionClip(radius_steps=RADIUS)
    return clip(to_grid(unit_features(np.array(rows), None), rule.grid), rule)


def seeds(count: int, label: str = "seeds") -> list[bytes]:
    source = Counter(label)
    return [source(32) for _ in range(count)]


def pmf(spec: CodebookSpec, near: NDArray[np.bool_]) -> list[Fraction]:
    """The exact probability of every index, by Theorem 5's description of the draw."""
    keep = Fraction(spec.threshold, 2**64)
    inside, outside = keep / spec.subset, (1 - keep) / (spec.codewords - spec.subset)
    return [inside if close else outside for close in near]


# --- privacy: by enumeration, and by the subset's size


@pytest.mark.parametrize("dimension", [1, 2, 3, 8])
@pytest.mark.parametrize("epsilon", ["1/2", "2", "8"])
def test_no_index_tells_any_two_directions_apart_by_more_than_epsilon(dimension: int, epsilon: str) -> None:
    spec = joint_codebook(epsilon=epsilon, classes=2, bottleneck_dimension=dimension, codewords=64).codebook
    rng = np.random.default_rng(5)
    vectors = [tuple(row) for row in rng.normal(size=(40, dimension))]
    vectors += [row[:dimension] for row in STRANGE] if dimension <= 3 else []
    (seed,) = seeds(1)
    tables = [pmf(spec, row) for row in nearest(spec, directions(*vectors).steps, [seed] * len(vectors))]
    assert all(sum(table) == 1 for table in tables)
    worst = max(max(column) / min(column) for column in zip(*tables, strict=True))
    assert PrivacyLoss.of_log(worst) <= spec.loss <= PrivacyLoss.of(epsilon)
    # Reached, up to the threshold's 64 bits: an understated loss would be found.
    assert float(worst) == pytest.approx(math.exp(float(Fraction(epsilon))), rel=1e-12)


def test_a_twin_whose_subset_is_one_too_small_for_some_is_flagged() -> None:
    spec = joint_codebook(epsilon="1/2", classes=2, bottleneck_dimension=2, codewords=8).codebook
    keep = Fraction(spec.threshold, 2**64)
    s, m = spec.subset, spec.codewords
    right = (keep / s, (1 - keep) / (m - s))
    wrong = (keep / (s - 1), (1 - keep) / (m - s + 1))
    worst = max(a / b for a in (*right, *wrong) for b in (*right, *wrong))
    assert PrivacyLoss.of_log(worst) > spec.loss


@pytest.mark.parametrize("values", STRANGE)
@pytest.mark.parametrize("subset", [1, 20, 63])
def test_exactly_s_codewords_are_near_whatever_the_encoder_said(values: tuple[float, ...], subset: int) -> None:
    spec = book(3, subset=subset, threshold=2**64 - 1)
    near = nearest(spec, directions(values).steps, seeds(1))
    assert near.sum() == subset


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(width=64), min_size=4, max_size=4),
    subset=st.integers(1, 15),
    seed=st.binary(min_size=32, max_size=32),
)
def test_exactly_s_codewords_are_near_for_any_floats(values: list[float], subset: int, seed: bytes) -> None:
    spec = book(4, count=16, subset=subset, threshold=2**64 - 1)
    near = nearest(spec, directions(tuple(values)).steps, [seed])
    assert near.sum() == subset


def test_equal_scores_are_told_apart_by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codebook, "codewords", lambda spec, seed: np.full((spec.codewords, spec.dimension), 7))
    near = nearest(book(2, count=10, subset=4, threshold=2**63), directions((0.6, 0.8)).steps, seeds(1))
    assert near[0].tolist() == [True] * 4 + [False] * 6


def test_scores_have_lengths_in_whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """(3, 1) and (99, 1) score alike over the lengths 3 and 99; over those of floats the second would be nearer."""
    words = np.array([[3, 1], [99, 1]], dtype=np.int16)
    monkeypatch.setattr(codebook, "codewords", lambda spec, seed: words)
    value = clip(np.array([[RADIUS, 0]]), DirectionClip(radius_steps=RADIUS))
    assert nearest(book(2, count=2, subset=1), value.steps, seeds(1)).tolist() == [[True, False]]


def test_the_zero_vector_points_along_the_first_axis() -> None:
    assert directions((0.0, 0.0, 0.0)).steps.tolist() == [[RADIUS, 0, 0]]
    assert directions((math.nan, -math.inf, 0.0)).steps.tolist() == [[RADIUS, 0, 0]]


def test_integers_that_point_nowhere_or_are_truncated_to_nothing_point_along_the_first_axis_too() -> None:
    """Behind `unit_features`, which leaves no such vector: an error would tell that the X-ray was an odd one."""
    rule = DirectionClip(radius_steps=4)
    assert clip(np.zeros((1, 3), dtype=np.int64), rule).steps.tolist() == [[4, 0, 0]]
    even = clip(np.full((1, 64), 7, dtype=np.int64), rule).steps[0]  # 4 / 8 of a step in each coordinate
    assert even.tolist() == [4] + [0] * 63


# --- the draw


def test_the_draw_is_the_described_one_byte_for_byte() -> None:
    spec, value, public = book(3, count=8, subset=3, threshold=2**63), directions((1.0, 2.0, 2.0)), seeds(1)
    near = nearest(spec, value.steps, public)[0]
    inside, outside = np.flatnonzero(near).tolist(), np.flatnonzero(~near).tolist()
    heads, tails = ((2**63 - 1).to_bytes(8, "little"), (2**63).to_bytes(8, "little"))
    for near_rank, far_rank in itertools.product(range(3), range(5)):
        for coin, chosen in ((heads, inside[near_rank]), (tails, outside[far_rank])):
            drawn = Codebook(spec)(value, public, Script(coin, word(near_rank), word(far_rank)))
            assert drawn.indices.tolist() == [chosen]
    # The last multiple of 3 below 2^32 is 2^32 - 1: the word beyond it is refused, and another one asked for.
    again = Codebook(spec)(value, public, Script(bytes(8), word(2**32 - 1), word(4), word(0)))
    assert again.indices.tolist() == [inside[1]]


def test_how_much_randomness_is_read_says_nothing_of_the_coin_or_the_direction() -> None:
    """With 3 of 8, a rank is drawn again for words that only the first side refuses: on tails as well as on heads."""
    spec, public = book(3, count=8, subset=3, threshold=2**63), seeds(1)
    refused = word(2**32 - 1), word(1), word(2)
    for direction in ((1.0, 2.0, 2.0), (math.nan, 0.0, -1.0)):
        for coin in (bytes(8), b"\xff" * 8):
            source = Script(coin, *refused)
            Codebook(spec)(directions(direction), public, source)
            assert (source.asked, source.left) == ([8, 4, 4, 4], b"")


def test_in_parts_or_at_once_the_draw_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, rows = book(3, count=8, subset=3), np.random.default_rng(4).normal(size=(7, 3))
    value, public = directions(*map(tuple, rows.tolist())), seeds(7)
    at_once = Codebook(spec)(value, public, Counter("draw")).indices
    monkeypatch.setattr(codebook, "_TABLE", 2 * spec.codewords)
    assert np.array_equal(Codebook(spec)(value, public, Counter("draw")).indices, at_once)


def test_indices_fit_their_probabilities() -> None:
    spec, count = book(3, count=16, subset=5), 200_000
    value, public = directions((0.3, -0.5, 0.2)), seeds(1)
    many = Clipped(np.repeat(value.steps, count, axis=0), value.clip)
    drawn = Codebook(spec)(many, public * count, SystemSource()).indices
    observed = np.bincount(drawn, minlength=16).astype(float)
    expected = np.array([float(p) for p in pmf(spec, nearest(spec, value.steps, public)[0])]) * count
    assert not rejects(observed, expected)
    # Broken twins: the coin at .7 and 1.3 of its odds, and the sides exchanged.
    for odds in (0.7, 1.3):
        p = 3 * odds / (3 * odds + 1)
        twin = np.where(expected > count / 16, p / 5, (1 - p) / 11) * count
        assert rejects(observed, twin)
    assert rejects(observed, np.where(expected > count / 16, expected.min(), expected.max() * 5 / 11) * 1.0)


def test_in_one_dimension_it_is_randomized_response() -> None:
    spec = joint_codebook(epsilon="3/2", classes=2, bottleneck_dimension=1).codebook
    twin = randomized_response(epsilon="3/2", classes=2)
    assert (spec.codewords, spec.subset, spec.threshold, spec.loss) == (2, 1, twin.threshold, twin.loss)
    value = directions((2.0,), (-3.0,), (0.0,), (math.nan,))
    for source in ("one", "two", "three"):
        drawn = Codebook(spec)(value, seeds(4), Counter(source)).indices.tolist()
        answers = RandomizedResponse(twin)(Labels(np.array([0, 1, 0, 0], dtype=np.int64), 2), Counter(source))
        # The same coin decides both; which of one index is drawn needs no more than one word each.
        assert drawn == answers.values.tolist()
    assert decode(spec, [0, 1], seeds(2)).tolist() == [[1 / decode_constant(spec)], [-1 / decode_constant(spec)]]


# --- codewords: the same on every platform, one alone or all together


def test_the_table_is_the_normal_distribution_in_256_steps() -> None:
    wanted = [round(1024 * NormalDist().inv_cdf((i + 0.5) / 256)) for i in range(128, 256)]
    assert codebook._NORMAL.tolist() == wanted
    table = codebook._COORDINATE.astype(int)
    assert np.all(table % 2 == 1)  # never zero
    assert sorted(table.tolist()) == sorted((-table).tolist())
    assert abs(stats.kstest(table / table.std(), "norm").statistic) < 0.005


@pytest.mark.parametrize("dimension", [1, 2, 31, 32, 33, 100])
def test_one_codeword_made_alone_is_the_one_among_all(dimension: int) -> None:
    spec = book(dimension, *((2, 1) if dimension == 1 else (64, 20)))
    for seed in seeds(3):
        everyone = codewords(spec, seed)
        for index in range(spec.codewords):
            assert codeword(spec, seed, index).tolist() == everyone[index].tolist()


def test_codewords_of_different_seeds_differ() -> None:
    one, another = (codewords(book(8), seed) for seed in seeds(2))
    assert not np.array_equal(one, another)


def test_any_platform_finds_the_same_near() -> None:
    """The scores again, in Python's own integers."""
    spec = book(5, count=32, subset=11)
    rng = np.random.default_rng(1)
    value, public = directions(*(tuple(row) for row in rng.normal(size=(20, 5)))), seeds(20)
    near = nearest(spec, value.steps, public)
    for row, steps, seed in zip(near, value.steps.tolist(), public, strict=True):
        words = codewords(spec, seed).tolist()
        scores = [
            (sum(a * b for a, b in zip(one, steps, strict=True)) * 2**12) // math.isqrt(sum(a * a for a in one))
            for one in words
        ]
        order = sorted(range(32), key=lambda index: (-scores[index], index))
        assert sorted(order[:11]) == np.flatnonzero(row).tolist()


@pytest.mark.parametrize("dimension", [2, 4096])
def test_scores_of_the_longest_vectors_do_not_wrap(dimension: int) -> None:
    spec = book(dimension, count=4, subset=1)
    (seed,) = seeds(1)
    mine = codewords(spec, seed)[2].astype(np.int64)
    value = clip(mine, DirectionClip(radius_steps=RADIUS)) if mine.ndim == 2 else clip(mine[None] * 100, spec.clip)
    assert np.flatnonzero(nearest(spec, value.steps, [seed])[0]).tolist() == [2]


# --- what is learnt from it


def test_nearness_has_its_closed_forms() -> None:
    assert nearness(2, 2, 1) == pytest.approx(4 / math.pi**2, rel=1e-6)
    assert nearness(3, 2, 1) == pytest.approx(1 / 3, rel=1e-6)  # the larger of two uniforms on [-1, 1]
    assert nearness(3, 10, 1) == pytest.approx(9 / 11, rel=1e-6)
    assert nearness(1, 2, 1) == 1


@pytest.mark.parametrize(("dimension", "count", "subset"), [(2, 64, 20), (8, 64, 3), (8, 1024, 238), (64, 256, 50)])
def test_nearness_is_what_random_codewords_have(dimension: int, count: int, subset: int) -> None:
    rng, found = np.random.default_rng(2), []
    for _ in range(300):
        words = rng.normal(size=(count, dimension))
        first = words[:, 0] / np.linalg.norm(words, axis=1)
        found.append(np.sort(first)[-subset:].mean())
    error = np.std(found) / math.sqrt(len(found))
    sigmas = float(stats.norm.isf(ALPHA / 2))
    assert abs(np.mean(found) - nearness(dimension, count, subset)) < sigmas * error
    # 5 % off would be seen.
    assert sigmas * error < 0.05 * nearness(dimension, count, subset)


@pytest.mark.parametrize("dimension", [2, 8])
def test_the_decoded_mean_is_the_direction(dimension: int) -> None:
    spec, count = joint_codebook(epsilon=4, classes=2, bottleneck_dimension=dimension, codewords=256).codebook, 40_000
    value = directions(tuple(float(i + 1) for i in range(dimension)))
    public, many = seeds(count), Clipped(np.repeat(value.steps, count, axis=0), value.clip)
    drawn = Codebook(spec)(many, public, SystemSource())
    estimates = decode(spec, drawn.indices.tolist(), public)
    truth = value.steps[0] / RADIUS
    sigmas = float(stats.norm.isf(ALPHA / 2 / dimension))
    error = estimates.std(axis=0) / math.sqrt(count)
    assert np.all(np.abs(estimates.mean(axis=0) - truth) < sigmas * error + 1e-3)
    # A decode constant that is 10 % off would be seen.
    assert np.any(np.abs(1.1 * estimates.mean(axis=0) - truth) > sigmas * error + 1e-3)
    assert np.mean(np.sum((estimates - truth) ** 2, axis=1)) == pytest.approx(
        dimension * codebook.noise_variance(spec), rel=0.05
    )


def privunit_error(dimension: int, epsilon: float) -> float:
    """E|v/m - u|^2 of PrivUnit with its best threshold, numerically (Bhowmick et al. 2018; Asi et al. 2022)."""
    a = (dimension - 1) / 2

    def left(gamma: float) -> float:
        cap = special.betainc(a, a, (1 - gamma) / 2)  # share of the sphere beyond gamma
        log_area = special.gammaln(dimension / 2) - special.gammaln((dimension - 1) / 2) - math.log(math.sqrt(math.pi))
        moment = math.exp(log_area) * (1 - gamma**2) ** a / (dimension - 1)  # integral of t over the cap
        keep = cap * math.exp(epsilon) / (cap * math.exp(epsilon) + 1 - cap)
        return keep * moment / cap - (1 - keep) * moment / (1 - cap)

    best = optimize.minimize_scalar(lambda gamma: -left(gamma), bounds=(-0.5, 0.999), method="bounded")
    return 1 / left(float(best.x)) ** 2 - 1


def test_the_oracle_of_privunit_agrees_with_its_integral() -> None:
    area = math.gamma(4) / math.gamma(3.5) / math.sqrt(math.pi)
    cap, _ = integrate.quad(lambda t: area * (1 - t * t) ** 2.5, 0.3, 1)
    assert special.betainc(3.5, 3.5, 0.35) == pytest.approx(cap)


@pytest.mark.parametrize("dimension", [8, 16, 64])
@pytest.mark.parametrize("epsilon", [1, 2, 4, 8])
def test_its_error_is_within_1_percent_of_privunit_and_that_of_1024_codewords_within_5(
    dimension: int, epsilon: int
) -> None:
    smallest = privunit_error(dimension, epsilon)
    assert smallest_error(dimension, epsilon) == pytest.approx(smallest, rel=1e-5)
    for count, excess in (("auto", 1.01), (1024, 1.05)):
        spec = joint_codebook(epsilon=epsilon, classes=2, bottleneck_dimension=dimension, codewords=count).codebook
        assert smallest < spec.dimension * codebook.noise_variance(spec) <= (excess + 1e-5) * smallest
        assert count in ("auto", spec.codewords)


@pytest.mark.parametrize(("dimension", "epsilon"), [(2, 2.0), (8, 1.0), (8, 8.0), (64, 4.0), (512, 6.0)])
def test_half_as_many_codewords_would_not_do(dimension: int, epsilon: float) -> None:
    best, enough = best_codewords(dimension, epsilon), 1.01 * smallest_error(dimension, epsilon)
    assert squared_error(dimension, best, epsilon) <= enough < squared_error(dimension, best // 2, epsilon)
    assert best & (best - 1) == 0


@pytest.mark.parametrize(("dimension", "most"), [(64, 65_536), (4096, 4096), (2500, 4096)])
def test_no_record_is_asked_for_more_work_than_a_spec_allows(dimension: int, most: int) -> None:
    assert best_codewords(dimension, 40.0) == most
    assert joint_codebook(epsilon=40, classes=2, bottleneck_dimension=dimension).codebook.codewords == most


@pytest.mark.parametrize(("dimension", "epsilon"), [(2, 0.5), (2, 4.0), (8, 1.0), (64, 8.0)])
def test_the_subset_is_the_best_of_all(dimension: int, epsilon: float) -> None:
    def left(subset: int) -> float:
        odds = subset * math.exp(epsilon)
        keep = odds / (odds + 64 - subset)
        return nearness(dimension, 64, subset) * (keep - (1 - keep) * subset / (64 - subset))

    everyone = [left(subset) for subset in range(1, 33)]
    peak = best_subset(dimension, 64, epsilon)
    assert mean_length(dimension, 64, peak, epsilon) == pytest.approx(left(peak), rel=1e-9)
    assert left(peak) == pytest.approx(max(everyone), rel=1e-9)
    rises = [b > a for a, b in pairwise(everyone)]
    assert rises == sorted(rises, reverse=True)  # one peak, which halving finds


def _as_mpmath(number: Fraction) -> mpmath.mpf:
    mpmath.mp.dps = 60
    return mpmath.mpf(number.numerator) / number.denominator


@settings(max_examples=50)
@given(
    epsilon=st.fractions(Fraction(1, 1000), Fraction(20)).map(lambda f: f.limit_denominator(10**6)),
    outputs=st.integers(2, 4096),
    share=st.fractions(0, 1),
)
def test_the_threshold_is_the_largest_that_epsilon_allows(epsilon: Fraction, outputs: int, share: Fraction) -> None:
    chosen = 1 + int(share * (outputs - 2))
    threshold = threshold_for(epsilon, outputs, chosen)

    def odds(t: int) -> Fraction:
        return Fraction(t * (outputs - chosen), (2**64 - t) * chosen)

    assert PrivacyLoss.of_log(odds(threshold)) <= PrivacyLoss.of(epsilon)
    if threshold + 1 < 2**64:
        assert _as_mpmath(odds(threshold + 1)) > mpmath.exp(_as_mpmath(epsilon))
    assert math.log(odds(threshold)) == pytest.approx(float(epsilon), rel=1e-6)


# --- what is refused


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"subset": 64}, "a subset of 64 of 64 codewords leaves none outside"),
        ({"subset": 70}, "a subset of 70 of 64 codewords leaves none outside"),
        ({"threshold": 2**60}, "makes the true answer no likelier than the others"),
        ({"threshold": 0}, "threshold"),
        ({"threshold": 2**64}, "threshold"),
        ({"dimension": 0}, "dimension"),
        ({"dimension": 4097}, "dimension"),
        ({"dimension": 1}, "is a sign: 2 codewords and a subset of 1, found 64 and 20"),
        ({"codewords": 2**16 + 1}, "codewords"),
        ({"threshold": 0.5}, "threshold"),
    ],
)
def test_an_impossible_codebook_is_refused(change: dict[str, object], text: str) -> None:
    fields = {**book(3).model_dump(), **change}
    with pytest.raises(ValidationError, match=text):
        CodebookSpec.model_validate(fields)


@pytest.mark.parametrize("epsilon", [0, -1, "-1/2"])
def test_a_codebook_without_noise_is_refused(epsilon: int | str) -> None:
    with pytest.raises(ParameterError, match=r"epsilon must be positive; found .*\. Without noise there is no release"):
        joint_codebook(epsilon=epsilon, classes=2, bottleneck_dimension=3)


def test_only_directions_of_this_spec_are_taken() -> None:
    spec, value, public = book(3), directions((1.0, 0.0, 0.0)), seeds(1)
    mechanism = Codebook(spec)
    with pytest.raises(ParameterError, match="only Clipped vectors can be noised; found ndarray"):
        mechanism(value.steps, public, SystemSource())  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="the vector has 2 coordinates, the mechanism expects 3"):
        mechanism(directions((1.0, 0.0)), public, SystemSource())
    other = clip(value.steps, DirectionClip(radius_steps=RADIUS // 2))
    with pytest.raises(ParameterError, match="the mechanism expects"):
        mechanism(other, public, SystemSource())
    with pytest.raises(ParameterError, match="1 records need as many seeds; found 2"):
        mechanism(value, public * 2, SystemSource())
    with pytest.raises(ParameterError, match="a codebook's seed has 32 bytes; found another length"):
        mechanism(value, [bytes(31)], SystemSource())
    with pytest.raises(ParameterError, match="found another length or kind"):
        mechanism(value, ["0" * 32], SystemSource())  # type: ignore[list-item]
    with pytest.raises(ParameterError, match="2 indices need as many seeds; found 1"):
        codebook.decode(spec, [0, 1], public)
    with pytest.raises(ParameterError, match="a codebook of 64 codewords has no codeword 64"):
        codeword(spec, public[0], 64)
    with pytest.raises(ParameterError, match="noised indices come from a mechanism"):
        NoisedIndices(np.zeros(1, dtype=np.int64), tuple(public), spec)


def test_a_direction_that_is_none_cannot_be_built() -> None:
    rule = DirectionClip(radius_steps=10)
    for steps in ([[0, 0]], [[11, 0]], [[8, 8]], [[-(2**31), 0]]):
        with pytest.raises(ParameterError, match="a vector lies outside the directions of at most 10 steps"):
            Clipped(np.array(steps, dtype=np.int64), rule)
