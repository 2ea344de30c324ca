"""The best X-ray that the centre can draw from one record: what a release gives away, made visible.

The centre knows the public images and what the encoder makes of them. With every pair (public image x, label l) equally
likely before the record y arrives, Bayes gives

    p(x, l | y)  proportional to  exp(-||y - c(x, l)||_1 / scale),      c(x, l) = clip(to_grid(s_l (x) z(x)))

since y = c + discrete Laplace noise. The posterior mean sum p(x | y) x has the smallest expected squared error of all
reconstructions, for someone whose prior is the public images. Someone who knows more (who holds the X-ray itself among
a few candidates, say) can do better than this picture, but never better than the ceilings of `privacy.meaning`, which
hold against every prior; the largest posteriors are returned beside them.

All of this is post-processing of a released record: it costs no epsilon.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.clipping import clip, to_grid
from ldp_client.privacy.labels import joint_vector
from ldp_client.privacy.meaning import best_identification
from ldp_client.privacy.release_spec import JointLaplaceSpec

_CELLS = 1 << 21
"""Distances held at once, records times pairs: 16 MiB of float64."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What the centre believes after each of N records, given M public images and K labels.

    `likeliest_image` and `likeliest_pair` are the largest posterior probabilities of one image (its labels added up)
    and of one pair; no record can take them above e^eps / (e^eps + M - 1) and e^eps / (e^eps + M K - 1).
    """

    images: NDArray[np.float32]
    """Posterior mean (N, H, W), in the public images' grey levels."""
    labels: NDArray[np.float64]
    """Posterior probability of each label (N, K)."""
    likeliest_image: NDArray[np.float64]
    likeliest_pair: NDArray[np.float64]
    image_ceiling: float
    pair_ceiling: float


def reconstruct(
    released: NDArray[np.int64],
    spec: JointLaplaceSpec,
    public_images: NDArray[np.uint8],
    public_outputs: NDArray[np.floating],
) -> Reconstruction:
    """Bayes' answer to "which X-ray, which label?" for each record, with a uniform prior over public pairs.

    Args:
        released: records (N, (K-1) k), in grid steps, as `wire.record.unpack` returns them.
        spec: the mechanism that released them.
        public_images: (M, H, W).
        public_outputs: (M, k), the encoder's output for each public image, in the same order.

    Raises:
        ParameterError: shapes that do not belong together, or no public image.
    """
    count, classes = len(public_images), spec.classes
    if released.ndim != 2 or released.shape[1] != spec.laplace.dimension:
        raise ParameterError(
            f"records of this release are rows of {spec.laplace.dimension} integers; found shape {released.shape}"
        )
    if public_images.ndim != 3 or count < 1 or public_outputs.shape != (count, spec.bottleneck_dimension):
        raise ParameterError(
            f"public images (M, H, W) and their encoder outputs (M, {spec.bottleneck_dimension}) must match, M >= 1; "
            f"found shapes {public_images.shape} and {public_outputs.shape}"
        )
    candidates = _candidates(spec, public_outputs)  # (M K, d), image by image
    # What lies outside [-R, R] is equally much farther from every candidate: cutting it off leaves the posterior as it
    # is and keeps the distances exact.
    radius = spec.laplace.clip.largest_steps
    near = np.clip(released, -radius, radius).astype(np.float64)
    pixels = public_images.reshape(count, -1).astype(np.float32)

    mean = np.empty((len(released), pixels.shape[1]), dtype=np.float32)
    labels = np.empty((len(released), classes))
    image, pair = np.empty(len(released)), np.empty(len(released))
    rows = max(1, _CELLS // len(candidates))
    for start in range(0, len(released), rows):
        part = slice(start, start + rows)
        posterior = _posterior(near[part], candidates, float(spec.laplace.scale))  # (n, M K)
        joint = posterior.reshape(-1, count, classes)
        by_image = joint.sum(axis=2)  # (n, M)
        mean[part] = by_image.astype(np.float32) @ pixels
        labels[part] = joint.sum(axis=1)
        image[part], pair[part] = by_image.max(axis=1), posterior.max(axis=1)
    return Reconstruction(
        images=mean.reshape(-1, *public_images.shape[1:]),
        labels=labels,
        likeliest_image=image,
        likeliest_pair=pair,
        image_ceiling=best_identification(spec.loss, count),
        pair_ceiling=best_identification(spec.loss, count * classes),
    )


def _candidates(spec: JointLaplaceSpec, outputs: NDArray[np.floating]) -> NDArray[np.float64]:
    """What each pair would be before noise, in steps: row i K + l is image i with label l."""
    labels = np.tile(np.arange(spec.classes), len(outputs))
    vectors = joint_vector(np.repeat(outputs, spec.classes, axis=0), labels, spec.classes)
    return clip(to_grid(vectors, spec.laplace.grid), spec.laplace.clip).steps.astype(np.float64)


def _posterior(records: NDArray[np.float64], candidates: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """exp(-distance / scale), normalised over candidates: (n, d) and (P, d) to (n, P)."""
    distance = np.zeros((len(records), len(candidates)))
    # One coordinate at a time: an (n, P, d) array would not fit where d is large.
    for axis in range(records.shape[1]):
        distance += np.abs(records[:, axis, None] - candidates[None, :, axis])
    # Seen from the nearest candidate no exponent is positive and one is 0: nothing overflows, no sum vanishes.
    weights = np.exp((distance.min(axis=1, keepdims=True) - distance) / scale)
    posterior: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return posterior
