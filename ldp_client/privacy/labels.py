"""Label codes: how a label and an X-ray become one vector, so that one epsilon covers both."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError

LabelCode = Literal["simplex", "one_hot"]


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


def label_codes(code: LabelCode, classes: int) -> NDArray[np.float64]:
    """a_0 .. a_(K-1), one row for each label, each of Euclidean norm 1: simplex vertices or unit vectors.

    Shape (K, K-1) for `simplex`, (K, K) for `one_hot`.
    """
    return simplex(classes) if code == "simplex" else np.eye(classes)


def code_dimension(code: LabelCode, classes: int) -> int:
    """Coordinates of a label's code: K-1 for `simplex`, K for `one_hot`."""
    return classes - 1 if code == "simplex" else classes


def joint_vector(
    features: NDArray[np.floating], labels: NDArray[np.integer], classes: int, code: LabelCode = "simplex"
) -> NDArray[np.float64]:
    """a_y (x) f for each X-ray: (N, k) features and (N,) labels to (N, q k), q coordinates a code.

    Non-finite features pass through; `clipping.to_grid` replaces them.

    Raises:
        ParameterError: shapes that do not belong together, or a label outside 0 .. K-1.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ParameterError(
            f"encoder outputs (N, k) and labels (N,) must match; found shapes {features.shape} and {labels.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        # As an index, truth values would choose rows, and one X-ray's label would decide another's code.
        raise ParameterError(f"labels are whole numbers; found {labels.dtype}")
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ParameterError(f"labels must lie in 0..{classes - 1}")
    codes = label_codes(code, classes)[labels]  # (N, q)
    # Infinity times zero is NaN, which the grid turns into 0: not an event worth a warning.
    with np.errstate(all="ignore"):
        product = codes[:, :, None] * features.astype(np.float64)[:, None, :]  # (N, q, k)
    joint: NDArray[np.float64] = product.reshape(len(features), codes.shape[1] * features.shape[1])
    return joint


def with_constant(outputs: NDArray[np.floating], constant: float) -> NDArray[np.float64]:
    """(constant, z): (N, k) to (N, k + 1). `clipping.clip_beside` keeps the constant, so its mean tells the shares."""
    finite = _finite(outputs)
    return np.concatenate([np.full((len(finite), 1), constant), finite], axis=1)


def unit_features(outputs: NDArray[np.floating], constant: float | None) -> NDArray[np.float64]:
    """z / |z|, or (c, sqrt(1 - c^2) z / |z|) with a constant: (N, k) to (N, k) or (N, k + 1), rows of norm 1.

    A zero vector points nowhere and becomes the first unit vector, so that a constant beside it keeps its share.
    """
    finite = _finite(outputs)
    # Whatever the caller has NumPy say of an underflow, it would say it of some X-rays and not of others.
    with np.errstate(all="ignore"):
        # Over the largest first: squares of tiny numbers would vanish.
        largest = np.max(np.abs(finite), axis=1, keepdims=True, initial=0.0)
        finite = finite / np.where(largest > 0, largest, 1.0)
        finite[largest[:, 0] == 0, :1] = 1.0
        unit: NDArray[np.float64] = finite / np.sqrt(np.sum(finite * finite, axis=1, keepdims=True))
        return unit if constant is None else with_constant(np.sqrt(1 - constant**2) * unit, constant)


def _finite(outputs: NDArray[np.floating]) -> NDArray[np.float64]:
    """NaN and infinities to 0 and magnitudes to 2^64 at most, so that norms and squares stay finite."""
    # A warning would be written for some X-rays and not for others.
    with np.errstate(all="ignore"):
        values = np.nan_to_num(np.asarray(outputs, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        return np.clip(values, -(2.0**64), 2.0**64)
