"""OpenDP as the oracle: the same distribution, and the same privacy map."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import opendp.prelude as dp
import pytest
from goodness_of_fit import apart
from numpy.typing import NDArray

from ldp_client.privacy.noise import SystemSource, discrete_laplace
from ldp_client.privacy.spec import DiscreteLaplaceSpec, L1Clip

ORACLE_SAMPLES = 20_000
SAMPLES = 100_000


def oracle(scale: float) -> dp.Measurement:
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T=int)), dp.l1_distance(T=int)
    return dp.m.make_laplace(*space, scale=scale)


def oracle_draws(scale: float) -> NDArray[np.int64]:
    return np.array(oracle(scale)([0] * ORACLE_SAMPLES), dtype=np.int64)


@pytest.mark.parametrize("scale", ["0.3", "1", "2.5", "10", "12.5", "1000/3", "12345.678"])
def test_both_samplers_draw_from_one_distribution(scale: str) -> None:
    exact = Fraction(scale)
    assert not apart(discrete_laplace(exact, SAMPLES, SystemSource()), oracle_draws(float(exact)), float(exact))


@pytest.mark.parametrize("factor", ["7/10", "13/10"])
@pytest.mark.parametrize("scale", ["0.3", "2.5", "12345.678"])
def test_a_twin_whose_scale_is_off_is_told_apart_from_the_oracle(scale: str, factor: str) -> None:
    exact = Fraction(scale)
    twin = discrete_laplace(exact * Fraction(factor), SAMPLES, SystemSource())
    assert apart(twin, oracle_draws(float(exact)), float(exact))


@pytest.mark.parametrize("radius", [1, 8, 1000, 2**17 + 1])
@pytest.mark.parametrize("scale", ["1/2", "1", "5/2", "1024", "1000/3", "12345.678"])
def test_the_loss_is_the_oracles_map_rounded_up_to_a_millionth(radius: int, scale: str) -> None:
    exact = Fraction(scale)
    clip = L1Clip(radius_steps=radius)
    spec = DiscreteLaplaceSpec(clip=clip, dimension=3, scale=exact, grid=Fraction(1))
    theirs = Fraction(oracle(float(exact)).map(d_in=clip.sensitivity_steps(1)))
    ours = Fraction(spec.loss.micro_epsilon, 10**6)
    # Theirs rounds up in float: a relative 2^-50 covers its last digits and the scale's nearest float.
    assert theirs * (1 - Fraction(1, 2**50)) <= ours <= theirs * (1 + Fraction(1, 2**50)) + Fraction(1, 10**6)
