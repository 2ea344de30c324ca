"""The privacy engine's figures: exact noise beside OpenDP's sampler."""

from __future__ import annotations

from fractions import Fraction

import opendp.prelude as dp

from examples.bench.rows import Row, alternate, row
from ldp_client.privacy.noise import SystemSource, discrete_laplace

SAMPLES = 1_000_000
OPENDP_SAMPLES = 20_000


def laplace(name: str, scale: int, target: float) -> Row:
    """Exact discrete Laplace samples a second, against OpenDP's sampler on a vector of integers."""
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l1_distance(T="i64")
    measure = dp.m.make_laplace(*space, scale=float(scale))
    zeros, source = [0] * OPENDP_SAMPLES, SystemSource()
    ours, theirs = alternate(
        lambda: discrete_laplace(Fraction(scale), SAMPLES, source),
        lambda: measure(zeros),
    )
    return row(f"laplace scale {name}", SAMPLES, "samples/s", SAMPLES / ours, OPENDP_SAMPLES / theirs, target)


def rows() -> list[Row]:
    """Every figure of this suite."""
    return [laplace("1", 1, 100), laplace("1e3", 1_000, 100), laplace("1e6", 1_000_000, 50)]
