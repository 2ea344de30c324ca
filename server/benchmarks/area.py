"""Area under the ROC curve, the test set's own standard error, and whether a difference counts.

The area of scores s for labels 0 and 1 is P(s of a 1 > s of a 0), ties counted half. With more labels it is the mean
over pairs of labels a, b of the area of s_a - s_b among the X-rays of either. The bootstrap draws whole groups (all
X-rays of one patient together) with replacement, and draws of the noise as well where an interval is to include it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError

DRAWS = 1000
_SEED = 20230913
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def area(scores: NDArray[np.floating], labels: Labels) -> float:
    """Area of scores (T, K), or (T,) for two labels, on labels (T,).

    Raises:
        ParameterError: a label that no X-ray has.
    """
    return float(weighted_areas(scores, labels, np.ones((1, len(labels))))[0])


def weighted_areas(scores: NDArray[np.floating], labels: Labels, weights: Floats) -> Floats:
    """The area once for each row of weights (B, T): how often each test X-ray counts. Shape (B,).

    A resampling that leaves a label without X-rays has no area, and is NaN.
    """
    columns = scores[:, None] * np.array([-0.5, 0.5]) if scores.ndim == 1 else scores
    present = np.unique(labels)
    if len(present) < columns.shape[1]:
        raise ParameterError(f"an area needs X-rays of all {columns.shape[1]} labels; found {len(present)}")
    pairs = list(itertools.combinations(range(columns.shape[1]), 2))
    areas = [_of_pair(columns[:, b] - columns[:, a], labels, weights, (a, b)) for a, b in pairs]
    found: Floats = np.mean(areas, axis=0)
    return found


def _of_pair(scores: Floats, labels: Labels, weights: Floats, pair: tuple[int, int]) -> Floats:
    rows = np.isin(labels, pair)
    order = np.argsort(scores[rows], kind="stable")
    sorted_scores, positive = scores[rows][order], labels[rows][order] == pair[1]
    w = weights[:, rows][:, order]
    # Equal scores are one step of the curve: each 1 in it beats the 0s before the step and half of those in it.
    step = np.concatenate([[0], np.cumsum(np.diff(sorted_scores) > 0)])
    starts = np.concatenate([[0], np.flatnonzero(np.diff(step)) + 1])
    ones = np.add.reduceat(w * positive, starts, axis=1)
    zeros = np.add.reduceat(w * ~positive, starts, axis=1)
    below = np.cumsum(zeros, axis=1) - zeros
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (ones * (below + zeros / 2)).sum(1) / (ones.sum(1) * zeros.sum(1))
    return found


@dataclass(frozen=True, eq=False)
class TestSet:
    """Labels (T,) and groups (T,) of the X-rays that areas are taken on, and the weights of every resampling."""

    labels: Labels
    weights: Floats

    @classmethod
    def of(cls, labels: Labels, groups: NDArray[np.str_], draws: int = DRAWS) -> TestSet:
        """Resample groups with replacement, with a fixed seed: every row is judged on the same resamplings."""
        _, member = np.unique(groups, return_inverse=True)
        count = int(member.max()) + 1
        picked = np.random.default_rng(_SEED).multinomial(count, np.full(count, 1 / count), size=draws)
        return cls(labels, picked[:, member].astype(np.float64))

    def areas(self, scores: NDArray[np.floating]) -> Floats:
        """The area of each repeat (R, T, K) or (R, T). Shape (R,)."""
        ones = np.ones((1, len(self.labels)))
        return np.array([weighted_areas(one, self.labels, ones)[0] for one in scores])

    def resampled(self, scores: NDArray[np.floating]) -> Floats:
        """The area of each repeat on each resampling. Shape (R, B)."""
        return np.array([weighted_areas(one, self.labels, self.weights) for one in scores])


def test_error(resampled: Floats) -> float:
    """The test set's own standard error of the mean area over repeats, from (R, B)."""
    return float(np.nanstd(resampled.mean(0)))


def paired_difference(ours: Floats, theirs: Floats) -> tuple[float, float]:
    """95 % interval of the difference of two mean areas, from their areas on the same resamplings, (R, B) and (R', B).

    Each resampling of the test set is paired with itself; the draws of the noise are resampled beside it.
    """
    generator = np.random.default_rng(_SEED)
    draws = ours.shape[1]
    columns = np.arange(draws)[:, None]
    first = ours[generator.integers(len(ours), size=(draws, len(ours))), columns].mean(1)
    second = theirs[generator.integers(len(theirs), size=(draws, len(theirs))), columns].mean(1)
    low, high = np.nanquantile(first - second, [0.025, 0.975])
    return float(low), float(high)
