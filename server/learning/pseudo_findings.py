"""Findings that nobody has named: public X-rays divided along random directions, so that their labels are known.

Nobody knows beforehand in which coordinates a finding shows. Suppose that it lies along a random direction of what the
encoder sees, more likely where chests differ more as far as the coordinates' scale says that: then public X-rays
without labels are as many pseudo-findings as one likes, on which a release can be tried. Coordinates of a teacher have
such a scale; of whitened ones all directions are as likely, which says nothing of where to look.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ldp_client.privacy.labels import simplex
from server.learning.student import assigned


def pseudo_findings(
    public: NDArray[np.float64], classes: int, count: int, generator: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Labels (N,) of each pseudo-finding: X-rays projected on K-1 random directions belong to the nearest vertex of a
    simplex, which is moved so that each label has its share; of two labels, to one or the other end of one direction.

    A teacher's coordinates have standard deviations that are the fourth roots of the variances v_j of what it saw, so
    that z_j / sd_j * sqrt(v_j) is z_j * sd_j; whitened ones have sd_j = 1. Shares are uniform among those of at least
    1 / (2 K); of two labels, between a quarter and three quarters. A division that leaves a label without X-rays is
    left out: of X-rays that are all alike there is none.

    Args:
        public: coordinates (N, D) of public X-rays.
    """
    seen, codes = public * public.std(0), simplex(classes)
    for _ in range(count):
        projected = seen @ generator.normal(size=(seen.shape[1], classes - 1))
        cuts = np.sort(generator.random(classes - 1))
        shares = (1 / classes + np.diff(cuts, prepend=0.0, append=1.0)) / 2
        labels = assigned(projected @ codes.T, shares)
        if len(np.unique(labels)) == classes:
            yield labels
