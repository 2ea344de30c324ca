"""The mechanism: what it takes, what it makes, and that its estimate has no bias."""

from __future__ import annotations

import copy
import dataclasses
import math
import types
from fractions import Fraction

import numpy as np
import pytest
from goodness_of_fit import SAMPLES, refuted
from scripted import Script

from ldp_client.errors import ParameterError
from ldp_client.privacy.clipping import Clipped, clip
from ldp_client.privacy.laplace import DiscreteLaplace, Noised, decode, noise_variance
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.spec import DiscreteLaplaceSpec, L1Clip

CLIP = L1Clip(radius_steps=10)
SPEC = DiscreteLaplaceSpec(clip=CLIP, dimension=2, scale=Fraction(5), grid=Fraction(1, 4))


def rows(*values: list[int]) -> Clipped:
    return clip(np.array(values, dtype=np.int64), CLIP)


def test_the_noise_is_added_to_each_coordinate_of_each_row() -> None:
    many = clip(np.tile(np.array([[7, -3]], dtype=np.int64), (SAMPLES // 2, 1)), CLIP)
    noised = DiscreteLaplace(SPEC)(many, SystemSource())
    noise = noised.steps - many.steps
    assert noised.spec == SPEC
    assert not refuted(noise.ravel(), 5.0)
    assert not refuted(noise[:, 0], 5.0)
    assert not refuted(noise[:, 1], 5.0)
    both = noise.astype(np.float64)
    # Independent coordinates: a correlation beyond 6.11 / sqrt(N) has probability 1e-9.
    assert abs(np.corrcoef(both.T)[0, 1]) < 6.11 / math.sqrt(len(both))


def test_the_estimate_has_no_bias_and_the_stated_variance() -> None:
    steps = np.tile(np.array([[7, -3]], dtype=np.int64), (SAMPLES, 1))
    estimate = decode(DiscreteLaplace(SPEC)(clip(steps, CLIP), SystemSource()).steps, SPEC)
    errors = estimate - np.array([7, -3]) / 4
    variance = noise_variance(SPEC)
    assert np.all(np.abs(errors.mean(axis=0)) < 6.11 * math.sqrt(variance / SAMPLES))
    spread = 6.11 * (errors**2).std(axis=0) / math.sqrt(SAMPLES)
    assert np.all(np.abs((errors**2).mean(axis=0) - variance) < spread)


@pytest.mark.parametrize("scale", ["1/100", "3/10", "1", "5/2", "1000/3", "281474976710655"])
def test_the_variance_is_the_sum_over_the_probability_mass_function(scale: str) -> None:
    exact = Fraction(scale)
    spec = DiscreteLaplaceSpec(clip=L1Clip(radius_steps=2), dimension=1, scale=exact, grid=Fraction(1, 2))
    if exact > 10**6:
        # 2 s^2 - 1/6 + O(s^-2): at large scales the discrete and the continuous variance meet.
        assert noise_variance(spec) == pytest.approx(0.25 * 2 * float(exact) ** 2, rel=1e-9)
        return
    q = math.exp(-1 / float(exact))
    y = np.arange(1, int(60 * exact) + 60, dtype=np.float64)
    summed = 2 * float(np.sum(y**2 * (1 - q) / (1 + q) * q**y))
    assert noise_variance(spec) == pytest.approx(0.25 * summed, rel=1e-9)


def test_the_variance_of_the_continuous_distribution_would_be_wrong_at_small_scales() -> None:
    spec = DiscreteLaplaceSpec(clip=L1Clip(radius_steps=1), dimension=1, scale=Fraction(1, 2), grid=Fraction(1))
    assert noise_variance(spec) == pytest.approx(2 * math.exp(-2) / (1 - math.exp(-2)) ** 2)
    assert noise_variance(spec) < 0.75 * (2 * 0.5**2)


def test_decoding_multiplies_by_the_grid_and_nothing_else() -> None:
    assert decode(np.array([[4, -1, 2**40]]), SPEC).tolist() == [[1.0, -0.25, 2**38]]


def test_a_vector_that_another_rule_clipped_is_refused_before_a_byte_is_drawn() -> None:
    wider = clip(np.array([[20, 0]], dtype=np.int64), L1Clip(radius_steps=20))
    source = Script()
    with pytest.raises(ParameterError, match=r"the vector was clipped by .*20.*, the mechanism expects .*10"):
        DiscreteLaplace(SPEC)(wider, source)
    assert source.asked == []


def test_a_vector_of_another_dimension_is_refused_before_a_byte_is_drawn() -> None:
    source = Script()
    with pytest.raises(ParameterError, match="the vector has 3 coordinates, the mechanism expects 2"):
        DiscreteLaplace(SPEC)(rows([1, 2, 3]), source)
    assert source.asked == []


def test_an_array_that_was_not_clipped_cannot_be_noised() -> None:
    outside = np.array([[100, 100]], dtype=np.int64)
    for value in (outside, types.SimpleNamespace(steps=outside, clip=CLIP)):
        with pytest.raises(ParameterError, match="only Clipped vectors can be noised; found"):
            DiscreteLaplace(SPEC)(value, SystemSource())  # type: ignore[arg-type]


def test_only_a_mechanism_makes_noised_vectors() -> None:
    honest = DiscreteLaplace(SPEC)(rows([1, 2]), SystemSource())
    bare = np.array([[1, 2]], dtype=np.int64)
    text = "noised vectors come from a mechanism; nothing else can be packed into a record"
    for attempt in (
        lambda: Noised(bare, SPEC),
        lambda: Noised(bare, SPEC, proof=object()),
        lambda: Noised(bare, SPEC, proof=honest.proof),
        lambda: dataclasses.replace(honest, steps=bare),
        lambda: dataclasses.replace(honest, spec=SPEC),
    ):
        with pytest.raises(ParameterError, match=text):
            attempt()


def test_noised_vectors_cannot_be_changed() -> None:
    noised = DiscreteLaplace(SPEC)(rows([1, 2]), SystemSource())
    with pytest.raises(ValueError, match="read-only"):
        noised.steps[0, 0] = 0
    for array in (noised.steps, noised.steps[:1], rows([1, 2]).steps):
        with pytest.raises(ValueError, match="cannot set WRITEABLE flag to True"):
            array.flags.writeable = True
    with pytest.raises(dataclasses.FrozenInstanceError):
        noised.steps = np.zeros((1, 2), dtype=np.int64)  # type: ignore[misc]
    assert np.array_equal(copy.copy(noised).steps, noised.steps)


def test_a_mechanism_has_no_seed() -> None:
    assert [field.name for field in dataclasses.fields(DiscreteLaplace)] == ["spec"]
    first, second = (DiscreteLaplace(SPEC)(rows(*[[0, 0]] * 50), SystemSource()).steps for _ in range(2))
    assert not np.array_equal(first, second)


def test_no_rows_are_noised_to_no_rows() -> None:
    empty = Clipped(np.zeros((0, 2), dtype=np.int64), CLIP)
    assert DiscreteLaplace(SPEC)(empty, SystemSource()).steps.shape == (0, 2)
