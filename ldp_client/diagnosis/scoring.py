"""From scores to the rows and bins of an evaluation's histogram: one row for each label and each other label.

For labels a and b the score difference is d = s_max(a,b) - s_min(a,b), whichever of the two the X-ray has; how well d
separates the X-rays of row (a, b) from those of row (b, a) is the AUC of that pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

# Hospitals' scores lie further out than those of public X-rays: findings are what they are full of.
WIDER = 1.5
DEFAULT_BINS = 20


def pair_rows(classes: int) -> list[tuple[int, int]]:
    """(label, other label) of each row of the histogram, in order: K (K-1) of them."""
    return [(label, other) for label in range(classes) for other in range(classes) if other != label]


def binned(
    scores: NDArray[np.float64], labels: NDArray[np.int64], edges: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows and the bins in which each X-ray counts, each of shape (N, K-1).

    Args:
        scores: (N, K), one column for each label.
        labels: (N,), 0..K-1.
        edges: the B-1 borders between bins, ascending; a difference on a border belongs to the upper bin.

    A difference that is no number falls into the last bin: it never raises, since an error would tell about the X-ray.
    """
    count, classes = scores.shape
    rows = {pair: index for index, pair in enumerate(pair_rows(classes))}
    borders = np.array([float(Fraction(edge)) for edge in edges])
    row_of = np.empty((count, classes - 1), dtype=np.int64)
    bin_of = np.empty((count, classes - 1), dtype=np.int64)
    for index, label in enumerate(labels.tolist()):
        others = [other for other in range(classes) if other != label]
        for place, other in enumerate(others):
            row_of[index, place] = rows[label, other]
            high, low = max(label, other), min(label, other)
            bin_of[index, place] = np.searchsorted(borders, scores[index, high] - scores[index, low], side="right")
    return row_of, bin_of


def default_edges(spread: float, bins: int = DEFAULT_BINS) -> tuple[str, ...]:
    """Borders between bins that a normal distribution `WIDER` times the spread fills equally; each a decimal text."""
    normal = NormalDist(0.0, WIDER * spread)
    return tuple(decimal_edge(normal.inv_cdf(index / bins)) for index in range(1, bins))


def decimal_edge(value: float) -> str:
    """A border as a document writes it: nine decimals, no float. What rounds to nothing is plain 0."""
    text = f"{value:.9f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
