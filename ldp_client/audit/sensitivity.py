"""Exact bounds on epsilon from the clip alone: how far apart two clipped vectors can be brought, in scales of noise.

Noise of scale s on vectors at L1 distance D costs D / s, so a clip that lets a vector out of its ball understates
epsilon however good the noise is. Vectors that broke clips are put in, and distances are summed without wrapping.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import combinations

import numpy as np

from ldp_client.audit.engine import Engine, Floats
from ldp_client.audit.findings import Bound
from ldp_client.privacy.loss import MICRO
from ldp_client.privacy.spec import MAX_STEPS, BoxClip, DiscreteLaplaceSpec, L1Clip

GRID = Fraction(1, 1024)
MANY = 16_384
"""Coordinates of one clip: with R just over half as many steps, a float clip leaves 0.5 each and rounding doubles R."""


def traps(dimension: int) -> Floats:
    """Encoder outputs that broke a clip somewhere. Shape (N, d)."""
    step = float(GRID)
    rows = np.zeros((12, dimension))
    rows[0], rows[1] = 1e3, -1e3  # a float clip's equal parts, rounded up together
    rows[2], rows[3] = -32768 * step, 32767 * step  # |-32768| is -32768 in 16 bits
    rows[4], rows[5] = np.nan, np.inf
    rows[6] = np.where(np.arange(dimension) % 3, 1e3, np.nan)
    rows[7] = np.where(np.arange(dimension) % 2, 1e308, -1e308)
    rows[8] = 0.5 * step  # a tie of rounding
    rows[9] = 5e-324
    rows[10, 0], rows[11, 0] = 1e6, -1e6
    return rows


def clip_bound(engine: Engine, name: str, spec: DiscreteLaplaceSpec) -> Bound:
    """The largest distance of two clipped traps over the scale, against the claim, as fractions."""
    clipped = engine.clipped(spec.clip, spec.grid, traps(spec.dimension))
    if np.any(clipped > MAX_STEPS) or np.any(clipped < -MAX_STEPS):
        clipped = clipped.astype(object)  # Python integers: what should not be there may wrap an int64
    farthest = max(int(np.sum(np.abs(first - second))) for first, second in combinations(clipped, 2))
    cost, claimed = Fraction(farthest) / spec.scale, engine.loss(spec)
    return Bound(name, float(claimed), float(cost), 0, holds=cost <= Fraction(claimed.micro_epsilon, MICRO))


def clip_bounds(engine: Engine) -> Iterable[Bound]:
    """Both clips."""
    radius = MANY // 2 + 1
    ball = DiscreteLaplaceSpec(clip=L1Clip(radius_steps=radius), dimension=MANY, scale=Fraction(2 * radius), grid=GRID)
    yield clip_bound(engine, f"clip to an L1 ball, d = {MANY}", ball)
    box = DiscreteLaplaceSpec(clip=BoxClip(bound_steps=3072), dimension=8, scale=Fraction(2 * 3072 * 8, 3), grid=GRID)
    yield clip_bound(engine, "clip to a box, d = 8", box)


def stated_bounds(engine: Engine) -> Iterable[Bound]:
    """A loss that is no whole number of millionths: stating less than 2R / s would be a lie, however small."""
    spec = DiscreteLaplaceSpec(clip=L1Clip(radius_steps=1), dimension=1, scale=Fraction(3), grid=GRID)
    cost, claimed = spec.sensitivity_steps / spec.scale, engine.loss(spec)
    holds = cost <= Fraction(claimed.micro_epsilon, MICRO)
    yield Bound("stated loss of sensitivity 2, scale 3", float(claimed), float(cost), 0, holds)
