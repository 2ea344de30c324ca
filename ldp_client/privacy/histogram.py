"""Noised counts of a site's evaluation set, by label and score bin."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.fault import no_such, shown
from ldp_client.privacy.loss import ExactNumber, exact
from ldp_client.privacy.noise import ByteSource, discrete_laplace
from ldp_client.privacy.proof import MADE, Made
from ldp_client.privacy.spec import HistogramSpec


@dataclass(frozen=True, eq=False)
class CappedCounts(Made):
    """Counts (K, B) in which no unit has more than `cap` X-rays. Made by `count`, in which the cap is kept."""

    what: ClassVar[str] = "capped counts come from `count`, which sees the units; found another origin"
    counts: NDArray[np.int64]
    spec: HistogramSpec


@dataclass(frozen=True, eq=False)
class NoisedHistogram(Made):
    """What the histogram mechanism returned: counts (K, B), some of them negative."""

    what: ClassVar[str] = "a noised histogram comes from a mechanism; nothing else can be packed"
    counts: NDArray[np.int64]
    spec: HistogramSpec


def count(
    spec: HistogramSpec, units: Sequence[bytes | str | int], labels: NDArray[np.int64], bins: NDArray[np.int64]
) -> CappedCounts:
    """Count X-rays by label and bin, the first `cap` of each unit.

    Raises:
        ParameterError: the three do not belong together, or a label or bin lies outside the spec.
    """
    if not len(units) == len(labels) == len(bins):
        raise ParameterError(
            f"each X-ray has a unit, a label and a bin; found {len(units)}, {len(labels)} and {len(bins)}"
        )
    if not all(type(unit) in (bytes, str, int) for unit in units):
        # A missing id as NaN or None would be a unit of its own each time, or one of many people.
        raise ParameterError("a unit is named by bytes, text or a whole number; found another kind of value")
    for name, values, limit in (("label", labels, spec.classes), ("bin", bins, spec.bins)):
        if values.dtype != np.int64 or values.ndim != 1:
            # As an index, an array of truth values or of rows would move more than one count.
            raise ParameterError(f"each {name} is one int64; found shape {values.shape} of {values.dtype}")
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < limit:
            raise ParameterError(f"a {name} must lie in 0..{limit - 1}")
    seen: Counter[bytes | str | int] = Counter()
    counts = np.zeros((spec.classes, spec.bins), dtype=np.int64)
    for unit, label, place in zip(units, labels, bins, strict=True):
        seen[unit] += 1
        counts[label, place] += seen[unit] <= spec.cap
    return CappedCounts(counts, spec, proof=MADE)


@dataclass(frozen=True)
class Histogram:
    """Discrete Laplace noise of scale 2 cap / epsilon on every count.

    epsilon per unit, all X-rays of one unit replaced by the same number of others. E[count] is the count; the variance
    is 2q / (1-q)^2, q = exp(-1/scale).

    Reference: docs/privacy.md, Theorem 6.
    """

    spec: HistogramSpec

    def __call__(self, value: CappedCounts, source: ByteSource) -> NoisedHistogram:
        """Noise the counts with fresh randomness.

        Raises:
            ParameterError: the value is not `CappedCounts`, or was counted for another spec.
        """
        if not isinstance(value, CappedCounts):
            raise ParameterError(f"only CappedCounts can be noised; found {type(value).__name__}")
        if value.spec != self.spec:
            raise ParameterError("the counts were made for another histogram than the mechanism's")
        noise = discrete_laplace(self.spec.scale, value.counts.size, source).reshape(value.counts.shape)
        return NoisedHistogram(value.counts + noise, self.spec, proof=MADE)


def noise_variance(spec: HistogramSpec) -> float:
    """Variance of each noised count: 2q / (1-q)^2."""
    rate = float(1 / spec.scale)
    return 2 * math.exp(-rate) / math.expm1(-rate) ** 2


def histogram(*, epsilon: ExactNumber, classes: int, bins: int, cap: int) -> HistogramSpec:
    """The histogram of total `epsilon` for each unit of at most `cap` X-rays.

    Raises:
        ParameterError: epsilon is not positive or not exact, or the histogram is impossible.

    >>> histogram(epsilon=1, classes=2, bins=20, cap=3).scale
    Fraction(6, 1)
    """
    total = exact("epsilon", epsilon)
    if total <= 0:
        raise ParameterError(f"epsilon must be positive; found {shown(total)}. Without noise there is no release")
    if type(cap) is not int or cap < 1:
        raise ParameterError(f"cap must be a whole number of X-rays from 1 on; found {shown(cap)}")
    with no_such("histogram"):
        return HistogramSpec(bins=bins, classes=classes, cap=cap, scale=Fraction(2 * cap) / total)
