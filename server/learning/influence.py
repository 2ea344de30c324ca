"""How far one site may turn what is learnt: a cap on each site's mean, for centres that cannot vouch for every site.

A record that passed intake can still be crafted: intake proves what a mechanism *can* have drawn, not that it drew it.
The mean of the records is a sum over sites, so a site with a tenth of the records can move it by a tenth of the longest
record there is. The cap compares site means, whose spread is known where sites are honest: with v the squared length of
a record's deviation from its own site's mean (the median over sites, weighted by n_s), site s with n_s records and mean
m_s has

    t_s = |m_s - c| sqrt(n_s / v),      c = the geometric median of the site means, weighted by n_s,

near 1, and more where its X-rays differ from the others'. A mean with t_s above `bar` times the weighted median of all
t (at least 1) is pulled back to that distance along its line to c. Of S sites of one population, whose d t_s^2 is near
chi squared with d degrees of freedom where noise is alike in all d numbers of a record, some site lies beyond the bar
by chance with probability `FALSE_ALARM` or so. Honest sites that differ as much as the others do are left as they are.
What this cannot mend: crafted records spread over all sites, or half of the records and more.

Reference: geometric medians against corrupted contributions, Pillutla, Kakade, Harchaoui: Robust aggregation for
federated learning. IEEE Transactions on Signal Processing 70, 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from ldp_client.errors import ParameterError
from server.learning.train import TrainingSet

CAP, FALSE_ALARM = 2.0, 0.01
_ROUNDS = 200
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Capped:
    """Records whose site means were capped, and by which factor each site's deviation was multiplied (1: untouched)."""

    training_set: TrainingSet
    sites: tuple[str, ...]
    factors: Floats


def bar(dimension: int, sites: int) -> float:
    """How far out a site's mean may lie: sqrt(q / d), q the 1 - `FALSE_ALARM` / S quantile, and at least `CAP`.

    >>> [round(bar(dimension, 10), 2) for dimension in (1, 2, 4, 8)]
    [3.29, 2.63, 2.15, 2.0]
    """
    return max(CAP, float(np.sqrt(chi2.isf(FALSE_ALARM / sites, dimension) / dimension)))


def cap_influence(training_set: TrainingSet, sites: NDArray[np.str_], cap: float | None = None) -> Capped:
    """Move the records of sites whose mean lies too far out, all of a site by the same vector. Post-processing.

    Args:
        training_set: decoded records (N, d).
        sites: (N,) the site of each record.
        cap: how many times the usual distance a site's mean may have; by default `bar`.

    Raises:
        ParameterError: fewer than three sites (of two nobody can say which one is wrong), another number of sites than
            records, or a cap that is not positive.
    """
    vectors = training_set.vectors
    if len(sites) != len(vectors) or not (cap is None or cap > 0):
        raise ParameterError(
            f"a cap on sites takes one site for each of {len(vectors)} records and a positive cap; found {len(sites)} "
            f"and {cap}"
        )
    names, member = np.unique(sites, return_inverse=True)
    if len(names) < 3:
        raise ParameterError(
            f"found records of {len(names)} sites; a cap on each site's influence needs at least 3, since of two "
            "nobody can say which one is wrong: train without it"
        )
    counts = np.bincount(member).astype(np.float64)
    means = np.stack([vectors[member == site].mean(0) for site in range(len(names))])
    centre = geometric_median(means, counts)
    distances = np.linalg.norm(means - centre, axis=1)
    # A crafted record would widen a mean square; the median over sites of their own mean squares hardly moves.
    squares = np.sum((vectors - means[member]) ** 2, axis=1)
    spread = np.bincount(member, weights=squares) / counts
    unit = np.sqrt(_weighted_median(spread, counts) / counts)
    apart = distances / np.where(unit > 0, unit, 1.0)
    cap = bar(vectors.shape[1], len(names)) if cap is None else cap
    allowed = cap * max(1.0, _weighted_median(apart, counts))
    factors = np.minimum(1.0, allowed / np.maximum(apart, 1e-300))
    moved = vectors + ((factors - 1)[:, None] * (means - centre))[member]
    return Capped(replace(training_set, vectors=moved), tuple(names.tolist()), factors)


def geometric_median(points: Floats, weights: Floats) -> Floats:
    """The point with the smallest weighted sum of distances to (S, d) points, by Weiszfeld's iteration, smoothed."""
    centre: Floats = np.average(points, axis=0, weights=weights)
    scale = float(np.linalg.norm(points - centre, axis=1).mean())
    for _ in range(_ROUNDS if scale > 0 else 0):
        pull = weights / np.maximum(np.linalg.norm(points - centre, axis=1), 1e-6 * scale)
        centre = pull @ points / pull.sum()
    return centre


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][int(np.searchsorted(reached, reached[-1] / 2))])
