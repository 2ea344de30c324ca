"""Painters: pictures from a public encoder, for releases whose record is an image.

`NearestSample` draws samples of the flow once, from the operating system's randomness, and notes each one's own
bottleneck. A picture is the sample whose bottleneck points most nearly where an estimate does; how long either is plays
no part. `PosteriorMean` decodes all latents after shrinking their noise away.

Neither can be handed an X-ray, so no picture shows a patient: `NearestSample` picks among pictures that were made
before any X-ray was read, and `PosteriorMean` sees latents only after they were noised.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldp_client.errors import ParameterError
from ldp_client.flow.encoder import BATCH, Encoder
from ldp_client.flow.shrinkage import shrink
from ldp_client.privacy.image_spec import ImageSpec
from ldp_client.privacy.images import Painter
from ldp_client.privacy.noise import ByteSource
from ldp_client.privacy.release_spec import DpGlowSpec
from ldp_client.privacy.spec import DiscreteLaplaceSpec

_ROWS = 1024  # estimates compared with all candidates at once


class NearestSample:
    """Pictures are samples of the flow at temperature 1, each picked by its own bottleneck.

    Args:
        spec: the release, which says how many samples are drawn.
        encoder: the public encoder.
        source: fresh random bytes. The samples depend on nothing else, so they may be shown to anybody.
    """

    def __init__(self, spec: ImageSpec, encoder: Encoder, source: ByteSource) -> None:
        self.spec = spec
        sizes = [min(BATCH, spec.candidates - start) for start in range(0, spec.candidates, BATCH)]
        drawn = [encoder.decode(_normal_latents(encoder, size, source)) for size in sizes]
        self.pixels = np.concatenate([_grey(encoder, images) for images in drawn])  # (M, side, side)
        outputs = encoder.encode(torch.stack([encoder.prepare(image) for image in self.pixels]))
        self.directions = _unit(outputs[:, : spec.input_dimension])  # (M, k), of the coordinates that are noised

    def of(self, spec: ImageSpec) -> NearestSample:
        """A painter of another release with the same samples, which are as public for it as for this one.

        Raises:
            ParameterError: it asks for other samples, or reads other coordinates.
        """
        if (spec.side, spec.candidates, spec.input_dimension) != (
            self.spec.side,
            self.spec.candidates,
            self.spec.input_dimension,
        ):
            raise ParameterError(
                f"these are {self.spec.candidates} samples of {self.spec.side} pixels a side by "
                f"{self.spec.input_dimension} coordinates; the release asks for {spec.candidates} of {spec.side} by "
                f"{spec.input_dimension}"
            )
        other = copy.copy(self)
        other.spec = spec
        return other

    def paint(self, estimates: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The nearest sample of each (N, k) estimate, by the angle between them. Shape (N, side, side)."""
        wanted = _unit(estimates)
        # A chunk of rows at a time: all angles of a large release would not fit the memory.
        chosen = [np.empty(0, dtype=np.int64)]
        for start in range(0, len(wanted), _ROWS):
            chosen.append(np.argmax(wanted[start : start + _ROWS] @ self.directions.T, axis=1))
        return self.pixels[np.concatenate(chosen)]


class PosteriorMean:
    """Pictures of all latents: the posterior mean of each noised latent, decoded by the flow."""

    def __init__(self, spec: ImageSpec, laplace: DiscreteLaplaceSpec, encoder: Encoder) -> None:
        self.spec = spec
        self._laplace, self._encoder = laplace, encoder

    def paint(self, estimates: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Noised latents (N, size^2), the finest level first, to pictures (N, side, side)."""
        shapes = self._encoder.card.shape.latent_shapes()
        parts = [np.empty((0, self.spec.side, self.spec.side), dtype=np.uint8)]
        for start in range(0, len(estimates), BATCH):
            latents = shrink(torch.from_numpy(estimates[start : start + BATCH]), self._laplace).float()
            levels = torch.split(latents, [math.prod(shape) for shape in shapes], dim=1)
            by_level = [level.reshape(-1, *shape) for level, shape in zip(levels, shapes, strict=True)]
            parts.append(_grey(self._encoder, self._encoder.decode(by_level)))
        return np.concatenate(parts)


def painter_of(spec: ImageSpec, encoder: Encoder, source: ByteSource) -> Painter:
    """The painter that a release asks for."""
    if isinstance(spec.noised, DpGlowSpec):
        return PosteriorMean(spec, spec.noised.laplace, encoder)
    return NearestSample(spec, encoder, source)


def _normal_latents(encoder: Encoder, count: int, source: ByteSource) -> list[Tensor]:
    """Standard normal latents of `count` samples, by level, by the inverse distribution function of 53-bit numbers."""
    levels = []
    for shape in encoder.card.shape.latent_shapes():
        words = np.frombuffer(source(8 * count * math.prod(shape)), dtype="<u8") >> np.uint64(11)
        # The middle of each of 2^53 intervals: never 0 or 1.
        uniform = (torch.from_numpy(words.astype(np.float64)) + 0.5) / 2**53
        levels.append(torch.special.ndtri(uniform).float().reshape(count, *shape))
    return levels


def _grey(encoder: Encoder, images: Tensor) -> NDArray[np.uint8]:
    """Decoded images (B, 1, size, size) to grey levels of their content (B, content, content)."""
    before = (encoder.size - encoder.content) // 2
    inside = slice(before, before + encoder.content)
    content = images[:, 0, inside, inside].nan_to_num(nan=0.5, posinf=1.0, neginf=0.0)
    grey: NDArray[np.uint8] = (content * 256).clamp(0, 255).byte().numpy()
    return grey


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)
