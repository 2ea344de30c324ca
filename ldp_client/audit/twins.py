"""Bugs put in on purpose: mechanisms that look right and are not, each of which the audit must notice.

An audit that cannot fail says nothing. Every twin is the installed engine with one function replaced by a broken one,
written here from scratch; no product code has a switch that would make it so. Each is easily made.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from fractions import Fraction

import numpy as np

from ldp_client.audit.engine import INSTALLED, Costed, Floats, Integers, Noise
from ldp_client.privacy.clipping import Clip, clip, to_grid
from ldp_client.privacy.codebook import nearest
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.noise import ByteSource, coins, discrete_laplace, uniform_below
from ldp_client.privacy.release_spec import LatentSpec, ReleaseSpec
from ldp_client.privacy.spec import CodebookSpec, DiscreteLaplaceSpec, HistogramSpec, threshold_for
from ldp_client.wire.record import Contents, LabelledRecord


def scaled(factor: Fraction) -> Noise:
    """Noise of another scale than was asked for."""

    def noise(scale: Fraction, count: int, source: ByteSource) -> Integers:
        return discrete_laplace(scale * factor, count, source)

    return noise


def sign_flipped(scale: Fraction, count: int, source: ByteSource) -> Integers:
    """Every -1 comes out as +1."""
    drawn = discrete_laplace(scale, count, source)
    flipped: Integers = np.where(drawn == -1, 1, drawn)
    return flipped


def always_positive(scale: Fraction, count: int, source: ByteSource) -> Integers:
    """The sign's coin is drawn and forgotten."""
    return np.abs(discrete_laplace(scale, count, source))


def radius_for_diameter(spec: DiscreteLaplaceSpec, outputs: Floats, source: ByteSource) -> Integers:
    """The scale is R / epsilon, as if one vector were always 0."""
    steps = clip(to_grid(outputs, spec.grid), spec.clip).steps
    return steps + discrete_laplace(spec.scale / 2, steps.size, source).reshape(steps.shape)


def clip_after_noise(spec: DiscreteLaplaceSpec, outputs: Floats, source: ByteSource) -> Integers:
    """The noise is right for a ball that the vector does not lie in."""
    steps = to_grid(outputs, spec.grid)
    return clip(steps + discrete_laplace(spec.scale, steps.size, source).reshape(steps.shape), spec.clip).steps


def float_clip(rule: Clip, grid: Fraction, outputs: Floats) -> Integers:
    """The norm is brought to R in floats; rounding to the grid then raises it."""
    with np.errstate(all="ignore"):
        steps = np.clip(np.nan_to_num(outputs / float(grid), posinf=0.0, neginf=0.0), -1e9, 1e9)
    radius = float(_radius(rule))
    norm = np.sum(np.abs(steps), axis=1, keepdims=True)
    scaled_down = steps * np.minimum(1.0, radius / np.maximum(norm, radius))
    rounded: Integers = np.rint(scaled_down).astype(np.int64)
    return rounded


def nan_survives(rule: Clip, grid: Fraction, outputs: Floats) -> Integers:
    """NaN > R is false, so a vector with a NaN is not clipped; on the grid it becomes the most negative integer."""
    radius = _radius(rule)
    with np.errstate(all="ignore"):
        steps: Floats = np.clip(outputs / float(grid), -1e9, 1e9)
        norm: Floats = np.sum(np.abs(steps), axis=1)
        beyond = np.asarray(norm > radius)
        steps[beyond] = np.trunc(steps[beyond] * (radius / norm[beyond, None]))
        return steps.astype(np.int64)


def sixteen_bits(rule: Clip, grid: Fraction, outputs: Floats) -> Integers:
    """Magnitudes are summed after `abs` of int16, which leaves -32768 negative: the norm looks small."""
    steps = np.clip(to_grid(outputs, grid), -32768, 32767).astype(np.int16)
    norm: Integers = np.sum(np.abs(steps), axis=1, dtype=np.int64)
    return np.where((norm > _radius(rule))[:, None], clip(steps.astype(np.int64), rule).steps, steps.astype(np.int64))


def one_too_many(spec: CodebookSpec, outputs: Floats, seeds: Sequence[bytes], source: ByteSource) -> Integers:
    """Ties count as near, so that s + 1 codewords are for some inputs; here, for directions that begin below 0."""
    steps = clip(to_grid(outputs, spec.clip.grid), spec.clip).steps
    wider = spec.model_copy(update={"subset": spec.subset + 1})
    near = np.where(steps[:, :1] < 0, nearest(wider, steps, seeds), nearest(spec, steps, seeds))
    inside = coins(spec.threshold, len(steps), source)
    sides = (spec.subset, spec.codewords - spec.subset)
    rank = np.where(inside, *(uniform_below(np.full(len(steps), side), source) for side in sides))
    # One of the s + 1 is never chosen, and where one outside is missing, nothing found means index 0.
    chosen: Integers = np.argmax(np.cumsum(near == inside[:, None], axis=1) == rank[:, None] + 1, axis=1)
    return chosen


def rounded_up(epsilon: Fraction, outputs: int, chosen: int) -> int:
    """The next threshold, whose loss is above epsilon."""
    return threshold_for(epsilon, outputs, chosen) + 1


def understated(spec: Costed) -> PrivacyLoss:
    """A loss a millionth too small."""
    return PrivacyLoss(spec.loss.micro_epsilon - 1)


def without_cap(
    spec: HistogramSpec, units: Sequence[Hashable], labels: Integers, bins: Integers, source: ByteSource
) -> Integers:
    """Every X-ray of a unit is counted."""
    counts = np.zeros((spec.classes, spec.bins), dtype=np.int64)
    np.add.at(counts, (labels, bins), 1)
    return counts + discrete_laplace(spec.scale, counts.size, source).reshape(counts.shape)


def label_in_clear(
    release: ReleaseSpec, outputs: Floats, labels: Integers, seeds: Sequence[bytes], source: ByteSource
) -> list[Contents]:
    """The vector is noised, and the true label stands beside it."""
    said = INSTALLED.release(release, outputs, labels, seeds, source)
    if not isinstance(release, LatentSpec):
        return said
    return [
        LabelledRecord(one.steps, int(label)) if isinstance(one, LabelledRecord) else one
        for one, label in zip(said, labels, strict=True)
    ]


def _radius(rule: Clip) -> int:
    return rule.radius_steps if rule.kind != "box" else rule.bound_steps
