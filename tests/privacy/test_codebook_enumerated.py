"""The codebook enumerated, decoded and set beside PrivUnit; each statistical check beside a twin that must fail."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction
from statistics import NormalDist

import mpmath
import numpy as np
import pytest
from goodness_of_fit import rejects
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betainc, gammaln
from scripted import Script, word

from ldp_client.errors import ParameterError
from ldp_client.privacy.clipping import Clipped, clip
from ldp_client.privacy.codebook import Codebook, codeword, codewords, decode, nearest, noise_variance
from ldp_client.privacy.codebook_design import best_subset, mean_length, nearness
from ldp_client.privacy.drawing import prepare
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_spec import joint_codebook
from ldp_client.privacy.spec import MAX_DIRECTION_STEPS, CodebookSpec, DirectionClip, threshold_for

RULE = DirectionClip(radius_steps=MAX_DIRECTION_STEPS)


def book(dimension: int = 3, count: int = 16, subset: int = 5, threshold: int = 3 * 2**62) -> CodebookSpec:
    return CodebookSpec(clip=RULE, dimension=dimension, codewords=count, subset=subset, threshold=threshold)


def seed(name: object) -> bytes:
    return hashlib.sha256(str(name).encode()).digest()


def directions(count: int, dimension: int) -> NDArray[np.int64]:
    drawn = np.random.default_rng(1).normal(size=(count, dimension)) * 1000
    return clip(np.rint(drawn).astype(np.int64), RULE).steps


def enumerated(spec: CodebookSpec, direction: NDArray[np.int64], of: bytes) -> list[Fraction]:
    """The chance of each index, by driving the mechanism through every coin and every rank."""
    keep = Fraction(spec.threshold, 2**64)
    chances = [Fraction(0)] * spec.codewords
    for heads, side, chance in ((True, spec.subset, keep), (False, spec.codewords - spec.subset, 1 - keep)):
        coin = (spec.threshold - 1 if heads else spec.threshold).to_bytes(8, "little")
        for rank in range(side):
            drawn = Codebook(spec)(Clipped(direction[None], RULE), [of], Script(coin, word(rank)))
            chances[int(drawn.indices[0])] += chance / side
    return chances


@pytest.mark.parametrize(("dimension", "count", "subset"), [(1, 2, 1), (2, 8, 1), (3, 16, 5), (8, 16, 15)])
@pytest.mark.parametrize("epsilon", ["1/10", "2", "8"])
def test_every_coin_and_rank_tried_no_ratio_passes_the_stated_loss(
    dimension: int, count: int, subset: int, epsilon: str
) -> None:
    spec = book(dimension, count, subset, threshold_for(Fraction(epsilon), count, subset))
    rows = [enumerated(spec, one, seed(7)) for one in (*directions(4, dimension), -directions(4, dimension)[0])]
    assert all(sum(row) == 1 for row in rows)
    worst = max(a / b for one in rows for other in rows for a, b in zip(one, other, strict=True))
    assert worst > 1
    assert PrivacyLoss.of_log(worst) <= spec.loss <= PrivacyLoss.of(epsilon)


STRANGE = ([0.0] * 3, [math.nan] * 3, [math.inf, -math.inf, math.nan], [1e308, -1e308, 1e-320], [5e-324] * 3)


@pytest.mark.parametrize("outputs", STRANGE)
@pytest.mark.parametrize("constant", [None, "1/2"])
@pytest.mark.parametrize("epsilon", ["1/2", "8"])
def test_as_many_as_the_subset_are_near_whatever_the_encoder_said(
    outputs: list[float], constant: str | None, epsilon: str
) -> None:
    release = joint_codebook(epsilon=epsilon, classes=2, bottleneck_dimension=3, constant=constant, codewords=64)
    value = prepare(release, np.array([outputs]), np.array([1]))
    assert isinstance(value, Clipped)
    near = nearest(release.codebook, value.steps, [seed("strange")])
    assert near.sum() == release.codebook.subset


def test_equal_scores_go_to_the_lower_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    same = np.ones((16, 3), dtype=np.int16)
    monkeypatch.setattr("ldp_client.privacy.codebook.codewords", lambda spec, seed: same)
    near = nearest(book(), directions(2, 3), [seed(0), seed(1)])
    assert near.tolist() == [[True] * 5 + [False] * 11] * 2


def test_codewords_are_normal_quantiles_looked_up_by_16_bits_and_symmetric() -> None:
    normal = [round(1024 * NormalDist().inv_cdf((i + 0.5) / 256)) for i in range(256)]
    spec = book(dimension=4096, count=4096, subset=1)
    seen = np.unique(codewords(spec, seed("table")))
    wanted = {2 * (a + b) + (1 if i >= 128 else -1) for i, a in enumerate(normal) for b in normal}
    assert set(seen.tolist()) <= wanted
    assert all(value % 2 and -value in wanted for value in wanted)
    assert len(seen) > 0.99 * len(wanted)


@pytest.mark.parametrize("dimension", [1, 2, 31, 32, 33, 65])
def test_a_codeword_made_alone_is_the_one_among_all(dimension: int) -> None:
    spec = book(1, 2, 1) if dimension == 1 else book(dimension)
    everything = codewords(spec, seed(dimension))
    for index in range(spec.codewords):
        assert codeword(spec, seed(dimension), index).tolist() == everything[index].tolist()
    with pytest.raises(ParameterError, match=f"a codebook of {spec.codewords} codewords has no codeword -1"):
        codeword(spec, seed(dimension), -1)


def test_integers_without_numpy_find_the_same_near() -> None:
    spec = book(dimension=5, count=64, subset=9)
    rows = directions(10, 5)
    near = nearest(spec, rows, [seed(row) for row in range(10)])
    for row, direction in enumerate(rows.tolist()):
        words = codewords(spec, seed(row)).tolist()
        scores = [
            (sum(a * b for a, b in zip(direction, one, strict=True)) << 12) // math.isqrt(sum(a * a for a in one))
            for one in words
        ]
        first = sorted(range(64), key=lambda index: (-scores[index], index))[:9]
        assert np.flatnonzero(near[row]).tolist() == sorted(first)


def test_indices_fit_their_probabilities_and_a_lower_threshold_does_not() -> None:
    """Chi-square at 1e-9; the twin keeps the near side with 0.72 instead of 0.75."""
    spec, count = book(), 20_000
    value = clip(np.repeat(directions(1, 3), count, axis=0), RULE)
    expected = np.array([float(chance) for chance in enumerated(spec, value.steps[0], seed("fit"))]) * count
    twin = book(threshold=int(0.72 * 2**64))
    for tried, wrong in ((spec, False), (twin, True)):
        drawn = Codebook(tried)(value, [seed("fit")] * count, SystemSource())
        assert rejects(np.bincount(drawn.indices, minlength=16).astype(float), expected) is wrong


@pytest.mark.parametrize("dimension", [1, 2, 8])
def test_the_decoded_mean_is_the_direction_and_another_constant_gives_another(dimension: int) -> None:
    """The length along the direction within six standard errors (2e-9); a constant 10 % off lies beyond them."""
    release = joint_codebook(epsilon=4, classes=2, bottleneck_dimension=dimension, codewords=64)
    spec, count = release.codebook, 20_000
    value = clip(np.repeat(directions(1, dimension), count, axis=0), RULE)
    drawn = Codebook(spec)(value, [seed(("decoded", row)) for row in range(count)], SystemSource())
    estimates = decode(spec, drawn.indices.tolist(), drawn.seeds)
    unit = value.steps[0] / np.linalg.norm(value.steps[0])
    along = estimates @ unit
    error = along.std() / math.sqrt(count)
    assert abs(along.mean() - 1) < 6 * error
    assert abs(1.1 * along.mean() - 1) > 6 * 1.1 * error
    spread = np.mean(np.sum((estimates - unit) ** 2, axis=1))
    assert spread / dimension == pytest.approx(noise_variance(spec), rel=0.1)


@pytest.mark.parametrize(("dimension", "count", "subset"), [(2, 64, 9), (3, 16, 7), (8, 256, 40), (64, 128, 12)])
def test_nearness_is_what_random_directions_have(dimension: int, count: int, subset: int) -> None:
    """Monte Carlo within six standard errors; a subset twice as large is told apart."""
    draws = np.random.default_rng(3).normal(size=(3_000, count, dimension))
    inner = np.sort(draws[:, :, 0] / np.linalg.norm(draws, axis=2), axis=1)[:, -subset:].mean(axis=1)
    error = inner.std() / math.sqrt(len(inner))
    assert abs(inner.mean() - nearness(dimension, count, subset)) < 6 * error
    assert abs(inner.mean() - nearness(dimension, count, 2 * subset)) > 6 * error


def test_nearness_has_its_closed_forms() -> None:
    assert nearness(2, 2, 1) == pytest.approx(4 / math.pi**2, rel=1e-7)
    # On the sphere in three dimensions an inner product is uniform: the largest of M has the mean (M-1)/(M+1).
    for count in (2, 64, 1024, 65_536):
        assert nearness(3, count, 1) == pytest.approx((count - 1) / (count + 1), abs=1e-6)


@pytest.mark.parametrize("count", [1024, 65_536])
def test_the_nearest_of_many_on_a_circle_is_integrated_where_it_lies(count: int) -> None:
    """E[cos(pi B)], B the least of M uniforms, = 1 - pi^2 / ((M+1)(M+2)) and a term below pi^4 / M^4."""
    wanted = 1 - math.pi**2 / ((count + 1) * (count + 2))
    assert nearness(2, count, 1) == pytest.approx(wanted, abs=1e-6)


def privunit_error(dimension: int, epsilon: float) -> float:
    """E |estimate - u|^2 = 1/m^2 - 1 of PrivUnit with its cap chosen numerically."""
    a, odds = (dimension - 1) / 2, math.expm1(epsilon)

    def mass(g: float) -> float:
        return 1 - float(betainc(a, a, (1 + g) / 2))

    def moment(g: float) -> float:
        constant = gammaln(dimension / 2) - gammaln((dimension - 1) / 2)
        return (1 - g * g) ** a * math.exp(constant) / (math.sqrt(math.pi) * (dimension - 1))

    g = brentq(lambda g: odds * moment(g) / (1 + odds * mass(g)) - g, 0.0, 1 - 1e-12)
    return 1 / g**2 - 1


@pytest.mark.parametrize("dimension", [8, 16, 64])
@pytest.mark.parametrize("epsilon", [1, 2, 4, 8])
def test_1024_codewords_are_within_5_percent_of_privunit(dimension: int, epsilon: int) -> None:
    spec = joint_codebook(epsilon=epsilon, classes=2, bottleneck_dimension=dimension).codebook
    ours, theirs = noise_variance(spec) * dimension, privunit_error(dimension, epsilon)
    assert 0.999 * theirs < ours < 1.05 * theirs


@pytest.mark.parametrize(("dimension", "epsilon"), [(2, 0.5), (2, 8.0), (8, 2.0), (64, 4.0)])
def test_the_subset_is_the_best_of_all(dimension: int, epsilon: float) -> None:
    def left(subset: int) -> float:
        odds = subset * math.exp(epsilon)
        return mean_length(dimension, 48, subset, odds / (odds + 48 - subset))

    assert best_subset(dimension, 48, epsilon) == max(range(1, 48), key=left)


@pytest.mark.parametrize("epsilon", [Fraction(1, 1000), Fraction(1), Fraction("7.3"), Fraction(30)])
@pytest.mark.parametrize(("outputs", "chosen"), [(2, 1), (3, 1), (1024, 238), (65_536, 1)])
def test_the_threshold_is_the_largest_within_epsilon(epsilon: Fraction, outputs: int, chosen: int) -> None:
    threshold = threshold_for(epsilon, outputs, chosen)
    with mpmath.workdps(80):
        bound = mpmath.exp(mpmath.mpf(epsilon.numerator) / epsilon.denominator)

        def ratio(value: int) -> mpmath.mpf:
            return mpmath.mpf(value * (outputs - chosen)) / ((2**64 - value) * chosen)

        assert ratio(threshold) <= bound < ratio(threshold + 1)


@pytest.mark.parametrize("epsilon", [Fraction(65), Fraction(10**6), Fraction(10**39)])
def test_a_huge_epsilon_neither_fills_the_memory_nor_gives_certainty(epsilon: Fraction) -> None:
    assert threshold_for(epsilon, 2, 1) == 2**64 - 1


def test_so_little_that_no_answer_is_likelier_is_refused() -> None:
    with pytest.raises(ParameterError, match="no likelier than the others: nothing could be learnt from it"):
        joint_codebook(epsilon=Fraction(1, 10**30), classes=2, bottleneck_dimension=8)


def test_the_least_advantage_is_still_decoded_by_a_finite_number() -> None:
    """p = 1/2 + 2^-64 is 1/2 to a float; its advantage is 2^-63."""
    spec = book(1, 2, 1, threshold=2**63 + 1)
    assert decode(spec, [0, 1], [seed(0)] * 2).tolist() == [[2.0**63], [-(2.0**63)]]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"subset": 16}, "a subset of 16 of 16 codewords leaves none outside; take more codewords"),
        ({"dimension": 1}, "a sign: 2 codewords and a subset of 1, found 16 and 5"),
        ({"threshold": 2**62}, "says one of 5 of 16 with probability 4611686018427387904 / 2"),
        ({"threshold": 2**64}, "threshold"),
        ({"dimension": 4096, "count": 8192}, "8192 codewords of 4096 coordinates are more than 16777216 numbers"),
    ],
)
def test_an_impossible_codebook_is_refused_with_its_numbers(change: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        book(**change)


def test_a_seed_of_another_length_is_refused_before_anything_is_drawn() -> None:
    source = Script()
    for spec in (book(), book(1, 2, 1)):
        with pytest.raises(ParameterError, match="a codebook's seed has 32 bytes; found another length"):
            Codebook(spec)(clip(directions(1, spec.dimension), RULE), [b"short"], source)
    assert source.asked == []
