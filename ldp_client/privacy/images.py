"""Pictures and labels made of what a mechanism drew: post-processing, and no way to make them of anything else.

`make_images` takes noised values, fresh random bytes and a `Painter`, which knows the public encoder alone. No X-ray,
no label and nothing else that is private can be handed to it, so a picture says at most what was drawn says
(docs/privacy.md, section 2). What comes out is the only form in which pictures can be packed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy import codebook, laplace
from ldp_client.privacy.codebook import NoisedIndices
from ldp_client.privacy.drawing import Drawn, NoisedPair
from ldp_client.privacy.image_spec import ImageSpec
from ldp_client.privacy.labels import simplex
from ldp_client.privacy.laplace import Noised
from ldp_client.privacy.noise import ByteSource, uniform_below
from ldp_client.privacy.proof import MADE, Made
from ldp_client.privacy.release_spec import DpGlowSpec, JointCodebookSpec, JointLaplaceSpec, LatentSpec


class Painter(Protocol):
    """Makes the pictures of one release from the public encoder; built before anything private is read."""

    @property
    def spec(self) -> ImageSpec:
        """The release whose pictures it makes."""
        ...

    def paint(self, estimates: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Estimates of encoder outputs (N, d) to pictures (N, side, side)."""
        ...


@dataclass(frozen=True, eq=False)
class NoisedImages(Made):
    """Pictures (N, side, side) and their labels (N,), made of what a mechanism drew."""

    what: ClassVar[str] = "pictures are made of what a mechanism drew; no other can be packed into a record"
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    spec: ImageSpec


def make_images(painter: Painter, drawn: Drawn, source: ByteSource) -> NoisedImages:
    """One picture and one label for each row that a mechanism drew.

    Raises:
        ParameterError: what was drawn is not of the release's mechanism, or the painter paints another size.
    """
    spec = painter.spec
    estimates, labels = _estimates(spec, drawn, source)
    pixels = painter.paint(estimates)
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), spec.side, spec.side):
        raise ParameterError(
            f"the release takes pictures of {spec.side} x {spec.side} uint8; the painter made {pixels.shape[1:]} "
            f"{pixels.dtype}"
        )
    return NoisedImages(pixels, labels, spec, proof=MADE)


def _estimates(spec: ImageSpec, drawn: Drawn, source: ByteSource) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What the picture of each row is to look like in the encoder's eyes (N, d), and its label (N,)."""
    noised = spec.noised
    if isinstance(noised, LatentSpec | DpGlowSpec) and isinstance(drawn, NoisedPair):
        if (drawn.vectors.spec, drawn.labels.spec) == (noised.laplace, noised.label):
            return laplace.decode(drawn.vectors.steps, noised.laplace), drawn.labels.values
    elif isinstance(noised, JointLaplaceSpec) and isinstance(drawn, Noised):
        if drawn.spec == noised.laplace:
            return _for_a_drawn_label(laplace.decode(drawn.steps, drawn.spec), noised.classes, source)
    elif isinstance(noised, JointCodebookSpec) and isinstance(drawn, NoisedIndices) and drawn.spec == noised.codebook:
        directions = codebook.decode(drawn.spec, drawn.indices.tolist(), drawn.seeds)
        return _for_a_drawn_label(directions, noised.classes, source)
    raise ParameterError(
        f"a picture of this release is made of what its mechanism {noised.kind} drew; found {type(drawn).__name__} of "
        "another"
    )


def _for_a_drawn_label(
    joint: NDArray[np.float64], classes: int, source: ByteSource
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Fair labels l, and s_l . v of each joint estimate v of s_y (x) u: of mean u for l = y, else of -u / (K-1)."""
    labels = uniform_below(np.full(len(joint), classes, dtype=np.int64), source)
    blocks = joint.reshape(len(joint), classes - 1, -1)
    return np.einsum("nq,nqk->nk", simplex(classes)[labels], blocks), labels
