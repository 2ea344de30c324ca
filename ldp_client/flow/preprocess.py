"""From stored pixels to the tensor the flow takes. Pretraining and every hospital run this same code.

The arithmetic is exact: pixels become integers of 16 bits, area averages are quotients of integers below 2^53, and the
result is rounded once to 8 bits. So the same file gives the same tensor on every machine.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldp_client.errors import ParameterError

_FULL = 65535
_MAX_SIDE = 2**17  # so that 65535 * side^2 < 2^53, the integers a float64 holds exactly


def prepare(
    pixels: NDArray[np.uint8 | np.uint16],
    *,
    inverted: bool,
    window: tuple[float, float] | None,
    bits: int,
    content: int,
    size: int,
) -> Tensor:
    """Turn one greyscale image into the flow's input.

    Window or full range, photometric inversion, centre crop to a square, area resize to `content` px, 8 bits, black
    padding to `size` px. A 28 px uint8 image with `content=28` comes through pixel-exact.

    Args:
        pixels: stored values (H, W), uint8 or uint16.
        inverted: True for MONOCHROME1, where large values are dark.
        window: DICOM window centre and width in stored values (PS3.3 C.11.2.1.2, LINEAR), or None for the full range
            of `bits`.
        bits: bits stored, 1 to 16; larger values saturate.
        content: side in pixels of the resized image.
        size: side in pixels of the result; the image stands in its centre.

    Returns:
        (1, size, size) float32, each value (x + 0.5) / 256 for an 8-bit x: the centre of its bin.

    Raises:
        ParameterError: pixels that are not a non-empty (H, W) of uint8 or uint16, or impossible sizes, bits or window.
    """
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16) or not 0 < min(pixels.shape) < _MAX_SIDE:
        raise ParameterError(
            f"asked to prepare pixels of shape {pixels.shape} and type {pixels.dtype}; "
            "give one greyscale image (H, W) of uint8 or uint16"
        )
    if not 0 < content <= size:
        raise ParameterError(f"asked for {content} px inside {size} px; the content must fit and not be empty")
    grey = _to_sixteen_bits(_square(pixels), inverted, window, bits)
    small = _resize(grey, content)
    before = (size - content) // 2
    after = size - content - before
    # Black, like a collimator's edge: constant, so it need not cost the flow bits; mirrored pixels would count twice.
    padded = np.pad(small, (before, after))
    return torch.from_numpy((padded.astype(np.float32) + np.float32(0.5)) / np.float32(256))[None]


def _to_sixteen_bits(
    pixels: NDArray[np.uint8 | np.uint16], inverted: bool, window: tuple[float, float] | None, bits: int
) -> NDArray[np.float64]:
    """Grey values 0 (black) to 65535 (white), whole numbers."""
    stored = pixels.astype(np.float64)
    if not 1 <= bits <= 8 * pixels.dtype.itemsize:
        raise ParameterError(f"asked for {bits} bits stored in {pixels.dtype} pixels; give 1 to {8 * pixels.itemsize}")
    if window is None:
        low, high = 0.0, 2.0**bits - 1
    else:
        centre, width = window
        low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ParameterError("asked for a window that is not finite or spans nothing; leave it out (None)")
    grey = np.floor(np.clip((stored - low) / (high - low), 0, 1) * _FULL + 0.5)
    return _FULL - grey if inverted else grey


def _square(pixels: NDArray[np.uint8 | np.uint16]) -> NDArray[np.uint8 | np.uint16]:
    height, width = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _resize(grey: NDArray[np.float64], content: int) -> NDArray[np.int64]:
    """Area average to (content, content), rounded half up to 8 bits.

    Weight of source pixel j in result pixel i: the length of [i, i+1] * side and [j, j+1] * content in common, a whole
    number; the weights of each i sum to `side`. All sums are whole and below 2^53, so the order in which a matrix
    product adds them does not matter.
    """
    side = grey.shape[0]
    edges_out = np.arange(content + 1) * side
    edges_in = np.arange(side + 1) * content
    overlap = np.minimum(edges_out[1:, None], edges_in[None, 1:]) - np.maximum(
        edges_out[:-1, None], edges_in[None, :-1]
    )
    weights = np.maximum(overlap, 0).astype(np.float64)  # (content, side)
    total = (weights @ grey @ weights.T).astype(np.int64)
    whole = side * side * _FULL
    rounded: NDArray[np.int64] = (2 * 255 * total + whole) // (2 * whole)
    return rounded
