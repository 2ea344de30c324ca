"""The public, frozen map from the flow's log-scale map to the few numbers that are released."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError

WHITENED_PCA = "whitened-pca-of-log-scale-map"
SELF_SUPERVISED = "self-supervised-projection-of-log-scale-map"
ONE_LEVEL = "whitened-pca-of-one-level-of-log-scale-map"
KINDS = (WHITENED_PCA, SELF_SUPERVISED, ONE_LEVEL)
"""How a bottleneck was fitted; all are linear maps of the log-scale map, and made without labels."""


@dataclass(frozen=True, eq=False)
class Bottleneck:
    """u = projection (m - mean), m an X-ray's log-scale map.

    Coordinates come in order of what they are thought to tell, so that a campaign may release the first few; of
    SELF_SUPERVISED each has at most variance 1 over the public X-rays, of the other kinds just that. Fitted without
    labels.
    `mean` is (D,) and `projection` (k, D), both float64.
    """

    mean: NDArray[np.float64]
    projection: NDArray[np.float64]

    @property
    def dimension(self) -> int:
        """k, the number of coordinates."""
        return int(self.projection.shape[0])

    def __call__(self, maps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project log-scale maps (B, D) to (B, k). Values that are not finite pass through."""
        # A sum along the last axis, not a matrix product: BLAS may add in another order for another batch size.
        with np.errstate(invalid="ignore", over="ignore"):
            projected: NDArray[np.float64] = ((maps - self.mean)[:, None, :] * self.projection).sum(2)
        return projected


def fit_whitened_pca(maps: NDArray[np.float64], dimension: int) -> Bottleneck:
    """Fit on public log-scale maps (N, D): eigenvectors of the covariance, largest first, over sqrt(eigenvalue).

    Sign: the weight of largest magnitude in each eigenvector is positive (the first one on a tie).
    Raises ParameterError when the maps do not span `dimension` directions.
    """
    count, width = maps.shape
    if not 1 <= dimension <= min(count - 1, width):
        raise ParameterError(
            f"asked for {dimension} principal coordinates of {count} maps of {width} numbers; "
            f"give 1 to {max(1, min(count - 1, width))}, or more public X-rays"
        )
    mean = maps.mean(0)
    values, vectors = np.linalg.eigh(np.cov(maps, rowvar=False, bias=True).reshape(width, width))
    values, vectors = values[::-1][:dimension], vectors.T[::-1][:dimension]  # (k,), (k, D)
    if values[-1] <= 1e-12 * values[0]:
        raise ParameterError(
            f"asked for {dimension} principal coordinates, but the maps vary in fewer; give more X-rays"
        )
    largest = np.abs(vectors).argmax(1)
    signs = np.sign(vectors[np.arange(dimension), largest])
    # One memory layout, or a sum over a bundle that was read back would add in another order.
    return Bottleneck(mean, np.ascontiguousarray(vectors * (signs / np.sqrt(values))[:, None]))


def fit_level(maps: NDArray[np.float64], levels: int, level: int, dimension: int) -> Bottleneck:
    """Fit on one level of public log-scale maps (N, D): whitened principal components of its standardised numbers.

        u = E^(-1/2) V^T S^-1 (m - mean m)   over the D / levels numbers of that level; all others have weight 0

    S has their standard deviations on its diagonal, V and E are the first eigenvectors and eigenvalues of their
    correlations, with the signs of `fit_whitened_pca`. Level 1 is the finest, as in the flow.

    Raises:
        ParameterError: there is no such level, or its part of the maps does not span `dimension` directions.
    """
    if not 1 <= level <= levels:
        raise ParameterError(f"asked for level {level} of a flow that has {levels}; give 1, the finest, to {levels}")
    width = maps.shape[1] // levels
    part = slice((level - 1) * width, level * width)
    mean, spread = maps.mean(0), maps[:, part].std(0)
    # A number that never changes tells nothing: weight 0, not a division by 0.
    varies = spread > 1e-9 * spread.max()
    scale = np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0)
    inner = fit_whitened_pca((maps[:, part] - mean[part]) * scale, dimension)
    projection = np.zeros((dimension, maps.shape[1]))
    projection[:, part] = inner.projection * scale
    return Bottleneck(mean, projection)
