"""What a teacher knows, as a linear map of the flow's output: fitted on public X-rays, without labels.

The teacher's features have principal coordinates t_1, t_2, ... on public X-rays. Each is predicted from the flow's
log-scale map m by ridge regression, and the prediction, not the feature, is what hospitals release:

    u_j = (l_j / l_1)^(1/4) (w_j . (m - mean m)) / sd_j,

l_j the variance of t_j, sd_j the standard deviation of w_j . m over public X-rays. Coordinates come in order of what
the teacher thinks they tell, and the factor keeps later ones smaller: a release has length 1, and what a later
coordinate takes of it is lost to the first. A campaign takes the first k.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.flow.bottleneck import Bottleneck

PENALTIES = np.geomspace(1.0, 1e5, 26)
"""Ridge penalties that are tried, in units of one standardised public X-ray."""


def distil(maps: NDArray[np.float64], features: NDArray[np.float64], dimension: int) -> Bottleneck:
    """Fit the coordinates above on public X-rays.

    The penalty is the one of PENALTIES with the least generalised cross-validation error over all coordinates (Golub,
    Heath, Wahba, Technometrics 21, 1979).

    Args:
        maps: log-scale maps (N, D).
        features: the teacher's, of the same X-rays in the same order (N, F).
        dimension: how many coordinates, at most F and less than N.

    Raises:
        ParameterError: more coordinates than the features span, or another number of X-rays.
    """
    count, width = features.shape
    if len(maps) != count or not 1 <= dimension <= min(width, count - 1):
        raise ParameterError(
            f"asked for {dimension} coordinates of {width} features of {count} X-rays with {len(maps)} maps; "
            f"give both for the same X-rays, and 1 to {max(1, min(width, count - 1))} coordinates"
        )
    variances, targets = _principal(features, dimension)
    mean, spread = maps.mean(0), maps.std(0)
    # A map cell that never changes tells nothing: weight 0, not a division by 0.
    scale = np.where(spread > 1e-9 * spread.max(), 1 / np.where(spread > 0, spread, 1.0), 0.0)
    weights = _ridge((maps - mean) * scale, targets)  # (D, k)
    predicted = ((maps - mean) * scale) @ weights
    factors = (variances / variances[0]) ** 0.25 / predicted.std(0)
    projection = (weights * factors).T * scale  # (k, D)
    largest = np.abs(projection).argmax(1)
    signs = np.sign(projection[np.arange(dimension), largest])
    return Bottleneck(mean, np.ascontiguousarray(projection * signs[:, None]))


def _principal(features: NDArray[np.float64], dimension: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variances (k,), largest first, and principal coordinates (N, k) of mean 0 and variance 1."""
    centred = features - features.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    values, vectors = values[::-1][:dimension], vectors[:, ::-1][:, :dimension]
    if values[-1] <= 1e-12 * values[0]:
        raise ParameterError(
            f"asked for {dimension} coordinates, but the teacher's features vary in fewer; train it longer, or ask for "
            "fewer"
        )
    return values, (centred @ vectors) / np.sqrt(values)


def _ridge(inputs: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """(D, k) weights of the penalty that generalised cross-validation likes best."""
    left, singular, right = np.linalg.svd(inputs, full_matrices=False)
    rotated, total, count = left.T @ targets, float((targets**2).sum()), len(inputs)

    def error(penalty: float) -> float:
        kept = singular**2 / (singular**2 + penalty)
        residual = total - float(((2 * kept - kept**2)[:, None] * rotated**2).sum())
        return residual / (count - float(kept.sum())) ** 2

    best = min(PENALTIES, key=error)
    weights: NDArray[np.float64] = right.T @ ((singular / (singular**2 + best))[:, None] * rotated)
    return weights
