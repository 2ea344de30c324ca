"""What a radiograph says without a flow: local statistics of its pixels, the control of everything that GLOW adds.

For each cell of a grid: mean, standard deviation, energy of the horizontal and of the vertical gradient, and energy of
the Laplacian, the four energies on a log scale. Averaged with the mirrored image, as the log-scale map is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError

GRID = 4
"""Cells along a side, those of the log-scale map."""
Floats = NDArray[np.float64]


def local_statistics(images: NDArray[np.uint8], grid: int = GRID) -> Floats:
    """Images (N, H, W) uint8 to (N, 5 grid^2): statistics one after the other, each over the cells of the grid.

    Raises:
        ParameterError: images of another shape, or with a side that the grid does not divide.
    """
    if images.ndim != 3 or images.shape[1] % grid or images.shape[2] % grid:
        raise ParameterError(f"local statistics take (N, H, W) with sides divisible by {grid}; found {images.shape}")
    return (_statistics(images, grid) + _statistics(images[:, :, ::-1], grid)) / 2


def _statistics(images: NDArray[np.uint8], grid: int) -> Floats:
    x = images.astype(np.float64) / 255
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    along = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    curved = padded[:, 1:-1, 2:] + padded[:, 1:-1, :-2] + padded[:, 2:, 1:-1] + padded[:, :-2, 1:-1] - 4 * x
    mean = _cells(x, grid)
    spread = _cells(x**2, grid) - mean**2
    # A millionth: a flat cell (a collimator's edge) has no energy at all.
    energies = [
        np.log(np.maximum(part, 0) + 1e-6) for part in (spread, *(_cells(g**2, grid) for g in (across, along, curved)))
    ]
    return np.concatenate([mean, *energies], axis=1)


def _cells(values: Floats, grid: int) -> Floats:
    count, height, width = values.shape
    means: Floats = values.reshape(count, grid, height // grid, grid, width // grid).mean(axis=(2, 4))
    return means.reshape(count, -1)
