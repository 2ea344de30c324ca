"""Chi-square tests of discrete Laplace samples, with the exact bin probabilities.

A test here rejects a right sampler with probability ALPHA. The critical value is `scipy.stats.chi2.isf(ALPHA, df)`;
bins are merged until each expects at least FLOOR samples, so that the chi-square distribution holds this far out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

ALPHA = 1e-9
"""Per test; with under 100 such tests, a false alarm in about one run in 10 million."""
SAMPLES = 100_000
DEVIATION = 0.30
"""A scale off by this much must be rejected, in both directions, at every scale that is tested."""
FLOOR = 50.0


def below(edges: NDArray[np.int64], scale: float) -> NDArray[np.float64]:
    """P(Y <= y): q^-y / (1+q) for y < 0, and 1 - q^(y+1) / (1+q) from 0 on."""
    y = edges.astype(np.float64)
    one_plus_q = 1.0 + np.exp(-1.0 / scale)
    return np.where(y < 0, np.exp(y / scale) / one_plus_q, 1.0 - np.exp(-(y + 1.0) / scale) / one_plus_q)


def edges_for(scale: float) -> NDArray[np.int64]:
    """Upper ends of bins: every integer where there are few, else about 64 bins of like probability."""
    if scale < 20:
        reach = int(20 * scale) + 2
        return np.arange(-reach, reach + 1)
    # An odd number of levels would put an edge on the median; 0 is then the upper end of a bin.
    levels = np.arange(1, 65) / 65
    tail = np.minimum(levels, 1 - levels)
    return np.unique(np.rint(np.sign(levels - 0.5) * -np.log(2 * tail) * scale).astype(np.int64))


def merged(observed: NDArray[np.float64], expected: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Neighbouring bins together, until each expects at least FLOOR."""
    seen: list[float] = []
    wanted: list[float] = []
    carry_seen = carry_wanted = 0.0
    for have, want in zip(observed, expected, strict=True):
        carry_seen, carry_wanted = carry_seen + have, carry_wanted + want
        if carry_wanted >= FLOOR:
            seen.append(carry_seen)
            wanted.append(carry_wanted)
            carry_seen = carry_wanted = 0.0
    seen[-1] += carry_seen
    wanted[-1] += carry_wanted
    return seen, wanted


def rejects(observed: NDArray[np.float64] | list[float], expected: NDArray[np.float64] | list[float]) -> bool:
    """Whether Pearson's statistic is beyond the critical value, with one degree of freedom less than bins."""
    seen, wanted = np.asarray(observed, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    statistic = float(np.sum((seen - wanted) ** 2 / wanted))
    return statistic > float(chi2.isf(ALPHA, len(wanted) - 1))


def refuted(sample: NDArray[np.int64], scale: float) -> bool:
    """Whether these draws cannot come from the discrete Laplace distribution of this scale."""
    edges = edges_for(scale)
    cumulative = np.concatenate(([0.0], below(edges, scale), [1.0]))
    positions = np.searchsorted(edges, sample, side="left")
    observed = np.bincount(positions, minlength=len(edges) + 1).astype(np.float64)
    return rejects(*merged(observed, np.diff(cumulative) * len(sample)))


def apart(first: NDArray[np.int64], second: NDArray[np.int64], scale: float) -> bool:
    """Whether two samples cannot come from one distribution: homogeneity over the same bins."""
    edges = edges_for(scale)
    both = [
        np.bincount(np.searchsorted(edges, one, side="left"), minlength=len(edges) + 1).astype(np.float64)
        for one in (first, second)
    ]
    total = both[0] + both[1]
    share = len(second) / (len(first) + len(second))
    keep = [group for group in _groups(total * min(share, 1 - share)) if group]
    statistic = 0.0
    for counts, size in zip(both, (len(first), len(second)), strict=True):
        for group in keep:
            wanted = float(total[group].sum()) * size / (len(first) + len(second))
            statistic += (float(counts[group].sum()) - wanted) ** 2 / wanted
    return statistic > float(chi2.isf(ALPHA, len(keep) - 1))


def _groups(expected: NDArray[np.float64]) -> list[list[int]]:
    groups: list[list[int]] = [[]]
    mass = 0.0
    for position, want in enumerate(expected):
        groups[-1].append(position)
        mass += float(want)
        if mass >= FLOOR:
            groups.append([])
            mass = 0.0
    if len(groups) > 1:
        groups[-2].extend(groups.pop())
    return groups
