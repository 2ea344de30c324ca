"""Which images of a data set are public: decided by their pixels, because copies of it differ in order."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError


def public_indices(images: NDArray[np.uint8], count: int = 2000) -> NDArray[np.int64]:
    """Return the indices of the public images: the first `count` by SHA-256 of the pixels (C order, uint8).

    Equal images keep their order and are never divided: when the last public image has copies, they are public too,
    so the result may be a little longer than `count`. The hospitals' images are all others.

    Args:
        images: (N, H, W) uint8.
        count: how many images are public, 1 to N.

    Raises:
        ParameterError: images of another shape or type, or an impossible count.
    """
    if images.ndim != 3 or images.dtype != np.uint8 or not 1 <= count <= len(images):
        raise ParameterError(
            f"asked for {count} public images of an array {images.shape} {images.dtype}; "
            "give (N, H, W) of uint8 and a count of 1 to N"
        )
    digests = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest() for image in images]
    order = sorted(range(len(digests)), key=digests.__getitem__)
    last = digests[order[count - 1]]
    public = order[:count] + [index for index in order[count:] if digests[index] == last]
    return np.array(public, dtype=np.int64)
