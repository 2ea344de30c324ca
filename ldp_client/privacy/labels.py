"""Label codes: how a label and an X-ray become one vector, so that one epsilon covers both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError


def simplex(classes: int) -> NDArray[np.float64]:
    """The K vertices of the regular simplex in R^(K-1), centred on 0, each of Euclidean norm 1. Shape (K, K-1).

    For K = 2 they are -1 (label 0) and +1 (label 1). Built by recursion: vertex j has its first j coordinates in common
    with all later ones.
    """
    if classes < 2:
        raise ParameterError(f"a label code needs at least 2 classes; found {classes}")
    if classes == 2:
        return np.array([[-1.0], [1.0]])
    vertices = np.zeros((classes, classes - 1))
    for axis in range(classes - 1):
        vertices[axis, axis] = np.sqrt(1.0 - np.sum(vertices[axis, :axis] ** 2))
        shared = (-1.0 / (classes - 1) - vertices[axis, :axis] @ vertices[axis + 1, :axis]) / vertices[axis, axis]
        vertices[axis + 1 :, axis] = shared
    return vertices


def joint_vector(outputs: NDArray[np.floating], labels: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """s_y (x) z for each X-ray: (N, k) outputs and (N,) labels to (N, (K-1) k).

    Non-finite outputs pass through; `clipping.to_grid` replaces them.

    Raises:
        ParameterError: shapes that do not belong together, or a label outside 0 .. K-1.
    """
    if outputs.ndim != 2 or labels.shape != outputs.shape[:1]:
        raise ParameterError(
            f"encoder outputs (N, k) and labels (N,) must match; found shapes {outputs.shape} and {labels.shape}"
        )
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ParameterError(f"labels must lie in 0..{classes - 1}")
    codes = simplex(classes)[labels]  # (N, K-1)
    # Infinity times zero is NaN, which the grid turns into 0: not an event worth a warning.
    with np.errstate(all="ignore"):
        product = codes[:, :, None] * outputs.astype(np.float64)[:, None, :]  # (N, K-1, k)
    joint: NDArray[np.float64] = product.reshape(len(outputs), codes.shape[1] * outputs.shape[1])
    return joint
